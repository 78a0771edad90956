"""A run's lease: at any time one driver may write a run, wherever it is, and others can say which.

    <run>/lease/000003.json      (the number is the fence)

Each lease is a file of its own with the next number. The highest number holds the run; its driver writes the file
again every few seconds, which is the heartbeat. Who comes upon a lease of a driver that is known to be dead (the
same machine, the process gone), or that was given back, takes the next number at once; otherwise it watches the
file and takes the next number once LEASE_S have passed without a heartbeat. No two clocks are compared. Of two that
come for the same number one gets it: on a disk whoever creates the file, in an object store by `_write_alone`,
which asks nothing of it but listings that show what was written.

The fence is what makes a late writer harmless: it stands in the name of every checkpoint, and it is compared with
the highest number before a checkpoint is committed (Kleppmann, "How to do distributed locking", 2016).
"""

import hashlib
import itertools
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import orjson

from doodle_dist import log
from doodle_dist.data import locations, storage
from doodle_dist.data.storage_errors import StorageError

LEASE_S, BEAT_S = 30.0, 4.0
# For how long another's claim is waited for: longer than a write may take that is tried again and again.
CLAIM_S = 150.0
FOLDER, CLAIM = "lease", ".claim"


class HeldError(ValueError):
    """Another driver holds the run."""


class DamagedLeaseError(ValueError):
    """A lease's file can't be read: cut short, or of another release. ``args``: the message, its URI, its SHA-256."""

    def __str__(self) -> str:
        return str(self.args[0])

    @property
    def fence(self) -> int:
        """The number that the file has for its name; 0 where that is none."""
        number = locations.basename(self.args[1]).removesuffix(".json")
        return int(number) if number.isdecimal() else 0


class LeaseLostError(Exception):
    """Another driver took the run over: nothing more may be written by this one. ``fence``: its number; 0: nobody's."""

    def __init__(self, said: str, fence: int = 0) -> None:
        super().__init__(said)
        self.fence = fence


@dataclass(frozen=True)
class Lease:
    """Who holds a run, as it lies in storage. ``token`` is a lease's own, ``beat`` counts its heartbeats.

    ``machine`` names the running system in which ``pid`` and ``pid_started`` mean something.
    """

    run_uri: str
    fence: int
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    pid_started: str = field(default_factory=lambda: _start_of(os.getpid()))
    machine: str = field(default_factory=lambda: _this_machine())
    since: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    beat: int = 0
    released: bool = False

    @property
    def uri(self) -> str:
        return locations.join(self.run_uri, FOLDER, f"{self.fence:06d}.json")

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


def _start_of(pid: int) -> str:
    """When a process of this machine began (clock ticks after its boot); "" where it is gone or can't be asked."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _this_machine() -> str:
    """The boot and the process namespace that process ids belong to: containers of one machine have their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def is_known_dead(lease: Lease) -> bool:
    """Whether the driver of a lease ran on this machine and is gone."""
    here = _this_machine()
    return bool(here) and lease.machine == here and _start_of(lease.pid) != lease.pid_started


def newest_lease(run_uri: str) -> Lease | None:
    """The lease with the highest number, None where the run never had one.

    Raises StorageError, and DamagedLeaseError.
    """
    folder = locations.join(run_uri, FOLDER)
    while files := storage.list_files(folder, (".json",), missing_ok=True):
        newest, data = files[-1].uri, b""
        try:
            data = storage.read_bytes(newest)
            return _of_json(data, run_uri)
        except StorageError:
            if storage.exists(newest):
                raise
            # Its successor is there, and has swept it since it was listed.
        except (orjson.JSONDecodeError, TypeError) as error:
            said = f"{newest} is no lease of this release: {error}"
            raise DamagedLeaseError(said, newest, hashlib.sha256(data).hexdigest()) from None
    return None


