"""`cluster/hosts` where it needs neither root nor Ray: its proxy in front of a real S3 server, and its refusals."""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from doodle_dist.data import filesystems, retry, storage
from doodle_dist.data.retry import patience
from doodle_dist.data.storage_errors import StorageError
from tests.s3 import S3Server, free_port

HOSTS = Path(__file__).parents[2] / "cluster" / "hosts"


class Proxied:
    """A proxy in front of the test's S3 server."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self.faults = folder / "faults.json"
        self.log = folder / "requests.log"

    def set(self, **faults: float) -> None:
        self.faults.write_text(json.dumps(faults))

    def status(self) -> int:
        """What a request without a key is answered."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/")
        return connection.getresponse().status


@pytest.fixture
def proxied(
    s3_env: S3Server, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Proxied, str]]:
    proxy = Proxied(free_port(), tmp_path)
    line = [sys.executable, str(HOSTS / "s3_proxy.py"), "--listen", f"127.0.0.1:{proxy.port}"]
    line += ["--to", s3_env.endpoint, "--faults", str(proxy.faults), "--log", str(proxy.log)]
    process = subprocess.Popen(line)
    try:
        for _ in range(200):
            try:
                proxy.status()
                break
            except OSError:
                time.sleep(0.1)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{proxy.port}")
        filesystems.forget_filesystems()
        yield proxy, s3_bucket
    finally:
        process.terminate()
        process.wait(10)


def test_what_is_written_and_read_through_it_is_the_same(proxied: tuple[Proxied, str]) -> None:
    proxy, bucket = proxied
    # Signatures cover the path as it was written, so names that are escaped are the ones to try.
    content = {f"{bucket}/a/{name}": os.urandom(size) for name, size in
               (("plain", 10), ("paint can.ndjson", 0), ("é+%=1", 3_000_000), ("large", 12_000_000))}  # fmt: skip
    for uri, data in content.items():
        storage.write_atomic(uri, data)
    assert {file.uri: file.size for file in storage.list_files(f"{bucket}/a")} == {
        uri: len(data) for uri, data in content.items()
    }
    for uri, data in content.items():
        assert storage.read_bytes(uri) == data
        if data:
            assert storage.read_bytes(uri, 5, 100) == data[5:105]
    storage.delete_prefix(f"{bucket}/a/plain")
    assert not storage.exists(f"{bucket}/a/plain")
    came = [line for line in proxy.log.read_text().splitlines() if line.startswith("> PUT")]
    assert len(came) >= len(content)


def test_faults_are_what_was_asked_for_and_end(proxied: tuple[Proxied, str]) -> None:
    proxy, bucket = proxied
    sound = proxy.status()
    proxy.set(errors=1.0)
    assert proxy.status() == 503
    proxy.set(errors=0.5)
    answers = [proxy.status() for _ in range(200)]
    assert 60 < answers.count(503) < 140  # more than five standard deviations
    assert set(answers) == {503, sound}
    proxy.set(drop=1.0)
    with pytest.raises(OSError, match=r"reset|closed"):
        proxy.status()
    proxy.set(latency_ms=300)
    began = time.monotonic()
    assert proxy.status() == sound
    assert time.monotonic() - began >= 0.3
    proxy.set(refuse=True)
    with pytest.raises(StorageError, match="refused the key"):
        storage.read_bytes(f"{bucket}/anything")
    proxy.set()
    storage.write_atomic(f"{bucket}/anything", b"x")
    assert storage.read_bytes(f"{bucket}/anything") == b"x"


@pytest.mark.slow
def test_a_store_that_refuses_half_of_all_requests_for_long_is_still_written_and_read(
    proxied: tuple[Proxied, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, bucket = proxied
    # A read is refused eight times in a row in one of ten of these tests: pauses of half a minute. Twelve end patience.
    monkeypatch.setattr(retry, "_LONGEST_PAUSE_S", 0.25)
    proxy.set(errors=0.5)
    with patience(60):
        for number in range(30):  # a hundred requests: more than a client's budget of retries
            storage.write_atomic(f"{bucket}/busy/{number}", bytes([number]))
            assert storage.read_bytes(f"{bucket}/busy/{number}") == bytes([number])


@pytest.mark.parametrize(
    ("platform", "user", "command", "said"),
    [("darwin", 0, "list", "--local"), ("linux", 1000, "list", "root"), ("linux", 1000, "env", "root")],
)
def test_where_it_cannot_work_it_says_so_in_one_line(
    platform: str,
    user: int,
    command: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(str(HOSTS))
    hosts = importlib.import_module("hosts")
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(hosts.shutil, "which", lambda name: f"/sbin/{name}")
    monkeypatch.setattr(sys, "argv", ["hosts.py", command])
    with pytest.raises(SystemExit) as stop:
        hosts.main()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
