"""A run's checkpoints in storage: committed whole or not at all, checked when they are read, and how many are kept.

    <run>/checkpoint_000000128000_f0003_1a2b3c4d/      drawings seen, the lease's fence, a number of its own
        state.pt … snapshot.safetensors  meta.json     each file appears whole
        commit.json                                    written last: every file's size and SHA-256

A folder without commit.json is no checkpoint: it is never read, and swept when the next one is committed. No two
writers ever write one folder, as each has a number of its own. The lease says which driver may write a run, and

    <run>/workers.json                                 which of its starts of the workers

so that what was cut off and replaced, and still runs, neither commits nor sweeps.
"""

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import orjson

from doodle_dist.data import locations, storage
from doodle_dist.data.retry import patience
from doodle_dist.data.scratch import brief_folder
from doodle_dist.data.storage_errors import DamagedError, StorageError, patiently
from doodle_dist.run.checkpoints import standing
from doodle_dist.run.files import COMMIT, COMMITTED_NAME, META, WORKERS
from doodle_dist.training.lease import Lease, LeaseLostError, check

T = TypeVar("T")

COMMIT_VERSION = 1


class SupersededError(Exception):
    """The run's workers were started again, elsewhere: nothing more may be written by these."""


@dataclass(frozen=True)
class StoredFile:
    """What a commit says of a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class StoredCheckpoint:
    """A committed checkpoint in storage, with what its commit says of each file."""

    uri: str
    drawings_seen: int
    score: float | None
    files: dict[str, StoredFile]

    @property
    def name(self) -> str:
        return locations.basename(self.uri)

    @property
    def is_damaged(self) -> bool:
        """Whether its commit can't be read, so that it never verifies."""
        return self.files == {COMMIT: _DAMAGED}

    def metrics(self) -> dict[str, float | None]:
        """The metrics that it was made with; None where one was not finite.

        Raises StorageError, and DamagedError where they aren't what was committed.
        """
        meta: dict[str, dict[str, float | None]] = orjson.loads(read_file(self, META))
        return meta["metrics"]


@dataclass(frozen=True)
class Choice:
    """What rank 0 found to resume from: nothing, a checkpoint, or a ``problem``."""

    checkpoint: StoredCheckpoint | None
    problem: str = ""


def new_name(drawings_seen: int, fence: int) -> str:
    """A folder's name that no other writer has."""
    return f"checkpoint_{drawings_seen:012d}_f{fence:04d}_{uuid.uuid4().hex[:8]}"


def stored_checkpoints(run_uri: str) -> list[StoredCheckpoint]:
    """The run's committed checkpoints, oldest first."""
    return _committed(_folders(run_uri))


def _committed(folders: dict[str, set[str]]) -> list[StoredCheckpoint]:
    """The committed checkpoints among the folders, oldest first."""
    found = _at_once(_read_if_there, [uri for uri, files in folders.items() if COMMIT in files])
    return sorted((one for one in found if one is not None), key=_order)


def _order(one: StoredCheckpoint) -> tuple[int, str]:
    return one.drawings_seen, one.name


def _folders(run_uri: str) -> dict[str, set[str]]:
    """The checkpoint folders at a run, whole or not, with the files in each.

    Pictures, curves and audits, which a long run has many of, are not listed at every checkpoint again.
    """
    found = [
        uri for uri in storage.list_folders(run_uri) if locations.basename(uri).startswith("checkpoint_")
    ]
    listed = zip(found, _at_once(_files_in, found), strict=True)
    return {uri: files for uri, files in listed if files is not None}


def _files_in(folder: str) -> set[str] | None:
    """The names of a folder's files; None where it is gone: a store may show one whose last file was just deleted."""
    try:
        return {locations.basename(file.uri) for file in storage.list_files(folder)}
    except StorageError:
        if storage.exists(folder):
            raise
        return None


# A store's answers are waited for, and many at once take no longer than one.
_AT_ONCE = 8


def _at_once(ask: Callable[[str], T], uris: list[str]) -> list[T]:
    """``ask`` of every URI, some at a time, as patiently as this thread is."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="checkpoints") as pool:
        asked = [pool.submit(copy_context().run, ask, uri) for uri in uris]
        return [each.result() for each in asked]


def read_commit(uri: str) -> StoredCheckpoint:
    """The committed checkpoint at ``uri``; one that never verifies where its commit is damaged. Raises StorageError."""
    return _commit_in(uri, storage.read_bytes(locations.join(uri, COMMIT)))


def _read_if_there(uri: str) -> StoredCheckpoint | None:
    """The committed checkpoint at ``uri``; None where the run's writer has swept it since it was listed."""
    commit = storage.read_if_there(locations.join(uri, COMMIT))
    return None if commit is None else _commit_in(uri, commit)