def holder(run_uri: str) -> Lease | None:
    """`newest_lease`, or what stands for one that can't be read, until it changes: its holder may live and write it."""
    try:
        return newest_lease(run_uri)
    except DamagedLeaseError as error:
        if not error.fence:
            raise
        return Lease(
            run_uri,
            error.fence,
            host="a host that its damaged lease does not name",
            pid=0,
            pid_started="",
            machine="",
            since="a time unknown",
            token=error.args[2],
        )


def check(lease: Lease) -> None:
    """Raise LeaseLostError unless ``lease`` still holds its run.

    A damaged file of its own number does: nobody else writes that one, and the heartbeat mends it.
    """
    try:
        newest = newest_lease(lease.run_uri)
    except DamagedLeaseError as error:
        if error.fence == lease.fence:
            return
        raise LeaseLostError(
            f"{locations.public(lease.run_uri)} was taken over: {error}", error.fence
        ) from None
    if newest is None or newest.token != lease.token:
        said = f"{locations.public(lease.run_uri)} was taken over by {newest or 'nobody'}"
        raise LeaseLostError(said, newest.fence if newest else 0)


def acquire(run_uri: str, say: Callable[[str], None]) -> Lease:
    """Take a run's lease, after LEASE_S of watching one that doesn't beat; others who come are waited for, too.

    Raises HeldError, naming the holder, where it is held.
    """
    while True:
        held = holder(run_uri)
        if held is not None and not held.released and not is_known_dead(held):
            held = _watched_until_expired(held, say)
        mine = Lease(run_uri, fence=held.fence + 1 if held else 1)
        if "://" in run_uri:
            _write_alone(mine, held, say)
        else:
            storage.create_on_disk(mine.uri, _as_json(mine))
        now = holder(run_uri)
        if now is not None and now.token == mine.token:
            break
        if now is not None and not now.released:
            raise _held(now)
        # Meanwhile another has held it and given it back, or deleted the run.
    if held is not None:
        storage.delete_prefix(held.uri)
    return mine


def _watched_until_expired(held: Lease, say: Callable[[str], None]) -> Lease:
    """A lease as it is once it was given back, or has not beaten for LEASE_S. Raises HeldError as soon as it beats."""
    deadline, said = time.monotonic() + LEASE_S, False
    while True:
        _pause()
        looked_at = time.monotonic()  # before the look: a pause of this process is no silence of the holder's
        now = holder(held.run_uri)
        if now is None or now.token != held.token:
            raise _held(now or held)
        if now.released:
            return now
        if now.beat != held.beat:
            raise _held(now)
        if is_known_dead(held):
            return held
        if not said and time.monotonic() > deadline - LEASE_S + 2 * BEAT_S:
            say(f"the run is held by {held}, which doesn't answer: it expires after {LEASE_S:.0f} s")
            said = True
        if looked_at >= deadline:
            return held


def _write_alone(mine: Lease, held: Lease | None, say: Callable[[str], None]) -> None:
    """Write a lease to an object store, unless another has been written since ``held`` was the newest.

    Mutual exclusion by nothing but writes and listings, as few stores have more in common: each puts a claim there
    and looks afterwards whose else are there. Of any two the later sees the other's; who sees one takes its own away,
    waits, and comes again after a while left to chance. Whose claim is there for CLAIM_S is taken for dead.
    """
    for tries in itertools.count(1):
        claim, begun = f"{uuid.uuid4().hex}{CLAIM}", time.monotonic()
        uri = locations.join(mine.run_uri, FOLDER, claim)
        try:
            storage.write_atomic(uri, _as_json(mine))
            others = _claims(mine.run_uri) - {claim}
            if holder(mine.run_uri) != held:
                return
            if not others and time.monotonic() - begun < LEASE_S:  # of CLAIM_S: the rest is for the write
                storage.write_atomic(mine.uri, _as_json(mine))
                return
        finally:
            try:
                storage.delete_prefix(uri)
            except StorageError as error:  # whoever comes next deletes it in the end
                say(f"warning: a claim to the run's lease stays: {error}")
        took = time.monotonic() - begun
        _wait_until_gone(others, mine.run_uri, say)
        time.sleep(random.uniform(0, min(took * 2**tries, LEASE_S)))


