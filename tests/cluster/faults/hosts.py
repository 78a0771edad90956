"""A cluster of several hosts under training jobs: what the fault rows submit, break, wait for and check."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster.hosts import network
from doodle_dist.data import storage
from doodle_dist.evaluation.audit_check import check_run
from doodle_dist.run.files import CURSOR
from doodle_dist.run.folder import read_run
from doodle_dist.training.checkpoint import load_state
from doodle_dist.training.checkpoint_store import fetch, stored_checkpoints

REPOSITORY = Path(__file__).parents[3]
RUNS, DATA = "s3://doodles/runs", "s3://doodles/data"
CATEGORIES = "cat,airplane,calculator,camera,computer,crayon,dragon,guitar,headphones,map,television"
GLOBAL_BATCH = 64

# A small net, slowed by nothing but its data and checkpoints: some 1,500 drawings a second on two cores.
SETTINGS = {
    "model.classifier.width": "4",
    "train.global_batch": str(GLOBAL_BATCH),
    "train.log_every_drawings": "500",
    "train.checkpoint_every_drawings": "1500",
    "optim.classifier.warmup_drawings": "2000",
    "data.window_bytes": "1000000",
    "data.audit": "true",
}


def command(*arguments: str) -> str:
    """`cluster/hosts/hosts.py` as a person runs it; what it printed."""
    line = [sys.executable, str(REPOSITORY / "cluster/hosts/hosts.py"), *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


NODES = ("node1", "node2")


def make_whole() -> None:
    """The cluster as it was made: its hosts running and plugged in, no others, the S3 server without faults."""
    for host in json.loads(command("list", "--json")):
        name = host["host"]
        if name.startswith("node") and name not in NODES:
            command("remove", name)
        elif (
            not host["running"] or host["cable"] == "cut"
        ):  # a node that was away for long ends once it is back
            command("start", name)
        elif host["cable"] == "slow":
            command("heal", name)
    command("s3", "ok")


def processes_named(host: str, name: str) -> list[int]:
    """The ids of a host's processes whose command line has ``name`` in it."""
    found = []
    for pid in network.processes(host):
        try:
            if name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


def name_of(pid: int) -> str:
    """The name of a process's program; "" where it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def train_workers() -> dict[str, list[int]]:
    """The nodes with Ray Train's workers on them, and those workers' process ids."""
    nodes = [host for host in network.hosts() if host.startswith("node")]
    found = {node: processes_named(node, "ray::RayTrainWorker") for node in nodes}
    return {node: pids for node, pids in found.items() if pids}


def kill_a_worker() -> None:
    """SIGKILL to one of Ray Train's workers."""
    pids = next(iter(train_workers().values()))
    os.kill(pids[0], signal.SIGKILL)


@contextmanager
def short_of_memory(pid: int) -> Iterator[Callable[[], bool]]:
    """Let a process have no more memory than it has; the kernel kills it at its next want. Whether it did.

    Skips where control groups can't be made.
    """
    root = Path("/sys/fs/cgroup")
    is_unified = (root / "cgroup.controllers").exists()
    group = (root if is_unified else root / "memory") / f"doodle-short-{pid}"
    limit, events = (
        ("memory.max", "memory.events") if is_unified else ("memory.limit_in_bytes", "memory.oom_control")
    )
    try:
        group.mkdir()
        (group / limit).write_text(str(1 << 20))  # what it has already counts for the group that it came from
    except OSError as error:
        pytest.skip(f"control groups of memory can't be made here: {error}")

    def is_killed() -> bool:
        counts = dict(line.split() for line in (group / events).read_text().splitlines())
        return int(counts["oom_kill"]) > 0

    try:
        (group / "cgroup.procs").write_text(str(pid))
        yield is_killed
    finally:
        for left in (group / "cgroup.procs").read_text().split():
            (group.parent / "cgroup.procs").write_text(left)
        wait_for(lambda: not (group / "cgroup.procs").read_text(), "an empty control group", 10)
        group.rmdir()


