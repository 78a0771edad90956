"""Rows of the fault table: disk, object store and memory that run out."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.faults.conftest import Row
from tests.cluster.faults.hog import FULL
from tests.cluster.faults.hosts import NODES, Job, command, short_of_memory, train_workers, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]
Submit = Callable[..., Job]


@pytest.fixture
def own_disks(submit: Submit) -> Iterator[None]:
    """Each node with a small disk of its own, for Ray and for checkpoints on their way."""
    for node in NODES:
        command("start", node, "--disk", "300m")
    yield
    for node in NODES:
        command("start", node)


def test_disk_full(own_disks: None, submit: Submit, row: Row) -> None:
    """The disk of the workers' node full: stops, says which disk, and goes on once there is room."""
    job = submit()
    kept = job.wait_for_checkpoint(after=3000)
    (node,) = train_workers()
    row.strike()
    command("fill", node)
    reason = job.failed()
    row.recovered("to the stop")
    assert f"no space left on /tmp of {node}" in reason
    job.check_checkpoints()
    command("free", node)
    job.submit().succeeded()
    job.check(kept)


def test_object_store_full(submit: Submit, row: Row, buckets: Path) -> None:
    """The object store of every node full, to the end: Ray spills to disk, and the run goes on."""
    job = submit(drawings=40_000)
    kept = job.wait_for_checkpoint(after=3000)
    hog = job.client.submit_job(entrypoint="python -m tests.cluster.faults.hog")
    try:
        wait_for(lambda: FULL in job.client.get_job_logs(hog), "full object stores")
        row.strike()
        job.wait_for_the_next_checkpoint()
        row.recovered()
        job.succeeded(300)
        hosts = buckets.parents[1]
        spilled = [
            sum(file.stat().st_size for file in (hosts / node).glob("tmp/ray/session_2*/ray_spilled*/*"))
            for node in NODES
        ]
    finally:
        job.client.stop_job(hog)
    row.note = f"{sum(spilled) / 1e6:,.0f} MB lay spilled at the end"
    assert min(spilled) > 200e6
    job.check(kept, attempts=1)


def test_worker_out_of_memory(submit: Submit, row: Row) -> None:
    """A worker killed by the kernel for want of memory: resumes by itself, and says why."""
    job = submit()
    kept = job.wait_for_checkpoint(after=3000)
    pid = next(iter(train_workers().values()))[0]
    with short_of_memory(pid) as is_killed:
        wait_for(is_killed, "the kernel's out-of-memory kill", every_s=0.1)
        row.strike()
    job.wait_for_the_next_checkpoint()
    row.recovered()
    job.succeeded()
    assert "for want of memory" in job.said()
    job.check(kept)