def _claims(run_uri: str) -> set[str]:
    """The names of the claims of those who are about to write a run's lease."""
    files = storage.list_files(locations.join(run_uri, FOLDER), (CLAIM,), missing_ok=True)
    return {locations.basename(file.uri) for file in files}


def _wait_until_gone(claims: set[str], run_uri: str, say: Callable[[str], None]) -> None:
    """Return once none of these claims is there, deleting those of the dead, and after CLAIM_S all."""
    began, said = time.monotonic(), False
    while claims := claims & _claims(run_uri):
        waited_s = time.monotonic() - began
        for claim in claims:
            uri = locations.join(run_uri, FOLDER, claim)
            if waited_s >= CLAIM_S or _is_claim_of_the_dead(uri, run_uri):
                storage.delete_prefix(uri)
        if not said and waited_s > 2 * BEAT_S:
            say(f"another is about to take the run, and doesn't go on: it is waited for {CLAIM_S:.0f} s")
            said = True
        _pause()


def _is_claim_of_the_dead(uri: str, run_uri: str) -> bool:
    """Whether who put a claim ran on this machine and is gone; not where it can't be read, or is gone itself."""
    try:
        return is_known_dead(_of_json(storage.read_bytes(uri), run_uri))
    except (StorageError, orjson.JSONDecodeError, TypeError):
        return False


def wait_while_held(run_uri: str) -> None:
    """Return once a run was given back, or its holder is known to be dead or has not beaten for LEASE_S."""
    held, heard_at = holder(run_uri), time.monotonic()
    while held is not None and not held.released and not is_known_dead(held):
        _pause()
        looked_at = time.monotonic()
        now = holder(run_uri)
        if now != held:
            held, heard_at = now, time.monotonic()
        elif looked_at - heard_at >= LEASE_S:
            return


def _pause() -> None:
    """Between two looks at a lease."""
    time.sleep(min(1.0, LEASE_S / 10))


def _held(by: Lease) -> HeldError:
    return HeldError(
        f"run {locations.basename(by.run_uri)} in {locations.public(by.run_uri)} is held by {by}: stop that one, or "
        "give this one another --run"
    )


def _as_json(lease: Lease) -> bytes:
    values = {name: value for name, value in asdict(lease).items() if name != "run_uri"}
    return orjson.dumps(values, option=orjson.OPT_INDENT_2)


def _of_json(data: bytes, run_uri: str) -> Lease:
    """Raises JSONDecodeError or TypeError where it is none of this release."""
    return Lease(**orjson.loads(data) | {"run_uri": run_uri})


class _Heart(threading.Thread):
    """Writes a lease's heartbeat until it is over, or another driver has taken the run."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(name="lease", daemon=True)
        self.lease, self.beats = lease, 0
        self.over, self.lost = threading.Event(), threading.Event()

    def run(self) -> None:
        while not self.over.wait(BEAT_S):
            try:
                check(self.lease)
                self.beats += 1
                self._write(released=False)
            except LeaseLostError:
                self.lost.set()
                return
            except StorageError:
                continue  # a store that is away can't be written by another driver either

    def _write(self, released: bool) -> None:
        values = asdict(self.lease) | {"beat": self.beats, "released": released}
        storage.write_atomic(self.lease.uri, _as_json(Lease(**values)))

    def end(self) -> None:
        """Stop beating, and give the run back."""
        self.over.set()
        self.join()
        if not self.lost.is_set():
            try:
                check(self.lease)
                self._write(released=True)
            except (LeaseLostError, StorageError) as error:
                log.say(f"warning: the run's lease was not given back: {error}")


@contextmanager
def held(run_uri: str, say: Callable[[str], None]) -> Iterator[tuple[Lease, threading.Event]]:
    """Hold a run: its lease, and an event that is set where another driver takes it over.

    Raises HeldError where the run is held.
    """
    heart = _Heart(acquire(run_uri, say))
    heart.start()
    try:
        yield heart.lease, heart.lost
    finally:
        heart.end()
