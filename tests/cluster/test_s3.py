"""The same job from and to an object store: a real S3 server on loopback."""

import os
from pathlib import Path

import orjson
import pytest

from doodle_dist.run.folder import read_metrics_log
from tests.cluster.test_train import TINY, doodle_dist
from tests.conftest import write_drawings
from tests.s3 import S3Server

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def test_prepare_train_resume_sample_from_and_to_s3(s3_env: S3Server, s3_bucket: str, tmp_path: Path) -> None:
    write_drawings(tmp_path / "raw", {"cat": 300, "dog": 300})
    data, runs = f"{s3_bucket}/data", f"{s3_bucket}/runs"
    done = doodle_dist(
        "data", "prepare", "--local", "--source", str(tmp_path / "raw"), "--to", data, "--split", "80,10,10"
    )
    assert done.returncode == 0, done.stderr
    verified = doodle_dist("data", "verify", data)
    assert verified.returncode == 0, verified.stdout + verified.stderr

    train = ["train", "classifier-small", "--local", "--workers", "2", "--data", data, "--storage", runs]
    train += ["--run", "stored", *TINY, "--set=train.checkpoint_every_drawings=1000"]
    for drawings in (2000, 4000):  # the second goes on where the first ended
        done = doodle_dist(*train, f"--set=train.drawings={drawings}")
        assert done.returncode == 0, done.stderr
    audit = doodle_dist("audit", f"{runs}/stored")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert "every drawing exactly once per epoch" in audit.stdout

    listed = doodle_dist("runs", "list", runs, "--json")
    assert listed.returncode == 0, listed.stderr
    (run,) = orjson.loads(listed.stdout)
    assert (run["name"], run["task"], run["drawings"]) == ("stored", "classifier", 4000)
    seen = [line["drawings_seen"] for line in read_metrics_log(f"{runs}/stored") if "loss/classifier" in line]
    assert seen == sorted(set(seen))
    assert seen[0] < 1000
    assert seen[-1] >= 4000

    bucket = s3_env.root / s3_bucket.removeprefix("s3://")
    assert list(bucket.glob("runs/stored/tensorboard/events*"))
    assert {path.name for path in (bucket / "runs/stored/audit").iterdir()} == {
        "attempt-0000",
        "attempt-0001",
    }
    secret = os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    leaks = [f for f in bucket.rglob("*") if f.is_file() and secret in f.read_bytes()]
    assert leaks == []
    assert secret.decode() not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "refused the key"),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}, "unreachable"),
    ],
)
def test_a_store_that_refuses_or_is_away_is_one_line(
    s3_env: S3Server, s3_bucket: str, environ: dict[str, str], named: str
) -> None:
    answer = doodle_dist("train", "classifier-small", "--local", "--data", f"{s3_bucket}/data", **environ)
    assert answer.returncode == 2
    assert named in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


def test_a_missing_bucket_is_one_line(s3_env: S3Server) -> None:
    answer = doodle_dist("train", "classifier-small", "--local", "--data", "s3://nowhere-to-be-found/data")
    assert answer.returncode == 2
    assert "nowhere-to-be-found" in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1
