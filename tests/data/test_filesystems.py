"""Filesystems: which endpoint they ask, that they travel to workers, and that they need no settings."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pyarrow.fs
import pytest

from doodle_dist.data import filesystems, locations, storage


def test_filesystems_can_be_sent_to_workers(place: str) -> None:
    uri = locations.join(place, "a.txt")
    storage.write_atomic(uri, b"abc")
    for build in (filesystems.filesystem, filesystems.train_filesystem):
        fs, path = build(uri)
        assert isinstance(fs, pyarrow.fs.FileSystem)
        with pickle.loads(pickle.dumps(fs)).open_input_file(path) as file:
            assert file.read() == b"abc"
    fs, path = filesystems.fsspec_filesystem(uri)
    assert fs.cat_file(path) == b"abc"


def test_endpoint_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "config"
    config.write_text("[default]\nendpoint_url = http://file:1\n[profile p]\nendpoint_url = http://p:1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert filesystems.s3_endpoint() is None
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert filesystems.s3_endpoint() == "http://file:1"
    monkeypatch.setenv("AWS_PROFILE", "p")
    assert filesystems.s3_endpoint() == "http://p:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://all:1")
    assert filesystems.s3_endpoint() == "http://all:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3:1/")
    assert filesystems.s3_endpoint() == "http://s3:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "minio:9000")
    with pytest.raises(ValueError, match="is no URL"):
        filesystems.s3_endpoint()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://user:topsecret@minio:9000")
    with pytest.raises(ValueError, match="must not hold") as error:
        filesystems.s3_endpoint()
    assert "topsecret" not in str(error.value)


def test_uploads_need_no_setting_of_the_person(s3_bucket: str) -> None:
    """Newer SDKs add checksum trailers that this server refuses; a fresh process must not."""
    code = (
        "from doodle_dist.data import filesystems, storage\n"
        f"storage.write_atomic('{s3_bucket}/a', b'1')\n"
        f"fs, path = filesystems.train_filesystem('{s3_bucket}/runs')\n"
        "fs.create_dir(path, recursive=True)\n"
        "with fs.open_output_stream(path + '/b') as f: f.write(b'2')\n"
    )
    environment = {k: v for k, v in os.environ.items() if "CHECKSUM" not in k}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)
    assert storage.read_bytes(f"{s3_bucket}/a") == b"1"
    assert storage.read_bytes(f"{s3_bucket}/runs/b") == b"2"


def test_results_cannot_go_to_a_web_server() -> None:
    with pytest.raises(ValueError, match="read-only"):
        filesystems.train_filesystem("http://host/runs")
