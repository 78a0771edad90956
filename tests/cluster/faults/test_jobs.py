"""Rows of the fault table: jobs that are stopped or stop themselves; and the same run on one host and on three."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from doodle_dist.run.folder import read_metrics_log
from tests.cluster.faults.conftest import Row
from tests.cluster.faults.hosts import DATA, REPOSITORY, SETTINGS, Job

pytestmark = [pytest.mark.faults, pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]
Submit = Callable[..., Job]


def test_nan_injected(submit: Submit, row: Row) -> None:
    """A NaN: stops, names step and batch, the last good checkpoint intact."""
    job = submit(drawings=6000)
    job.succeeded()
    kept = job.registered()
    job.drawings = 12_000
    # Decoupled weight decay of lr * decay = 100 multiplies every weight by -99 a step.
    overflowing = {"lr": "10", "weight_decay": "10", "schedule": "constant", "warmup_drawings": "0"}
    job.settings = {f"optim.classifier.{key}": value for key, value in overflowing.items()}
    row.strike()
    reason = job.submit().failed()
    row.recovered("from the command to the stop")
    assert job.registered() == kept
    assert re.search(r"not finite .* at step \d+, .* the batch's key_ids begin \d+", reason), reason
    assert f"last good checkpoint: {job.uri}/checkpoint_{kept['drawings_seen']:012d}" in reason
    job.check_checkpoints()
    job.settings = {}
    job.submit().succeeded()
    job.check(kept)


def test_ray_job_stop(submit: Submit, row: Row) -> None:
    """`ray job stop` (SIGTERM): a checkpoint, then the end within 30 s; the same command continues."""
    job = submit()
    kept = job.wait_for_checkpoint(after=3000)
    row.strike()
    job.client.stop_job(job.submission)
    job.ended(60)
    row.recovered("to the stop")
    assert row.recover_s < 30
    saved = job.registered()
    assert saved["drawings_seen"] > kept["drawings_seen"]
    every = int(SETTINGS["train.checkpoint_every_drawings"])
    assert saved["drawings_seen"] % every >= 64, "a checkpoint of its own, not one that was due"
    job.submit().succeeded()
    job.check(saved)


def test_two_runs_of_one_name(submit: Submit, row: Row) -> None:
    """Two runs of one name, on two hosts: the second is refused, told who holds it; a dead one's is taken over."""
    job = submit(drawings=60_000)
    kept = job.wait_for_checkpoint(after=3000)
    second = job.run_on("node2")
    assert second.returncode == 2, second.stderr
    assert len(second.stderr.strip().splitlines()) == 1, second.stderr
    (holder,) = re.findall(rf"run {job.run} in {job.uri} is held by process (\d+) on head", second.stderr)
    assert not job.status().is_terminal(), "the first goes on"
    row.strike()
    os.kill(int(holder), signal.SIGKILL)
    job.ended()
    job.submit().wait_for_the_next_checkpoint()
    row.recovered("from the kill of the first driver")
    job.succeeded()
    job.check(kept)


def test_three_hosts_give_the_curve_of_one(submit: Submit, row: Row, tmp_path: Path) -> None:
    """No fault: a worker on each of two nodes, by a job, gives the loss curve of one host."""
    row.strike()
    job = submit(cpus=2, drawings=9000)
    job.succeeded()
    settings = [f"--set={key}={value}" for key, value in (SETTINGS | {"train.drawings": "9000"}).items()]
    line = [sys.executable, "-m", "doodle_dist.train", "classifier-small", "--local", "--workers", "2"]
    line += ["--data", DATA, "--storage", str(tmp_path), "--run", "one-host", *settings]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    one, three = read_metrics_log(str(tmp_path / "one-host")), read_metrics_log(job.uri)
    assert [line["drawings_seen"] for line in one] == [line["drawings_seen"] for line in three]
    assert len(one) >= 18
    for here, there in zip(one, three, strict=True):
        assert here.keys() == there.keys()
        for name in here:
            if not name.startswith("speed/"):
                assert there[name] == pytest.approx(here[name], rel=1e-4, abs=1e-6), (
                    name,
                    here["drawings_seen"],
                )
    worst = max(
        abs(here["loss/classifier"] - there["loss/classifier"]) / here["loss/classifier"]
        for here, there in zip(one, three, strict=True)
        if "loss/classifier" in here
    )
    row.recovered(f"largest relative difference of the loss {worst:.1e}")
