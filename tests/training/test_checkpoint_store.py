"""Checkpoints in storage: whole or not at all, checked when read, kept by score; a store that fails is a warning."""

import os
import threading
from pathlib import Path

import orjson
import pytest

from doodle_dist.data import locations, retry, storage
from doodle_dist.data.storage_errors import DamagedError, StorageError
from doodle_dist.run.files import COMMIT, CURSOR, STATE
from doodle_dist.training import checkpoint_store
from doodle_dist.training.checkpoint import load_cursor
from doodle_dist.training.checkpoint_store import (
    CheckpointStore,
    latest_checkpoint,
    new_name,
    read_file,
    store,
    stored_checkpoints,
)
from doodle_dist.training.cursor import Cursor
from doodle_dist.training.lease import Lease, LeaseLostError
from tests.runs import local_checkpoint, stored_checkpoint, sweep_before_reading


@pytest.fixture(params=["local", "s3"])
def run_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "runs" / "mine")
    return request.getfixturevalue("s3_bucket") + "/runs/mine"


def resumed(run_uri: str) -> tuple[int | None, list[str]]:
    """The drawings seen at which the run would go on, and the warnings on the way."""
    warned: list[str] = []
    with latest_checkpoint(run_uri, 0, lambda choice: choice, warned.append) as folder:
        return (None if folder is None else load_cursor(folder, Cursor(0, 10)).drawings_seen), warned


def test_it_is_resumed_from_a_folder_that_is_swept_where_the_worker_is_killed(tmp_path: Path) -> None:
    run = str(tmp_path / "runs" / "mine")
    stored_checkpoint(run, tmp_path, 100)
    with latest_checkpoint(run, 0, lambda choice: choice, pytest.fail) as folder:
        assert folder is not None
        assert folder.name.startswith(f"doodle-dist-resume-{os.getpid()}-")
    assert not folder.exists()


