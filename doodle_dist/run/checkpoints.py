"""Which checkpoints a run has, and what they say of themselves. Without torch."""

import contextlib
from math import inf, isfinite
from typing import Any

import orjson
from pydantic import ValidationError

from doodle_dist.config.experiment import Experiment
from doodle_dist.data import locations, storage
from doodle_dist.errors import mismatch
from doodle_dist.run.files import COMMIT, COMMITTED_NAME, EXPERIMENT, META, SNAPSHOT

# Of meta.json, the experiment and the weights' names together. Those without one are of the first.
SNAPSHOT_VERSION = 1


def complete_checkpoints(run: str) -> list[tuple[str, dict[str, Any]]]:
    """(URI, meta) of every complete checkpoint at ``run``, which may be one itself, sorted by URI.

    One that the run's writer deletes meanwhile is none. Raises ValueError for one of a version that this release
    doesn't read.
    """
    if not storage.exists(run):
        return []
    files = {file.uri for file in storage.list_files(run, (".json", ".safetensors"), recursive=True)}
    found = []
    for uri in sorted(files):
        folder, _, name = uri.rpartition("/")
        if name != META or not {f"{folder}/{other}" for other in _needed(folder)} <= files:
            continue
        if (data := storage.read_if_there(uri)) is not None:
            with contextlib.suppress(orjson.JSONDecodeError):  # being written at this moment
                found.append((folder, _checked_meta(uri, orjson.loads(data))))
    return found


def _needed(folder: str) -> tuple[str, ...]:
    """The files that make a folder with a META a checkpoint."""
    committed = COMMITTED_NAME.fullmatch(locations.basename(folder))
    return (EXPERIMENT, SNAPSHOT, COMMIT) if committed else (EXPERIMENT, SNAPSHOT)


_META_KEYS = {"categories": list, "side": int, "channels": int, "metrics": dict}


def _checked_meta(uri: str, meta: object) -> dict[str, Any]:
    version = meta.get("format_version", 1) if isinstance(meta, dict) else None
    if not isinstance(meta, dict) or not isinstance(version, int):
        raise ValueError(f"{uri} is no snapshot's description: it should be an object with a format_version")
    if not 1 <= version <= SNAPSHOT_VERSION:
        raise ValueError(
            f"{uri} has format version {version}; this release reads up to {SNAPSHOT_VERSION}: install a newer one"
        )
    for key, kind in _META_KEYS.items():
        if not isinstance(meta.get(key), kind):
            raise ValueError(f"{uri}: {key} is missing or no {kind.__name__}")
    return meta


def saved_experiment(checkpoints: list[tuple[str, dict[str, Any]]]) -> Experiment | None:
    """The experiment of the last of some checkpoints that is still there; None without one.

    Raises ValueError, in one line, for what is none of this release.
    """
    for where, _ in reversed(checkpoints):
        file = locations.join(where, EXPERIMENT)
        if (data := storage.read_if_there(file)) is not None:
            try:
                return Experiment.model_validate_json(data)
            except ValidationError as error:
                raise ValueError(f"{file} is damaged, or of another release: {mismatch(error)}") from None
    return None


def standing(score: float | None, drawings_seen: float) -> tuple[float, float]:
    """What checkpoints are compared by: their score, and of equal ones the newer is better.

    None, or a score that is not finite, which a checkpoint's JSON has as null, is the worst.
    """
    return (-inf if score is None or not isfinite(score) else score), drawings_seen