# What is known of the files where a commit can't be read.
_DAMAGED = StoredFile(-1, "")


def _seen_by_name(uri: str) -> int:
    """The drawings seen that a checkpoint's folder is named by; 0 where the name is none of ours."""
    named = COMMITTED_NAME.fullmatch(locations.basename(uri))
    return int(named["seen"]) if named else 0


def _commit_in(uri: str, document: bytes) -> StoredCheckpoint:
    try:
        commit = orjson.loads(document)
        listed = {name: StoredFile(**about) for name, about in commit["files"].items()}
        seen, score = int(commit["drawings_seen"]), commit["score"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return StoredCheckpoint(uri, _seen_by_name(uri), None, {COMMIT: _DAMAGED})
    assert all("/" not in name for name in listed), f"{uri} names files outside of it"
    return StoredCheckpoint(uri, seen, score, listed)


# --- reading ------------------------------------------------------------------------------------------------


def read_file(checkpoint: StoredCheckpoint, name: str) -> bytes:
    """A file of a checkpoint. Raises DamagedError where it isn't what was committed."""
    where, committed = locations.join(checkpoint.uri, name), checkpoint.files.get(name)
    if committed is None:
        raise DamagedError(f"{where} is not in its checkpoint's {COMMIT}")
    if committed == _DAMAGED:
        raise DamagedError(f"{where} can't be read")
    if not storage.exists(where):
        raise DamagedError(f"{where} is missing")
    data = storage.read_bytes(where)
    if len(data) != committed.bytes:
        raise DamagedError(f"{where} has {len(data):,} bytes and was committed with {committed.bytes:,}")
    if hashlib.sha256(data).hexdigest() != committed.sha256:
        raise DamagedError(f"{where} is not what was committed: its checksum differs")
    return data


def fetch(checkpoint: StoredCheckpoint, folder: Path) -> None:
    """Copy a checkpoint into a local folder. Raises DamagedError where a file isn't what was committed."""
    for name in checkpoint.files:
        (folder / name).write_bytes(read_file(checkpoint, name))


@contextmanager
def latest_checkpoint(
    run_uri: str, rank: int, agree: Callable[[Choice | None], Choice | None], warn: Callable[[str], object]
) -> Iterator[Path | None]:
    """The newest checkpoint that is whole, as a local folder; None at a run's first start.

    Each damaged one on the way is named in a warning. ``agree`` gives every rank what rank 0 chose. Raises
    ValueError, on every rank, where a run has checkpoints and none is whole.
    """
    with brief_folder("resume") as folder:
        choice = agree(_choose(run_uri, folder, warn) if rank == 0 else None)
        assert choice is not None
        if choice.problem:
            raise ValueError(choice.problem)
        if choice.checkpoint is not None and rank != 0:
            fetch(choice.checkpoint, folder)
        yield folder if choice.checkpoint is not None else None


def _choose(run_uri: str, folder: Path, warn: Callable[[str], object]) -> Choice:
    """The newest checkpoint that is whole, fetched into ``folder``."""
    problem, damaged = "", []
    for checkpoint in reversed(stored_checkpoints(run_uri)):
        try:
            fetch(checkpoint, folder)
        except DamagedError as error:
            warn(f"{checkpoint.name} is damaged and left out: {error}")
            damaged.append(checkpoint)
            problem = (
                f"no checkpoint of {locations.public(run_uri)} is whole ({error}): delete the run, or give this "
                "one another --run, to begin anew"
            )
            continue
        # No longer checkpoints, they are swept, and never count as the newest again. Where none is whole they stay:
        # the next start would find none at all, and begin anew.
        for one in damaged:
            storage.delete_prefix(locations.join(one.uri, COMMIT))
        return Choice(checkpoint)
    return Choice(None, problem)


# --- writing ------------------------------------------------------------------------------------------------


_COMMIT_PATIENCE_S = 5.0


def store(folder: Path, uri: str, before_commit: Callable[[], None] = lambda: None) -> None:
    """Write a checkpoint's folder to ``uri``: its files, and once ``before_commit`` is through, the commit.

    Raises StorageError, and what ``before_commit`` raises; then there is no checkpoint at ``uri``.
    """
    files = {}
    # A snapshot's description comes after its weights: who lists the folder meanwhile takes it for a whole one.
    for file in sorted(folder.iterdir(), key=lambda file: (file.name == META, file.name)):
        data = file.read_bytes()
        files[file.name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        storage.write_atomic(locations.join(uri, file.name), data)
    metrics = orjson.loads((folder / META).read_bytes())["metrics"]
    commit = {
        "version": COMMIT_VERSION,
        "drawings_seen": int(metrics["drawings_seen"]),
        "score": metrics.get("score"),
        "files": files,
    }

    @patiently
    def committed() -> None:
        before_commit()  # again after each wait for the store, which may outlast a lease
        with patience(_COMMIT_PATIENCE_S):
            storage.write_atomic(
                locations.join(uri, COMMIT), orjson.dumps(commit, option=orjson.OPT_INDENT_2)
            )

    committed()


def prune(run_uri: str, keep: int) -> None:
    """Keep the newest checkpoint and the best ``keep`` (by score, the newer one of equals); sweep half-written ones.

    Folders that no `new_name` was given to are left alone. Call it from the one who writes the run only.
    """
    folders = _folders(run_uri)
    committed = _committed(folders)
    whole = [one for one in committed if not one.is_damaged]
    by_score = sorted(whole, key=lambda one: (*standing(one.score, one.drawings_seen), one.name))
    kept = {one.uri for one in [*by_score[-keep:], *committed[-1:]]}
    for uri, files in folders.items():
        if uri in kept or not COMMITTED_NAME.fullmatch(locations.basename(uri)):
            continue
        if COMMIT in files:  # first, so that what a crash leaves is no checkpoint
            storage.delete_prefix(locations.join(uri, COMMIT))
        storage.delete_prefix(uri)


# Checkpoints that wait for a slow store lie on the node's disk: older ones give way to so many newer ones.
_MOST_WAITING = 2
_SETTLED_WITHIN_S = 600.0


class CheckpointStore:
    """Where rank 0's checkpoints go. A store that fails is a warning, and training goes on."""

    def __init__(self, run_uri: str, keep: int, lease: Lease | None, warn: Callable[[str], object]) -> None:
        self.run_uri, self.keep, self.lease, self.warn = run_uri, keep, lease, warn
        self.asked, self.is_failing = 0, False
        self._settled, self._news = 0, threading.Condition()
        self.start = b""

    def begin(self) -> None:
        """From now on no earlier start of the workers commits anything. Call it before looking what to resume from.

        Raises StorageError.
        """
        self.start = orjson.dumps({"start": uuid.uuid4().hex})
        storage.write_atomic(locations.join(self.run_uri, WORKERS), self.start)

    def new_name(self, drawings_seen: int) -> str:
        """The folder of the next checkpoint, and that there is one: what can't be stored may give way to it."""
        self.asked += 1
        return new_name(drawings_seen, self.lease.fence if self.lease else 0)

    def store(self, folder: Path, name: str, number: int) -> bool:
        """Store the checkpoint that was the ``number``th to be asked for; whether it was committed."""
        try:
            return self._store(folder, name, number)
        finally:
            with self._news:
                self._settled = max(self._settled, number)
                self._news.notify_all()

    def settle(self) -> None:
        """Wait until the newest checkpoint that was asked for is stored, or given up with a warning.

        Not for ever, since who hands it over may have died.
        """
        with self._news:
            self._news.wait_for(lambda: self._settled >= self.asked, timeout=_SETTLED_WITHIN_S)

    def _store(self, folder: Path, name: str, number: int) -> bool:
        if number < self.asked - (0 if self.is_failing else _MOST_WAITING):
            self.warn(f"{name} could not be stored before the next one came; training goes on")
            return False
        try:
            store(folder, locations.join(self.run_uri, name), self.check_writer)
        except (StorageError, LeaseLostError, SupersededError, OSError) as error:
            self.is_failing = True
            self.warn(f"{name} was not stored: {error}; training goes on")
            return False
        self.is_failing = False
        try:
            self.check_writer()
            prune(self.run_uri, self.keep)
        except (StorageError, LeaseLostError, SupersededError, OSError) as error:
            self.warn(f"{name} was stored, and older ones not deleted: {error}; the next one tries again")
        return True

    def check_writer(self) -> None:
        """Raise LeaseLostError or SupersededError where another one writes the run by now."""
        if self.lease is not None:
            check(self.lease)
        if self.start and storage.read_bytes(locations.join(self.run_uri, WORKERS)) != self.start:
            raise SupersededError(f"the workers of {locations.public(self.run_uri)} were started again since")
