"""Rows of the fault table: workers that die, alone or with their node."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.faults.conftest import Row
from tests.cluster.faults.hosts import (
    Job,
    command,
    kill_a_worker,
    requests_under_way,
    train_workers,
    wait_for,
)

pytestmark = [pytest.mark.faults, pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]
Submit = Callable[..., Job]


def test_worker_killed_at_start(submit: Submit, row: Row) -> None:
    """A worker SIGKILLed at its start."""
    job = submit(drawings=9000)
    wait_for(train_workers, "a worker")
    row.strike()
    kill_a_worker()
    job.wait_for_checkpoint()
    row.recovered()
    job.succeeded()
    job.check({"step": 0, "drawings_seen": 0}, attempts=1)


def test_worker_killed_mid_epoch(submit: Submit, row: Row) -> None:
    """A worker SIGKILLed in the middle of an epoch."""
    job = submit()
    kept = job.wait_for_checkpoint(after=5000)
    row.strike()
    kill_a_worker()
    job.wait_for_the_next_checkpoint()
    row.recovered()
    job.succeeded()
    job.check(kept)


def test_worker_killed_in_an_upload(submit: Submit, row: Row, buckets: Path) -> None:
    """A worker SIGKILLed while it uploads a checkpoint."""
    job = submit()
    job.wait_for_checkpoint()
    command("s3", "latency", "700")  # five files, one after another: seconds in which to be killed
    wait_for(lambda: requests_under_way(buckets, f"{job.run}/checkpoint_"), "an upload", every_s=0.05)
    kept = job.registered()
    row.strike()
    kill_a_worker()
    command("s3", "ok")
    job.wait_for_checkpoint(after=kept["drawings_seen"])
    row.recovered()
    job.succeeded()
    job.check(kept)


def test_node_killed(submit: Submit, row: Row) -> None:
    """The node of all workers killed, raylet and all; the other one takes over."""
    job = submit()
    kept = job.wait_for_checkpoint(after=3000)
    (node,) = train_workers()
    row.strike()
    command("kill", node)
    job.wait_for_the_next_checkpoint()
    row.recovered()
    assert node not in train_workers()
    job.succeeded()
    job.check(kept)


# Longer than any of it takes: a run that has grown is stopped, and ended by the same command with few drawings more.
ELASTIC = {"workers": "1:2", "cpus": 2, "drawings": 100_000_000, "settings": {"scaling.grow_every_s": "10"}}


def _end(job: Job) -> None:
    """End a run that would go on for hours; its workers were as many as it can have."""
    job.wait_for_the_next_checkpoint()
    job.client.stop_job(job.submission)
    job.ended(60)
    last = max(job.attempt_starts())
    assert job.ranks(last) == 2, "it has grown again"
    job.drawings = job.registered()["drawings_seen"] + 3000
    job.submit().succeeded()


def _on_two_nodes(submit: Submit) -> tuple[Job, dict[str, int], int]:
    """An elastic run with a worker on each node, a checkpoint of theirs, and how many starts that took.

    It may begin with one and grow: a node that the row before has killed has only just come back.
    """
    job = submit(**ELASTIC)
    wait_for(lambda: len(train_workers()) == 2, "a worker on each node", 120)
    job.wait_for_checkpoint(after=3000)
    kept = job.wait_for_the_next_checkpoint()
    assert len(train_workers()) == 2
    return job, kept, len(job.attempt_starts())


def test_node_killed_and_started_elastic(submit: Submit, row: Row) -> None:
    """One node of two killed, and one added later: elastic, `--workers 1:2`."""
    job, kept, before = _on_two_nodes(submit)
    node = next(iter(train_workers()))
    row.strike()
    command("kill", node)
    job.wait_for_the_next_checkpoint()
    row.recovered()
    assert len(train_workers()) == 1, "goes on with the node that is left"
    command("start", node)
    began = time.monotonic()
    wait_for(lambda: len(train_workers()) == 2, "growth to two nodes", 120)
    row.note = f"two workers again {time.monotonic() - began:.0f} s after the node was there"
    _end(job)
    job.check(kept, attempts=before + 3, before=before)


def logs(job: Job) -> int:
    """How many lines of progress a job has printed: one only where there was more to say."""
    return job.said().count("loss/classifier")


def test_growth_saves_first(submit: Submit, row: Row) -> None:
    """A node added long before a checkpoint is due: elastic, saved before the workers start again."""
    command("kill", "node2")
    job = submit(
        **ELASTIC
        | {"settings": {"train.checkpoint_every_drawings": "50000000", "scaling.grow_every_s": "30"}}
    )
    assert list(wait_for(train_workers, "a worker on the node that is there")) == ["node1"]
    wait_for(lambda: logs(job), "training")
    assert job.registered()["drawings_seen"] == 0, "none is due"
    row.strike()
    command("start", "node2")
    saved = job.wait_for_checkpoint()
    row.recovered()
    wait_for(lambda: len(train_workers()) == 2, "growth to two nodes", 120)
    row.note = f"two workers {time.monotonic() - row.struck:.0f} s after the node was there"
    before = logs(job)
    wait_for(lambda: logs(job) > before, "training with two workers")
    job.client.stop_job(job.submission)
    job.ended(60)
    grown = max(job.attempt_starts())
    assert job.ranks(grown) == 2
    assert job.attempt_starts()[grown] >= saved["step"] > 0
    job.drawings = job.registered()["drawings_seen"] + 3000
    job.submit().succeeded()
    job.check(saved, attempts=3)


def test_node_killed_as_another_is_added(submit: Submit, row: Row) -> None:
    """One node of two killed, and another added at the same time: elastic, `--workers 1:2`."""
    job, kept, before = _on_two_nodes(submit)
    node = next(iter(train_workers()))
    row.strike()
    command("kill", node)
    added = command("add").strip()
    job.wait_for_the_next_checkpoint()
    row.recovered()
    wait_for(lambda: added in train_workers() and len(train_workers()) == 2, "growth to the new node", 120)
    row.note = f"two workers again after {time.monotonic() - row.struck:.0f} s"
    _end(job)
    job.check(kept, attempts=before + 2, before=before)
