"""Filesystems: which endpoint they ask, that they travel to workers, and that they need no settings."""

import http.server
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs
import pytest

from doodle_dist.data import filesystems, locations, retry, storage
from doodle_dist.data.storage_errors import patiently


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
    assert locations.s3_endpoint() is None
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert locations.s3_endpoint() == "http://file:1"
    monkeypatch.setenv("AWS_PROFILE", "p")
    assert locations.s3_endpoint() == "http://p:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://all:1")
    assert locations.s3_endpoint() == "http://all:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3:1/")
    assert locations.s3_endpoint() == "http://s3:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "minio:9000")
    with pytest.raises(ValueError, match="is no URL"):
        locations.s3_endpoint()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://user:topsecret@minio:9000")
    with pytest.raises(ValueError, match="must not hold") as error:
        locations.s3_endpoint()
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


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """An environment with a key and nothing else that S3 or a proxy is found by."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("REGION", "DEFAULT_REGION", "ENDPOINT_URL", "ENDPOINT_URL_S3", "PROFILE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "doodle")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    filesystems.forget_filesystems()
    yield monkeypatch
    filesystems.forget_filesystems()


def test_s3_is_asked_through_the_proxy_of_the_environment(settings: pytest.MonkeyPatch) -> None:
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        settings.setenv("HTTP_PROXY", address)
        settings.setenv("NO_PROXY", "127.0.0.1")
        settings.setenv("AWS_ENDPOINT_URL_S3", "http://s3.some.invalid")
        assert not storage.exists("s3://bucket/key")
        assert asked
        assert all(path.startswith("http://s3.some.invalid/bucket") for path in asked)
        asked.clear()
        settings.setenv("AWS_ENDPOINT_URL_S3", f"http://{address}")
        assert not storage.exists("s3://bucket/key")
        assert asked
        assert all(path.startswith("/bucket") for path in asked), "straight"
        server.shutdown()


@pytest.mark.parametrize("no_proxy", ["s3.eu-central-1.amazonaws.com", ".amazonaws.com", "*"])
def test_no_proxy_is_heeded_for_aws(no_proxy: str, settings: pytest.MonkeyPatch) -> None:
    url = "https://s3.eu-central-1.amazonaws.com"
    settings.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert filesystems._proxy(url) == "http://proxy:3128"
    settings.setenv("NO_PROXY", no_proxy)
    assert filesystems._proxy(url) is None


def test_a_region_that_aws_does_not_say_at_once_is_asked_for_again_and_not_guessed(
    settings: pytest.MonkeyPatch,
) -> None:
    settings.setattr(retry, "_FIRST_PAUSE_S", 0.001)
    answers: list[str | OSError] = [
        OSError(
            "AWS Error NETWORK_CONNECTION during HeadBucket operation: curlCode: 6, Couldn't resolve host"
        ),
        "eu-central-1",
        OSError("AWS Error ACCESS_DENIED during HeadBucket operation: No response body."),
    ]

    def resolve(bucket: str) -> str:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    settings.setattr(pyarrow.fs, "resolve_s3_region", resolve)
    opened = patiently(filesystems.filesystem)
    assert opened("s3://mine/key")[0].region == "eu-central-1"
    assert opened("s3://mine/another")[0].region == "eu-central-1", "asked for once"
    assert opened("s3://others/key")[0].region == "us-east-1", "the request itself will say so"
    assert not answers


def test_in_a_closed_network_the_profile_s_region_is_taken(
    settings: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[default]\nregion = eu-west-3\n")
    settings.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    def unreachable(_: str) -> str:
        raise OSError(
            "AWS Error NETWORK_CONNECTION during HeadBucket operation: curlCode: 7, Couldn't connect"
        )

    settings.setattr(pyarrow.fs, "resolve_s3_region", unreachable)
    assert filesystems.filesystem("s3://mine/key")[0].region == "eu-west-3"


def test_a_proxy_of_a_kind_that_pyarrow_does_not_know_is_left_alone(settings: pytest.MonkeyPatch) -> None:
    settings.setenv("HTTPS_PROXY", "socks5h://127.0.0.1:1080")
    settings.setenv("AWS_REGION", "eu-west-3")
    assert filesystems.filesystem("s3://mine/key")[0].region == "eu-west-3"


def test_behind_a_proxy_no_region_is_asked_for(settings: pytest.MonkeyPatch) -> None:
    """pyarrow would ask without the proxy, in vain."""
    settings.setenv("HTTPS_PROXY", "http://proxy:3128")
    settings.setattr(pyarrow.fs, "resolve_s3_region", lambda _: pytest.fail("asked"))
    assert filesystems.filesystem("s3://mine/key")[0].region == "us-east-1"


def test_results_cannot_go_to_a_web_server() -> None:
    with pytest.raises(ValueError, match="read-only"):
        filesystems.train_filesystem("http://host/runs")
