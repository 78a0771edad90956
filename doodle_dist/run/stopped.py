"""Why a run stopped itself: its workers write it, its driver says it, and the next start takes it out."""

import orjson

from doodle_dist.data import locations, storage
from doodle_dist.run.files import STOPPED


def noted_reason(run: str) -> str:
    """Why a run stopped itself; "" where it didn't."""
    where = locations.join(run, STOPPED)
    return orjson.loads(storage.read_bytes(where)).get("reason", "") if storage.exists(where) else ""


def note_reason(run_uri: str, reason: str) -> None:
    """Write down why a run can't go on: its workers are not started again for it, and its driver says so."""
    storage.write_atomic(locations.join(run_uri, STOPPED), orjson.dumps({"reason": reason}))


def forget_reason(run_uri: str) -> None:
    """Let a run that stopped itself try again."""
    where = locations.join(run_uri, STOPPED)
    if storage.exists(where):
        storage.write_atomic(where, b"{}")