def wait_for(true: Callable[[], Any], what: str, timeout_s: float = 120.0, every_s: float = 0.5) -> Any:
    """Wait until ``true()`` gives something true, and return it."""
    deadline = time.monotonic() + timeout_s
    while not (found := true()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(every_s)
    return found


@dataclass
class Job:
    """A training run, submitted as a job, again each time that ``submit`` is called."""

    client: JobSubmissionClient
    run: str
    buckets: Path
    workers: str = "2"
    cpus: int = 1
    drawings: int = 15_000
    data: str = DATA
    settings: dict[str, str] = field(default_factory=dict)
    submission: str = ""

    @property
    def uri(self) -> str:
        return f"{RUNS}/{self.run}"

    @property
    def folder(self) -> Path:
        """Where the S3 server keeps the run: read behind its back, so that no fault is in the way."""
        return self.buckets / self.uri.removeprefix("s3://")

    def line(self) -> list[str]:
        """The command, the same every time."""
        overrides = SETTINGS | {"train.drawings": str(self.drawings)} | self.settings
        line = ["python", "-m", "doodle_dist.train", "classifier-small", "--workers", self.workers]
        line += ["--cpus", str(self.cpus), "--data", self.data, "--storage", RUNS, "--run", self.run]
        return [*line, *(f"--set={key}={value}" for key, value in overrides.items())]

    def submit(self) -> "Job":
        """`ray job submit`."""
        ray = str(Path(sys.executable).with_name("ray"))
        before = {job.submission_id for job in self.client.list_jobs()}
        submitted = [ray, "job", "submit", "--no-wait", "--", *self.line()]
        done = subprocess.run(submitted, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr or done.stdout
        (self.submission,) = {job.submission_id for job in self.client.list_jobs()} - before
        return self

    def run_on(self, host: str, timeout_s: float = 180.0) -> subprocess.CompletedProcess[str]:
        """The same command with its driver on a host that a person is logged in to, to its end."""
        line = [sys.executable, str(REPOSITORY / "cluster/hosts/hosts.py"), "exec", host, "--"]
        line += ["env", f"RAY_ADDRESS={network.address('head')}:6379", *self.line()]
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=timeout_s)

    def status(self) -> JobStatus:
        return self.client.get_job_status(self.submission)

    def said(self) -> str:
        """What the job printed, its driver's own words."""
        return self.client.get_job_logs(self.submission)

    def last_line(self) -> str:
        lines = [line for line in self.said().strip().splitlines() if "doodle-dist:" in line]
        return lines[-1] if lines else self.said()[-2000:]

    def ended(self, timeout_s: float = 180.0) -> JobStatus:
        """Wait for the job's end, whatever it is."""
        wait_for(lambda: self.status().is_terminal(), f"end of {self.run}", timeout_s)
        return self.status()

    def succeeded(self, timeout_s: float = 180.0) -> None:
        assert self.ended(timeout_s) == JobStatus.SUCCEEDED, self.said()[-3000:]

    def failed(self, timeout_s: float = 180.0) -> str:
        """Wait for a failure; the one line that the command gave as its reason."""
        assert self.ended(timeout_s) == JobStatus.FAILED, self.said()[-3000:]
        assert "Traceback" not in self.said(), self.said()[-3000:]
        return self.last_line()

    # --- checkpoints --------------------------------------------------------------------------------------

    def registered(self) -> dict[str, int]:
        """The newest committed checkpoint: {"step", "drawings_seen"}, both 0 where there is none."""
        # From the server's own folder: its proxy may be broken at this moment.
        newest = next(reversed(stored_checkpoints(str(self.folder))), None)
        if newest is None:
            return {"step": 0, "drawings_seen": 0}
        try:
            cursor = orjson.loads((Path(newest.uri) / CURSOR).read_bytes())
        except FileNotFoundError:  # swept meanwhile, since a newer one is there
            return self.registered()
        return {key: int(cursor[key]) for key in ("step", "drawings_seen")}

    def wait_for_checkpoint(self, after: int = 0, timeout_s: float = 150.0) -> dict[str, int]:
        """Wait until a checkpoint of more than ``after`` drawings is registered."""

        def newer() -> dict[str, int] | None:
            found = self.registered()
            if found["drawings_seen"] > after:
                return found
            assert not self.status().is_terminal(), self.said()[-3000:]
            return None

        return wait_for(newer, f"a checkpoint of {self.run} after {after:,} drawings", timeout_s)

    def wait_for_the_next_checkpoint(self, timeout_s: float = 150.0) -> dict[str, int]:
        """Wait until there is a newer checkpoint than at this moment."""
        return self.wait_for_checkpoint(after=self.registered()["drawings_seen"], timeout_s=timeout_s)

    def attempt_starts(self) -> dict[int, int]:
        """The first step of each start of the worker group that got as far as to write its audit."""
        starts: dict[int, int] = {}
        for file in self.folder.glob("audit/attempt-*/rank-*/*.arrow"):
            attempt = int(file.parent.parent.name.removeprefix("attempt-"))
            starts[attempt] = min(int(file.stem), starts.get(attempt, int(file.stem)))
        return starts

    def ranks(self, attempt: int) -> int:
        """How many workers an attempt had."""
        return len(list(self.folder.glob(f"audit/attempt-{attempt:04d}/rank-*")))

    def check(self, kept: dict[str, int], attempts: int = 2, before: int = 1) -> None:
        """Exactly once, to the end, in ``attempts`` starts or more; and no checkpoint lost.

        ``kept`` was registered when the fault struck, after ``before`` starts: nothing may have been begun from before
        it after that.
        """
        audit = check_run(self.uri)
        assert audit.problems == ()
        assert audit.complete_epochs >= 1
        final = read_run(self.uri).drawings_seen
        assert self.drawings <= final < self.drawings + GLOBAL_BATCH
        assert final == self.registered()["drawings_seen"] == audit.rows
        starts = self.attempt_starts()
        assert len(starts) >= attempts, starts
        assert all(step >= kept["step"] for step in list(dict(sorted(starts.items())).values())[before:]), (
            starts,
            kept,
        )
        self.check_checkpoints()

    def check_checkpoints(self) -> None:
        """Every committed checkpoint is what was committed, and loads."""
        checkpoints = stored_checkpoints(str(self.folder))
        assert checkpoints
        for checkpoint in checkpoints:
            with tempfile.TemporaryDirectory() as folder:
                fetch(checkpoint, Path(folder))
                cursor = orjson.loads((Path(folder) / CURSOR).read_bytes())
                assert cursor["drawings_seen"] == checkpoint.drawings_seen
                load_state(Path(folder), torch.device("cpu"))


def requests_under_way(buckets: Path, what: str) -> bool:
    """Whether the S3 server was sent a request with ``what`` in it that it has not answered."""
    lines = (buckets.parent / "requests.log").read_text().splitlines()
    came = [line[2:] for line in lines if line.startswith("> ") and what in line]
    answered = [line.split(" ", 1)[1] for line in lines if not line.startswith("> ") and what in line]
    return len(came) > len(answered)


def copy_dataset(to: str) -> list[str]:
    """Copy the dataset through the S3 server; the URIs of the training split's shards."""
    for file in storage.list_files(DATA, recursive=True, hidden=True):
        storage.write_atomic(file.uri.replace(DATA, to, 1), storage.read_bytes(file.uri))
    return [file.uri for file in storage.list_files(f"{to}/train", (".parquet",))]
