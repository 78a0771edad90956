"""The fault table's soak: processes and hosts killed at random, for twenty minutes (DOODLE_SOAK_MINUTES) and until
forty were killed; a slow machine gets half as long again."""

import json
import os
import random
import signal
import statistics
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from ray.job_submission import JobStatus

from tests.cluster.faults.conftest import Row
from tests.cluster.faults.hosts import (
    NODES,
    Job,
    command,
    make_whole,
    name_of,
    processes_named,
    train_workers,
    wait_for,
)

MINUTES = float(os.environ.get("DOODLE_SOAK_MINUTES", "20"))
KILLS_A_MINUTE = 2
CHECKPOINT_EVERY = 2_500
_IN_A_ROW = 0.75  # how often the next kill does not wait for the recovery from this one

pytestmark = [
    pytest.mark.faults,
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(2 * MINUTES * 60 + 900),
]


class Killer:
    """Kills at random what belongs to a run, and does what a person or a cluster's manager would do about it."""

    def __init__(self, job: Job, seed: int) -> None:
        self.job, self.random = job, random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.ends: list[
            str
        ] = []  # what a run said that ended by itself, such as one that starts without a store

    def strike(self) -> None:
        """One of the ways, most often a worker."""
        ways: dict[Callable[[], None], int] = {
            self.worker: 12, self.all_workers: 2, self.task: 4, self.driver: 2, self.node: 2, self.store: 1,
        }  # fmt: skip
        (way,) = self.random.choices(list(ways), list(ways.values()))
        print(f"{time.strftime('%H:%M:%S')} {way.__name__}", flush=True)
        way()

    def _kill(self, kind: str, pids: list[int]) -> None:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            self.kills[kind] += 1

    def worker(self) -> None:
        pids = [pid for pids in train_workers().values() for pid in pids]
        self._kill("workers", self.random.sample(pids, min(1, len(pids))))

    def all_workers(self) -> None:
        self._kill("workers", [pid for pids in train_workers().values() for pid in pids])

    def task(self) -> None:
        """A process of Ray's for tasks: one that reads the run's data, or waits for work."""
        pids = [
            pid
            for node in NODES
            for name in ("ray::MapBatches(read)", "ray::IDLE")
            for pid in processes_named(node, name)
        ]
        self._kill("processes of tasks", self.random.sample(pids, min(1, len(pids))))

    def driver(self) -> None:
        """The run's driver; a person types the same command again."""
        named = processes_named("head", self.job.run)
        # The shell that waits for it is named by the run too.
        drivers = [pid for pid in named if name_of(pid).startswith("python")]
        self._kill("drivers", drivers[:1])
        if drivers:
            wait_for(lambda: self.job.status().is_terminal(), "end of a job whose driver was killed")
            self.job.submit()

    def node(self) -> None:
        """A node, back after a moment."""
        node = self.random.choice(NODES)
        command("kill", node)
        self.kills["nodes"] += 1
        time.sleep(self.random.uniform(0, 5))
        command("start", node)

    def store(self) -> None:
        """The S3 server, back after a moment."""
        command("kill", "s3")
        self.kills["S3 servers"] += 1
        time.sleep(self.random.uniform(0, 5))
        command("start", "s3")


