"""A run that is asked to end, refused, resumed, damaged, and trained by as many workers as there is room for."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from doodle_dist.evaluation.audit_check import check_run
from doodle_dist.training.checkpoint_store import stored_checkpoints
from tests.cluster.test_train import TINY, doodle_dist, running
from tests.datasets import prepare_here

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def command(dataset: str, runs: Path, workers: str, drawings: int) -> list[str]:
    places = ["--data", dataset, "--storage", str(runs), "--run", "asked"]
    often = ["--set=train.checkpoint_every_drawings=100000", f"--set=train.drawings={drawings}"]
    return ["train", "classifier-small", "--local", "--workers", workers, *places, *TINY, *often]


def wait_for(log: Path, process: subprocess.Popen[bytes], run: Path) -> None:
    """Until it trains: its first audit or log is there."""
    deadline = time.monotonic() + 150
    while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").stat().st_size:
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)


def test_sigterm_saves_and_the_same_command_goes_on(tmp_path: Path) -> None:
    dataset = prepare_here(tmp_path, {"cat": 700, "dog": 500}, split=(80.0, 10.0, 10.0))
    runs, log = tmp_path / "runs", tmp_path / "log"
    with running(command(dataset, runs, "2", 10_000_000), log) as process:
        wait_for(log, process, runs / "asked")
        second = doodle_dist(*command(dataset, runs, "1", 4000))
        assert second.returncode == 2, second.stderr
        assert f"held by process {process.pid} on " in second.stderr
        assert len(second.stderr.strip().splitlines()) == 1
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(60) == 0, log.read_text()[-3000:]
        assert time.monotonic() - began < 30, "what `ray job stop` gives it"
    (saved,) = stored_checkpoints(str(runs / "asked"))
    assert f"stopped at drawing {saved.drawings_seen:,}; the same command goes on" in log.read_text()

    total = saved.drawings_seen + 2000
    done = doodle_dist(*command(dataset, runs, "1:3", total))
    assert done.returncode == 0, done.stderr
    result = check_run(str(runs / "asked"))
    assert result.problems == ()
    assert total <= result.rows < total + 64
    ranks = {path.name for path in (runs / "asked/audit/attempt-0001").iterdir()}
    assert len(ranks) >= 2, "as many workers as there is room for"

    newest = stored_checkpoints(str(runs / "asked"))[-1]
    os.truncate(Path(newest.uri) / "state.pt", 100)
    again = doodle_dist(*command(dataset, runs, "1", total + 500))
    assert again.returncode == 0, again.stderr
    assert newest.name in again.stderr
    assert "damaged" in again.stderr
    result = check_run(str(runs / "asked"))
    assert result.problems == ()
    assert result.rows >= total + 500
    assert newest.name not in {path.name for path in (runs / "asked").iterdir()}, "it is swept"


def test_an_altered_shard_ends_a_run_at_once_with_its_name(tmp_path: Path) -> None:
    dataset = prepare_here(tmp_path, {"cat": 700, "dog": 500}, split=(80.0, 10.0, 10.0))
    shard = sorted(Path(dataset, "train").glob("*.parquet"))[0]
    content = bytearray(shard.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 16] = bytes(byte ^ 0xFF for byte in content[middle : middle + 16])
    shard.write_bytes(content)
    # Were it tried again for each failure that is allowed, this would take an hour.
    done = doodle_dist(*command(dataset, tmp_path / "runs", "1", 4000), "--set=train.max_failures=1000")
    assert done.returncode == 1, done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert shard.name in last
    assert "damaged" in last
    assert "Traceback" not in done.stderr
