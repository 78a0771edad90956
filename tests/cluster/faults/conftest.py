"""One cluster for all rows of the fault table, and the table at the end."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ray.job_submission import JobSubmissionClient

from doodle_dist.bench.machine import Machine
from doodle_dist.data import filesystems, storage
from tests.cluster.faults.hosts import CATEGORIES, DATA, REPOSITORY, Job, command, make_whole
from tests.cluster.faults.table import FaultRow, keep, read_table

_KEEP = "DOODLE_KEEP_HOSTS"


# --- the table -------------------------------------------------------------------------------------------


@dataclass
class Row:
    """A line of the table. ``recover_s`` is from the fault, or its end, to the next checkpoint."""

    fault: str
    recover_s: float | None = None
    note: str = ""
    struck: float = field(default_factory=time.monotonic)

    def strike(self) -> None:
        """The fault is there, or has ended, as of now."""
        self.struck = time.monotonic()

    def recovered(self, note: str = "") -> None:
        """The run is known to go on, or has stopped as it should."""
        self.recover_s = time.monotonic() - self.struck
        self.note = note


_ROW = pytest.StashKey[Row]()
_KEPT = pytest.StashKey[bool]()


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Row:
    """This test's line in the table: the first line of its docstring."""
    line = Row(request.function.__doc__.splitlines()[0].rstrip("."))
    request.node.stash[_ROW] = line
    return line


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[pytest.TestReport]:
    report = yield
    line = item.stash.get(_ROW, None)
    if call.when == "call" and line and report.outcome != "skipped":
        keep(
            FaultRow(
                test=f"{item.path.name}::{item.name}",
                fault=line.fault,
                outcome="holds" if report.passed else "FAILS",
                recover_s=None if line.recover_s is None else round(line.recover_s, 1),
                note=line.note,
                machine=Machine.here(),
            )
        )
        item.config.stash[_KEPT] = True
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash.get(_KEPT, False):
        terminalreporter.section("fault table")
        terminalreporter.write_line(read_table().markdown())


# --- the cluster -----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def buckets(shared_data: Path) -> Iterator[Path]:
    """A head, two nodes of three CPUs and an S3 server with a prepared dataset; where its buckets lie.

    Set DOODLE_KEEP_HOSTS to leave it running for the next call.
    """
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("several hosts on one machine take Linux, root and iproute2")
    command("up", "--nodes", "2", "--cpus", "3", "--s3")
    exports = [line.removeprefix("export ").split("=", 1) for line in command("env").splitlines()]
    before = dict(os.environ)
    os.environ.update(dict(exports))
    filesystems.forget_filesystems()
    try:
        if not storage.exists(f"{DATA}/manifest.json"):
            prepare = ["data", "prepare", "--source", str(shared_data / "simplified"), "--to", DATA]
            prepare += [
                "--categories",
                CATEGORIES,
                "--split",
                "80,10,10",
                "--row-group",
                "64",
                "--shards",
                "8",
            ]
            ray = str(Path(sys.executable).with_name("ray"))
            line = [ray, "job", "submit", "--", "python", "-m", "doodle_dist.cli", *prepare]
            done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=REPOSITORY)
            assert done.returncode == 0, done.stdout + done.stderr
        yield Path("/var/tmp/doodle-hosts/s3/buckets")
    finally:
        os.environ.clear()
        os.environ.update(before)
        filesystems.forget_filesystems()
        if _KEEP not in os.environ:
            command("down")


@pytest.fixture
def submit(buckets: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Job]]:
    """Submit a run named after the test, on a cluster that is whole; ended, if need be, and healed afterwards."""
    make_whole()
    jobs: list[Job] = []

    def submit(**options: object) -> Job:
        name = f"{request.node.name.removeprefix('test_').replace('_', '-')}-{os.getpid()}-{len(jobs)}"
        # Ray reads RAY_AUTH_MODE once, when it is imported, and this process has other tests too.
        token = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text()
        headers = {"Authorization": f"Bearer {token}"}
        client = JobSubmissionClient(os.environ["RAY_ADDRESS"], headers=headers)
        job = Job(client, options.pop("run", name), buckets, **options)
        jobs.append(job)
        return job.submit()

    yield submit
    make_whole()
    for job in jobs:
        if not job.status().is_terminal():
            job.client.stop_job(job.submission)
            job.ended(90)
