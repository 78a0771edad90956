"""A run's lease: one holder at a time, whoever comes when; and what a late writer may still do: nothing."""

import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest

from doodle_dist.data import storage
from doodle_dist.training import lease
from doodle_dist.training.lease import (
    HeldError,
    Lease,
    LeaseLostError,
    acquire,
    check,
    held,
    holder,
    newest_lease,
    wait_while_held,
)

QUICK = {"LEASE_S": 0.6, "BEAT_S": 0.1}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in QUICK.items():
        monkeypatch.setattr(lease, name, seconds)


@pytest.fixture(params=["local", "s3"])
def run_uri(request: pytest.FixtureRequest, tmp_path: Path, quick: None) -> str:
    if request.param == "local":
        return str(tmp_path / "runs" / "mine")
    return request.getfixturevalue("s3_bucket") + "/runs/mine"


def silent(_: str) -> None: ...


def write(holder: Lease) -> Lease:
    storage.write_atomic(holder.uri, lease._as_json(holder))
    return holder


def elsewhere(run_uri: str, fence: int = 7) -> Lease:
    """The lease of a driver on another machine."""
    return Lease(run_uri, fence, host="far-away", pid=4711, machine="another boot")


def test_the_second_is_refused_and_told_who_holds_it(run_uri: str) -> None:
    with held(run_uri, silent) as (mine, is_lost):
        with pytest.raises(HeldError, match=rf"run mine in .* is held by process {os.getpid()} on "):
            acquire(run_uri, silent)
        check(mine)
        assert not is_lost.is_set()
    with held(run_uri, silent) as (again, _):
        assert again.fence == mine.fence + 1, "given back, it is there at once"


def test_a_dead_driver_of_this_machine_holds_nothing(run_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 1000.0)  # waiting would be noticed
    gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    theirs = write(Lease(run_uri, 3, pid=gone.pid, pid_started=lease._start_of(gone.pid)))
    assert not lease.is_known_dead(theirs)
    gone.kill()
    gone.wait()
    assert acquire(run_uri, silent).fence == 4
    # The number of a process that is gone is given to another one day.
    assert lease.is_known_dead(replace(theirs, pid=os.getpid()))


def test_a_lease_of_another_machine_expires_without_a_heartbeat(run_uri: str) -> None:
    write(elsewhere(run_uri))
    said: list[str] = []
    assert acquire(run_uri, said.append).fence == 8
    assert "process 4711 on far-away" in said[0]
    assert newest_lease(run_uri) == acquire_is_mine(run_uri)


def acquire_is_mine(run_uri: str) -> Lease:
    newest = newest_lease(run_uri)
    assert newest is not None
    assert newest.pid == os.getpid()
    return newest


def test_a_lease_that_beats_does_not_expire(run_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 5.0)  # a beat that a busy machine writes late is one
    theirs = write(elsewhere(run_uri))
    timer = threading.Timer(0.3, write, [replace(theirs, beat=1)])
    timer.start()
    with pytest.raises(HeldError, match="process 4711 on far-away"):
        acquire(run_uri, silent)
    timer.join()


def test_who_was_taken_over_learns_it_and_writes_no_more(run_uri: str) -> None:
    with held(run_uri, silent) as (mine, is_lost):
        theirs = write(elsewhere(run_uri, mine.fence + 1))
        assert is_lost.wait(5)
        with pytest.raises(LeaseLostError, match="process 4711 on far-away"):
            check(mine)
    assert newest_lease(run_uri) == theirs, "its end changes nothing of the other's"


@pytest.mark.parametrize("damage", [b"", b'{"fence": 1, "hos', b"5"])
def test_a_damaged_lease_is_written_again_by_who_holds_it(run_uri: str, damage: bytes) -> None:
    with held(run_uri, silent) as (mine, is_lost):
        storage.write_atomic(mine.uri, damage)
        check(mine)
        mended = threading.Event()
        while not mended.wait(0.05):
            if storage.read_bytes(mine.uri) != damage:
                mended.set()
        assert newest_lease(run_uri) is not None
        assert not is_lost.is_set()
        storage.write_atomic(mine.uri, damage)
    newest = newest_lease(run_uri)
    assert newest is not None
    assert newest.released, "and given back all the same"


def test_a_damaged_lease_of_another_driver_is_a_lost_run(run_uri: str) -> None:
    with held(run_uri, silent) as (mine, is_lost):
        storage.write_atomic(replace(mine, fence=mine.fence + 1).uri, b"")
        assert is_lost.wait(5)
        with pytest.raises(LeaseLostError, match=r"000002\.json is no lease of this release"):
            check(mine)


def test_a_damaged_lease_expires_unless_its_holder_writes_it(run_uri: str) -> None:
    theirs = elsewhere(run_uri)
    storage.write_atomic(theirs.uri, b"")
    timer = threading.Timer(0.3, write, [theirs])
    timer.start()
    with pytest.raises(HeldError, match="process 4711 on far-away"):
        acquire(run_uri, silent)
    timer.join()
    storage.write_atomic(theirs.uri, b"")
    assert acquire(run_uri, silent).fence == theirs.fence + 1


