"""A run in an object store that is asked to end, refused, resumed by as many workers as there is room for, damaged.

The store is a real S3 server on loopback: prepared, trained, audited and listed from and to it.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import orjson
import pytest
import ray

from doodle_dist.data import filesystems, retry, storage
from doodle_dist.evaluation.audit_check import check_run
from doodle_dist.run.folder import read_metrics_log
from doodle_dist.training.checkpoint_store import stored_checkpoints
from tests.cluster.test_train import TINY, Command, running
from tests.conftest import write_drawings
from tests.datasets import prepare_here
from tests.s3 import S3Server

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def command(dataset: str, runs: str, workers: str, drawings: int) -> list[str]:
    places = ["--data", dataset, "--storage", runs, "--run", "asked"]
    length = f"--set=train.drawings={drawings}"
    return ["train", "classifier-small", "--workers", workers, *places, *TINY, length]


def wait_for_a_checkpoint(uri: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 150
    while not stored_checkpoints(uri):
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.3)  # a look is several requests


def test_from_and_to_s3_it_is_stopped_goes_on_and_is_damaged(
    s3_env: S3Server, s3_bucket: str, tmp_path: Path, here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a driver of its own on the Ray that is there, as a person's on a cluster."""
    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    write_drawings(tmp_path / "raw", {"cat": 700, "dog": 500})
    data, runs, log = f"{s3_bucket}/data", f"{s3_bucket}/runs", tmp_path / "log"
    uri, bucket = f"{runs}/asked", s3_env.root / s3_bucket.removeprefix("s3://")
    done = here(
        "data", "prepare", "--local", "--source", str(tmp_path / "raw"), "--to", data, "--split", "80,10,10"
    )
    assert done.returncode == 0, done.stderr
    verified = here("data", "verify", data)
    assert verified.returncode == 0, verified.stdout + verified.stderr

    with running(command(data, runs, "2", 10_000_000), log) as process:
        wait_for_a_checkpoint(uri, log, process)
        second = here(*command(data, runs, "1", 4000))
        assert second.returncode == 2, second.stderr
        assert f"held by process {process.pid} on " in second.stderr
        assert len(second.stderr.strip().splitlines()) == 1
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(60) == 0, log.read_text()[-3000:]
        assert time.monotonic() - began < 30, "what `ray job stop` gives it"
    *before, saved = stored_checkpoints(uri)
    assert before
    assert f"stopped at drawing {saved.drawings_seen:,}; the same command goes on" in log.read_text()

    state = f"{saved.uri}/state.pt"
    storage.write_atomic(state, storage.read_bytes(state)[:100])
    total = saved.drawings_seen + 2000
    done = here(*command(data, runs, "1:2", total))
    assert done.returncode == 0, done.stderr
    assert saved.name in done.stderr
    assert "damaged" in done.stderr
    assert saved.name not in {path.name for path in (bucket / "runs/asked").iterdir()}, "it is swept"
    audit = here("audit", uri)
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert "every drawing exactly once per epoch" in audit.stdout
    result = check_run(uri)
    assert result.problems == ()
    assert total <= result.rows < total + 64
    assert {path.name for path in (bucket / "runs/asked/audit").iterdir()} == {"attempt-0000", "attempt-0001"}
    ranks = {path.name for path in (bucket / "runs/asked/audit/attempt-0001").iterdir()}
    assert len(ranks) >= 2, "as many workers as there is room for"

    listed = here("runs", "list", runs, "--json")
    assert listed.returncode == 0, listed.stderr
    (run,) = orjson.loads(listed.stdout)
    assert (run["name"], run["task"], run["drawings"]) == ("asked", "classifier", total)
    seen = [line["drawings_seen"] for line in read_metrics_log(uri) if "loss/classifier" in line]
    assert seen == sorted(set(seen)), "the second went on where the last whole checkpoint was"
    assert seen[0] < 1000
    assert seen[-1] >= total
    assert list(bucket.glob("runs/asked/tensorboard/events*"))

    secret = os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    leaks = [f for f in bucket.rglob("*") if f.is_file() and secret in f.read_bytes()]
    assert leaks == []
    assert secret.decode() not in log.read_text() + done.stdout + done.stderr


def test_an_altered_shard_ends_a_run_at_once_with_its_name(tmp_path: Path, here: Command) -> None:
    dataset = prepare_here(tmp_path, {"cat": 700, "dog": 500}, split=(80.0, 10.0, 10.0))
    shard = sorted(Path(dataset, "train").glob("*.parquet"))[0]
    content = bytearray(shard.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 16] = bytes(byte ^ 0xFF for byte in content[middle : middle + 16])
    shard.write_bytes(content)
    # Were it tried again for each failure that is allowed, this would take an hour.
    done = here(*command(dataset, str(tmp_path / "runs"), "1", 4000), "--set=train.max_failures=1000")
    assert done.returncode == 1, done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert shard.name in last
    assert "damaged" in last
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "refused the key"),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}, "unreachable"),
    ],
)
def test_a_store_that_refuses_or_is_away_is_one_line(
    s3_env: S3Server,
    s3_bucket: str,
    environ: dict[str, str],
    named: str,
    here: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filesystems, "MAX_ATTEMPTS", 1)
    monkeypatch.setattr(retry, "_process_patience_s", 0.2)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    filesystems.forget_filesystems()
    answer = here("train", "classifier-small", "--local", "--data", f"{s3_bucket}/data")
    assert answer.returncode == 2
    assert named in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


def test_a_missing_bucket_is_one_line(s3_env: S3Server, here: Command) -> None:
    answer = here("train", "classifier-small", "--local", "--data", "s3://nowhere-to-be-found/data")
    assert answer.returncode == 2
    assert "nowhere-to-be-found" in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1
