"""Rows of the fault table: hosts that can't be reached, and a head that dies."""

import time
from collections.abc import Callable

import pytest

from tests.cluster.faults.conftest import Row
from tests.cluster.faults.hosts import Job, command, train_workers

pytestmark = [pytest.mark.faults, pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]
Submit = Callable[..., Job]


def test_node_cut_off_for_20_s(submit: Submit, row: Row) -> None:
    """One of two workers' nodes cut off for 20 s."""
    job = submit(cpus=2)
    kept = job.wait_for_checkpoint(after=3000)
    assert len(train_workers()) == 2, "a worker on each node"
    node = next(iter(train_workers()))
    command("cut", node)
    time.sleep(20)
    command("heal", node)
    row.strike()
    job.wait_for_the_next_checkpoint()
    row.recovered()
    job.succeeded()
    job.check(kept, attempts=1)


def test_node_cut_off_for_good(submit: Submit, row: Row) -> None:
    """The workers' node cut off for good: the other one takes over, and there is one writer."""
    job = submit()
    kept = job.wait_for_checkpoint(after=3000)
    (node,) = train_workers()
    row.strike()
    command("cut", node)
    job.wait_for_the_next_checkpoint(timeout_s=200)
    row.recovered()
    job.succeeded()
    job.check(kept)


def test_head_killed_and_started(submit: Submit, row: Row) -> None:
    """The head killed and started again: the same command continues the run."""
    job = submit()
    kept = job.wait_for_checkpoint(after=3000)
    command("kill", "head")
    before = job.registered()["drawings_seen"]
    for host in ("head", "node1", "node2"):  # without the head's memory the nodes begin anew as well
        command("start", host)
    row.strike()
    job.submit()
    job.wait_for_checkpoint(after=before)
    row.recovered("from the same command on")
    job.succeeded()
    job.check(kept)