def test_who_waits_bears_a_half_written_lease_and_goes_on_once_it_is_given_back(
    run_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 5.0)  # it doesn't expire meanwhile
    theirs = elsewhere(run_uri)
    storage.write_atomic(theirs.uri, b"")
    timer = threading.Timer(0.3, write, [replace(theirs, released=True)])
    timer.start()
    wait_while_held(run_uri)
    newest = holder(run_uri)
    assert newest is not None
    assert newest.released
    timer.join()


def test_who_waits_goes_on_where_the_holder_is_silent_or_dead_or_there_is_none(
    run_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_while_held(run_uri)
    theirs = write(elsewhere(run_uri))
    wait_while_held(run_uri)
    assert holder(run_uri) == theirs
    monkeypatch.setattr(lease, "LEASE_S", 1000.0)  # waiting would be noticed
    write(Lease(run_uri, 8, pid_started="another start"))
    wait_while_held(run_uri)


@pytest.mark.parametrize("beat", [0, 1])
def test_a_lease_that_is_given_back_while_it_is_watched_is_taken_at_once(
    run_uri: str, monkeypatch: pytest.MonkeyPatch, beat: int
) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 5.0)
    theirs = write(elsewhere(run_uri))
    timer = threading.Timer(0.3, write, [replace(theirs, beat=beat, released=True)])
    timer.start()
    said: list[str] = []
    assert acquire(run_uri, said.append).fence == theirs.fence + 1
    timer.join()


@pytest.mark.slow
def test_of_many_that_come_at_once_one_gets_it(run_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 30.0)  # nobody is taken for dead
    start, over, got, refused = threading.Barrier(4), threading.Event(), [], []
    write_atomic, chance = storage.write_atomic, random.Random(1)

    def slowly(uri: str, data: bytes) -> None:
        time.sleep(chance.uniform(0, 0.1))
        write_atomic(uri, data)
        time.sleep(chance.uniform(0, 0.1))

    monkeypatch.setattr(storage, "write_atomic", slowly)
    monkeypatch.setattr(lease, "_pause", lambda: time.sleep(0.03))

    def contend() -> None:
        start.wait()
        try:
            with held(run_uri, silent) as (mine, _):
                got.append(mine)
                over.wait(90)
        except HeldError as error:
            refused.append(error)
        if len(refused) == 3:
            over.set()

    threads = [threading.Thread(target=contend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert len(refused) == 3


@pytest.mark.slow
def test_in_an_object_store_who_comes_while_a_lease_is_written_waits_for_it(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_uri, write_atomic = f"{s3_bucket}/run", storage.write_atomic
    is_writing, has_come, go_on = threading.Event(), threading.Event(), threading.Event()

    def held_up(uri: str, data: bytes) -> None:
        if uri.endswith(".json") and not is_writing.is_set():
            is_writing.set()
            assert go_on.wait(30)
        write_atomic(uri, data)
        if uri.endswith(lease.CLAIM) and is_writing.is_set():
            has_come.set()

    monkeypatch.setattr(storage, "write_atomic", held_up)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(acquire, run_uri, silent)
        assert is_writing.wait(30)
        other = pool.submit(acquire, run_uri, silent)
        assert has_come.wait(30)
        assert not wait([other], 1).done
        go_on.set()
        first = one.result()
        with pytest.raises(HeldError, match=r"run run in .* is held by process"):
            other.result()
    assert newest_lease(run_uri) == first
    assert [file.uri for file in storage.list_files(f"{run_uri}/lease")] == [first.uri]


@pytest.mark.slow
def test_in_an_object_store_who_died_elsewhere_while_it_came_is_waited_for_a_while(
    s3_bucket: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "CLAIM_S", 2.0)
    run_uri, said = f"{s3_bucket}/run", []
    storage.write_atomic(f"{run_uri}/lease/of-the-dead{lease.CLAIM}", b"")
    mine = acquire(run_uri, said.append)
    assert newest_lease(run_uri) == mine
    assert said == ["another is about to take the run, and doesn't go on: it is waited for 2 s"]
    assert [file.uri for file in storage.list_files(f"{run_uri}/lease")] == [mine.uri]


def test_in_an_object_store_who_died_here_while_it_came_is_not_waited_for(
    s3_bucket: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "CLAIM_S", 1000.0)  # waiting would be noticed
    run_uri = f"{s3_bucket}/run"
    theirs = Lease(run_uri, 1, pid_started="another start")
    storage.write_atomic(f"{run_uri}/lease/of-the-dead{lease.CLAIM}", lease._as_json(theirs))
    mine = acquire(run_uri, silent)
    assert [file.uri for file in storage.list_files(f"{run_uri}/lease")] == [mine.uri]


def test_in_an_object_store_who_comes_while_a_run_is_held_and_given_back_takes_it(
    s3_bucket: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its look at the lease and its claim another had it, and has done."""
    run_uri, write_atomic, others = f"{s3_bucket}/run", storage.write_atomic, []

    def after_another(uri: str, data: bytes) -> None:
        if uri.endswith(lease.CLAIM) and not others:
            others.append(Lease(run_uri, 1, released=True))
            write_atomic(others[0].uri, lease._as_json(others[0]))
        write_atomic(uri, data)

    monkeypatch.setattr(storage, "write_atomic", after_another)
    mine = acquire(run_uri, silent)
    assert mine.fence == 2
    assert newest_lease(run_uri) == mine