def _listed(job: Job, what: str) -> list[dict]:
    """Ray's list of actors or placement_groups, by its dashboard."""
    request = urllib.request.Request(f"{os.environ['RAY_ADDRESS']}/api/v0/{what}?limit=10000&detail=1")
    request.add_header("Authorization", f"Bearer {Path(os.environ['RAY_AUTH_TOKEN_PATH']).read_text()}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["data"]["result"]["result"]


def left_behind(job: Job) -> list[str]:
    """The actors and placement groups that outlived the cluster's last run.

    Ray's own, detached and one of each name in a cluster, are there to stay.
    """
    actors = [
        f"actor {actor['class_name']} of job {actor['job_id']}"
        for actor in _listed(job, "actors")
        if actor["state"] != "DEAD"
        and not (actor["is_detached"] and actor["name"] and actor["class_name"] != "JobSupervisor")
    ]
    groups = [
        f"placement group {group['placement_group_id']} ({group['state']})"
        for group in _listed(job, "placement_groups")
        if group["state"] != "REMOVED"
    ]
    return actors + groups


def _newest(job: Job, seen: int) -> int:
    """The drawings of the newest checkpoint, when there was one of ``seen`` before."""
    found = job.registered()["drawings_seen"]
    assert found >= seen, "a checkpoint was lost"
    return found


def _next_checkpoint(killer: Killer, seen: int) -> int:
    """Wait for a checkpoint of more than ``seen`` drawings; how many it has."""

    def newer() -> int:
        found = _newest(killer.job, seen)
        if killer.job.status().is_terminal():
            killer.ends.append(killer.job.last_line())
            print(killer.ends[-1])
            killer.job.submit()
        return found if found > seen else 0

    try:
        return wait_for(newer, f"a checkpoint after {seen:,} drawings", 240)
    except AssertionError:
        print(killer.job.status(), killer.job.said()[-4000:], *left_behind(killer.job), sep="\n")
        raise


def test_soak(submit: Callable[..., Job], row: Row) -> None:
    """Random kills of workers, tasks, drivers, nodes and the S3 server."""
    seed = int(os.environ.get("DOODLE_SOAK_SEED", time.time_ns() % 10_000))
    job = submit(
        workers="1:2",
        cpus=2,
        drawings=100_000_000,
        settings={"train.max_failures": "100000", "train.checkpoint_every_drawings": str(CHECKPOINT_EVERY)},
    )
    seen = job.wait_for_checkpoint()["drawings_seen"]
    killer, recoveries, began = Killer(job, seed), [], time.monotonic()
    print(f"seed {seed}")

    def goes_on() -> bool:
        minutes = (time.monotonic() - began) / 60
        return minutes < MINUTES or (
            minutes < 1.5 * MINUTES and killer.kills.total() < KILLS_A_MINUTE * MINUTES
        )

    while goes_on():
        seen, struck = _newest(job, seen), time.monotonic()
        killer.strike()
        if killer.random.random() < _IN_A_ROW:  # the next one comes while this one is being recovered from
            time.sleep(killer.random.uniform(0, 8))
            continue
        seen = _next_checkpoint(killer, seen)
        recoveries.append(time.monotonic() - struck)
        print(
            f"{struck - began:.0f} s: {dict(killer.kills)}, a checkpoint after {recoveries[-1]:.0f} s",
            flush=True,
        )
        time.sleep(killer.random.uniform(0, 3))
    minutes = (time.monotonic() - began) / 60
    make_whole()
    _next_checkpoint(killer, seen)
    job.client.stop_job(job.submission)
    assert job.ended(90) in (JobStatus.STOPPED, JobStatus.SUCCEEDED), job.said()[-3000:]
    job.drawings = job.registered()["drawings_seen"] + CHECKPOINT_EVERY
    job.submit().succeeded(300)

    starts = len(job.attempt_starts())
    of_what = ", ".join(f"{n} {kind}" for kind, n in killer.kills.most_common())
    row.recover_s = statistics.median(recoveries)
    row.note = (
        f"{killer.kills.total()} kills in {minutes:.0f} min ({of_what}; seed {seed}), {starts} starts of the workers, "
        f"the command typed again {killer.kills['drivers'] + len(killer.ends)} times, {job.drawings:,} drawings; "
        f"the median is given, the longest was {max(recoveries):.0f} s"
    )
    print(row.note)
    job.check({"step": 0, "drawings_seen": 0}, attempts=2)
    wait_for(lambda: not left_behind(job), "a cluster without actors and placement groups of ended runs", 60)
    assert killer.kills.total() >= KILLS_A_MINUTE * MINUTES
    assert all("is unreachable" in said for said in killer.ends), killer.ends