def truncate(uri: str) -> None:
    storage.write_atomic(uri, storage.read_bytes(uri, 0, storage.size(uri) // 2))


def alter(uri: str) -> None:
    data = bytearray(storage.read_bytes(uri))
    data[len(data) // 2] ^= 0xFF
    storage.write_atomic(uri, bytes(data))


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("state.pt", truncate, "was committed with"),
        ("state.pt", alter, "checksum differs"),
        ("state.pt", storage.delete_prefix, "is missing"),
        (COMMIT, truncate, "can't be read"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    run_uri: str, tmp_path: Path, file: str, damage, said: str
) -> None:
    assert resumed(run_uri) == (None, [])
    for seen in (100, 200):
        newest = stored_checkpoint(run_uri, tmp_path, seen)
    assert resumed(run_uri) == (200, [])
    damage(locations.join(newest, file))
    seen, warned = resumed(run_uri)
    assert seen == 100
    (warning,) = warned
    assert locations.basename(newest) in warning
    assert file in warning
    assert said in warning
    assert resumed(run_uri) == (100, []), "it is no checkpoint any more"


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew(run_uri: str, tmp_path: Path) -> None:
    """However often it is asked to: what may be mended by hand is still there."""
    truncate(locations.join(stored_checkpoint(run_uri, tmp_path, 100), "state.pt"))
    alter(locations.join(stored_checkpoint(run_uri, tmp_path, 200), "state.pt"))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"no checkpoint of .* is whole .*state\.pt"):
            resumed(run_uri)


def test_a_lease_is_looked_at_again_after_a_store_was_away(
    run_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was away for longer than the lease lasts, while the commit was being written."""
    really_write, looks = storage.write_atomic, []

    def away(uri: str, data: bytes) -> None:
        if uri.endswith(COMMIT) and len(looks) == 1:
            raise StorageError("the store") from ConnectionError("connection reset")
        really_write(uri, data)

    def look() -> None:
        looks.append(len(looks))
        if len(looks) == 2:
            raise LeaseLostError("taken over")

    monkeypatch.setattr(storage, "write_atomic", away)
    with pytest.raises(LeaseLostError):
        store(local_checkpoint(tmp_path / "one", 100), locations.join(run_uri, new_name(100, 1)), look)
    assert looks == [0, 1]
    assert stored_checkpoints(run_uri) == []


@pytest.mark.parametrize("written", range(6))
def test_what_a_kill_leaves_of_an_upload_is_never_read_and_is_swept(
    run_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    stored_checkpoint(run_uri, tmp_path, 100)
    really_write, count = storage.write_atomic, [0]

    def killed(uri: str, data: bytes) -> None:
        if count[0] == written:
            raise KeyboardInterrupt
        count[0] += 1
        really_write(uri, data)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_atomic", killed)
        with pytest.raises(KeyboardInterrupt):
            stored_checkpoint(run_uri, tmp_path, 200)
    assert resumed(run_uri) == (100, [])
    assert [one.drawings_seen for one in stored_checkpoints(run_uri)] == [100]
    stored_checkpoint(run_uri, tmp_path, 300)
    checkpoint_store.prune(run_uri, keep=5)
    left = {file.uri.rsplit("/", 2)[1] for file in storage.list_files(run_uri, recursive=True)}
    assert left == {one.name for one in stored_checkpoints(run_uri)}
    assert [one.drawings_seen for one in stored_checkpoints(run_uri)] == [100, 300]


def test_the_best_and_the_latest_are_kept(run_uri: str, tmp_path: Path) -> None:
    scores = {100: 0.5, 200: 0.9, 300: 0.7, 400: 0.9, 500: 0.1, 600: None}
    for seen, score in scores.items():
        stored_checkpoint(run_uri, tmp_path, seen, score)
    checkpoint_store.prune(run_uri, keep=2)
    assert [one.drawings_seen for one in stored_checkpoints(run_uri)] == [200, 400, 600]


def test_a_checkpoint_lists_no_more_the_longer_a_run_has_been(
    run_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[int] = []
    original = storage._walk

    def walk(*arguments: object) -> list[storage.FileEntry]:
        found = original(*arguments)  # type: ignore[arg-type]
        listed.append(len(found))
        return found

    monkeypatch.setattr(storage, "_walk", walk)
    seen_at = []
    for round_ in range(1, 5):
        for k in range(10):  # what a run leaves beside its checkpoints
            storage.write_atomic(locations.join(run_uri, "samples", f"{round_}-{k}.png"), b"picture")
        stored_checkpoint(run_uri, tmp_path, round_ * 100)
        listed.clear()
        checkpoint_store.prune(run_uri, 1)
        seen_at.append(sum(listed))
    assert len(stored_checkpoints(run_uri)) == 1
    assert seen_at[1] == seen_at[2] == seen_at[3] > 0


def test_a_folder_without_a_commit_is_never_read_and_another_s_is_left_alone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    others = local_checkpoint(run / "checkpoint_of_mine", 100)
    assert resumed(str(run)) == (None, [])
    (others / CURSOR).write_bytes(b'{"drawings_se')
    assert stored_checkpoints(str(run)) == []
    stored_checkpoint(str(run), tmp_path / "new", 200)
    checkpoint_store.prune(str(run), keep=1)
    assert [one.drawings_seen for one in stored_checkpoints(str(run))] == [200]
    assert others.exists(), "the store didn't name it"


def test_a_file_that_its_checkpoint_did_not_commit_is_damaged(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    stored_checkpoint(run, tmp_path, 100)
    (one,) = stored_checkpoints(run)
    storage.write_atomic(locations.join(one.uri, "extra.json"), b"{}")
    with pytest.raises(DamagedError, match=r"extra\.json is not in its checkpoint's commit\.json"):
        read_file(one, "extra.json")


def test_a_store_that_fails_is_a_warning_and_the_next_checkpoint_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, warned = str(tmp_path / "run"), []
    here = CheckpointStore(run, 3, None, warned.append)

    def refused(uri: str, data: bytes) -> None:
        raise StorageError(f"{uri}: the store refused the key")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_atomic", refused)
        name = here.new_name(100)
        assert not here.store(local_checkpoint(tmp_path / "a", 100), name, here.asked)
    (warning,) = warned
    assert name in warning
    assert "refused the key" in warning
    assert here.store(local_checkpoint(tmp_path / "b", 200), here.new_name(200), here.asked)
    assert resumed(run) == (200, [])


def test_a_store_that_is_away_for_a_moment_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "_FIRST_PAUSE_S", 0.01)
    run, warned, fails = str(tmp_path / "run"), [], [3]
    here = CheckpointStore(run, 3, None, warned.append)
    really_fsync = checkpoint_store.storage.os.fsync

    def flaky(number: int) -> None:
        fails[0] -= 1
        if fails[0] >= 0:
            raise ConnectionResetError("connection reset by peer")
        really_fsync(number)

    monkeypatch.setattr(checkpoint_store.storage.os, "fsync", flaky)
    assert here.store(local_checkpoint(tmp_path / "a", 100), here.new_name(100), here.asked)
    assert warned == []
    assert resumed(run) == (100, [])


def test_nothing_is_committed_once_the_lease_is_lost(tmp_path: Path) -> None:
    run, warned = str(tmp_path / "run"), []
    mine = Lease(run, 1)
    here = CheckpointStore(run, 3, mine, warned.append)
    name = here.new_name(100)
    assert "_f0001_" in name
    taken = Lease(run, 2, host="far-away", machine="another boot")
    storage.write_atomic(taken.uri, orjson.dumps({"fence": 2, "host": "far-away", "token": taken.token}))
    assert not here.store(local_checkpoint(tmp_path / "a", 100), name, here.asked)
    assert "taken over by" in warned[0]
    assert stored_checkpoints(run) == []
    assert not storage.exists(locations.join(run, name, COMMIT))


def test_nothing_is_committed_or_swept_by_workers_that_were_replaced(run_uri: str, tmp_path: Path) -> None:
    warned: list[str] = []
    cut_off, new = (CheckpointStore(run_uri, 1, None, warned.append) for _ in range(2))
    cut_off.begin()
    assert cut_off.store(local_checkpoint(tmp_path / "a", 100), cut_off.new_name(100), cut_off.asked)
    new.begin()
    half_written = locations.join(run_uri, new.new_name(150), STATE)
    storage.write_atomic(half_written, b"not yet all of it")
    assert not cut_off.store(local_checkpoint(tmp_path / "b", 200), cut_off.new_name(200), cut_off.asked)
    (warning,) = warned
    assert "started again" in warning
    assert storage.exists(half_written)
    assert [one.drawings_seen for one in stored_checkpoints(run_uri)] == [100]
    assert new.store(local_checkpoint(tmp_path / "c", 150), new.new_name(150), new.asked)
    assert [one.drawings_seen for one in stored_checkpoints(run_uri)] == [150]
    assert not storage.exists(half_written)


def test_workers_that_are_replaced_while_they_commit_sweep_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, warned = str(tmp_path / "run"), []
    cut_off, new = (CheckpointStore(run, 1, None, warned.append) for _ in range(2))
    cut_off.begin()
    half_written = locations.join(run, new.new_name(150), STATE)
    really_write = storage.write_atomic

    def replaced_after(uri: str, data: bytes) -> None:
        really_write(uri, data)
        if locations.basename(uri) == COMMIT:
            new.begin()
            really_write(half_written, b"not yet all of it")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_atomic", replaced_after)
        assert cut_off.store(local_checkpoint(tmp_path / "a", 100), cut_off.new_name(100), cut_off.asked)
    (warning,) = warned
    assert "older ones not deleted" in warning
    assert storage.exists(half_written)


def test_a_checkpoint_that_is_swept_while_it_is_listed_is_none(
    run_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept, kept = stored_checkpoint(run_uri, tmp_path, 10), stored_checkpoint(run_uri, tmp_path, 20)
    sweep_before_reading(swept, COMMIT, monkeypatch)
    assert [one.uri for one in stored_checkpoints(run_uri)] == [kept]


def test_a_checkpoint_that_many_wait_behind_gives_way(tmp_path: Path) -> None:
    run_uri, said = str(tmp_path / "run"), []
    here = CheckpointStore(run_uri, 3, None, said.append)
    names = [here.new_name(seen) for seen in (10, 20, 30, 40)]
    for number, name in enumerate(names, start=1):
        here.store(local_checkpoint(tmp_path / name, 10 * number), name, number)
    assert [one.drawings_seen for one in stored_checkpoints(run_uri)] == [20, 30, 40]
    (warning,) = said
    assert names[0] in warning
    assert "could not be stored before" in warning


def test_who_waits_until_all_is_settled_waits_for_the_newest_whatever_becomes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, over = str(tmp_path / "run"), []
    here = CheckpointStore(run, 3, None, lambda _: over.append("refused"))
    here.settle()  # nothing was asked for
    is_let_in = threading.Event()

    def refused(uri: str, data: bytes) -> None:
        is_let_in.wait()
        raise StorageError(f"{uri}: the store refused the key")

    monkeypatch.setattr(storage, "write_atomic", refused)
    folder, name = local_checkpoint(tmp_path / "a", 100), here.new_name(100)
    waits = threading.Thread(target=lambda: (here.settle(), over.append("settled")))
    waits.start()
    stores = threading.Thread(target=here.store, args=(folder, name, here.asked))
    stores.start()
    waits.join(0.1)
    assert over == []
    is_let_in.set()
    waits.join()
    assert over == ["refused", "settled"]


def test_a_prune_that_fails_is_no_failed_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, warned = str(tmp_path / "run"), []
    here = CheckpointStore(run, 1, None, warned.append)

    def refused(uri: str) -> None:
        raise StorageError(f"{uri}: permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "delete_prefix", refused)
        for seen in (100, 200):
            assert here.store(local_checkpoint(tmp_path / str(seen), seen), here.new_name(seen), here.asked)
    (warning,) = warned
    assert "was stored, and older ones not deleted" in warning
    assert "permission denied" in warning
    assert not here.is_failing
    assert resumed(run) == (200, [])
    assert here.store(local_checkpoint(tmp_path / "300", 300), here.new_name(300), here.asked)
    assert [one.drawings_seen for one in stored_checkpoints(run)] == [300]
