"""What a node says of itself, tried on this one; and how a dashboard is met."""

import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import ray

from doodle_dist.data import filesystems, storage
from doodle_dist.doctor import probe
from doodle_dist.doctor.dashboard import find_token, try_dashboard
from doodle_dist.doctor.probe import Listener, interfaces, try_data, try_link, try_storage
from tests.datasets import prepare_here
from tests.s3 import S3Server


def test_loopback_is_among_the_interfaces() -> None:
    assert "127.0.0.1" in interfaces().values()


def test_a_link_carries_bytes_and_a_closed_port_says_so() -> None:
    listener = Listener("127.0.0.1")
    link = try_link("127.0.0.1", listener.port, 0.1)
    assert set(link) == {"connect_s", "bytes_per_s"}
    assert link["bytes_per_s"] > 0
    listener.close()
    with socket.socket() as sock:  # bound and not listening: nobody else takes the port meanwhile
        sock.bind(("127.0.0.1", 0))
        assert "refused" in try_link("127.0.0.1", sock.getsockname()[1], 0.1)["error"]


def test_a_slow_link_is_measured_and_not_called_broken() -> None:
    def drain(server: socket.socket) -> None:
        connection, _ = server.accept()
        seen = 0
        with connection:
            while block := connection.recv(1 << 16):
                seen += len(block)
                time.sleep(len(block) / 4e6)
            connection.sendall(struct.pack("<Q", seen))

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        threading.Thread(target=drain, args=(server,), daemon=True).start()
        link = try_link("127.0.0.1", server.getsockname()[1], 0.05, timeout_s=0.2)
    assert "error" not in link
    assert 0 < link["bytes_per_s"] < 5e6


def test_storage_is_written_read_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / "marker").write_bytes(b"x")
    seen = try_storage(str(tmp_path), str(tmp_path / "probe" / "marker"), 4096)
    assert seen["sees_marker"]
    assert seen["bytes"] == 4096
    assert [file.name for file in (tmp_path / "probe").iterdir()] == ["marker"]


def test_a_folder_that_is_not_shared_has_no_marker_and_keeps_no_trace(tmp_path: Path) -> None:
    seen = try_storage(str(tmp_path / "runs"), str(tmp_path / "runs" / "probe" / "marker"), 4096)
    assert seen["sees_marker"] is False
    assert list(tmp_path.iterdir()) == []


def test_storage_that_can_not_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    marker = str(tmp_path / "file" / "probe" / "marker")
    assert str(tmp_path / "file") in try_storage(str(tmp_path / "file"), marker, 10)["error"]


def test_an_object_store_is_written_read_and_left_as_it_was(s3_env: S3Server, s3_bucket: str) -> None:
    marker = f"{s3_bucket}/runs/probe/marker"
    storage.write_atomic(marker, b"x")
    seen = try_storage(f"{s3_bucket}/runs", marker, 1 << 20)
    assert seen["sees_marker"]
    assert [file.uri for file in storage.list_files(s3_bucket, recursive=True)] == [marker]


def test_a_refused_key_is_named_and_not_shown(
    s3_env: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    filesystems.forget_filesystems()
    error = try_storage(f"{s3_bucket}/runs", f"{s3_bucket}/runs/probe/marker", 10)["error"]
    assert "refused the key" in error
    assert "not-the-secret" not in error


def test_a_dataset_is_read(tmp_path: Path) -> None:
    data = prepare_here(tmp_path, {"cat": 60, "dog": 60})
    seen = try_data(data, 1 << 20)
    assert seen["rows"] == 120
    assert seen["bytes"] > 0
    assert (seen["is_strokes"], seen["pixels"]) == (True, 28 * 28)
    assert "not a prepared dataset" in try_data(str(tmp_path / "raw"), 10)["error"]


def test_the_probe_runs_where_doodle_dist_is_missing(tmp_path: Path) -> None:
    ray.cloudpickle.register_pickle_by_value(probe)
    try:
        (tmp_path / "probe.pickle").write_bytes(ray.cloudpickle.dumps(probe.Probe))
    finally:
        ray.cloudpickle.unregister_pickle_by_value(probe)
    code = (
        "import pickle, sys; sys.modules['doodle_dist'] = None\n"
        f"probe = pickle.load(open({str(tmp_path / 'probe.pickle')!r}, 'rb'))()\n"
        "print(probe.now() > 0, probe.try_data('/x', 1))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("True {'error': \"doodle_dist can't be imported")


# --- the dashboard ---------------------------------------------------------------------------------------

SECRET = "0123456789abcdef"


class _Guarded(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.headers.get("Authorization") == f"Bearer {SECRET}" else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def guarded() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Guarded)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_dashboard_is_asked_with_the_token_and_without(guarded: str) -> None:
    facts = try_dashboard(guarded, SECRET)
    assert (facts.status, facts.status_without_token) == (200, 401)
    assert try_dashboard(guarded, "another").status == 401
    assert try_dashboard(guarded, "").status == 401
    assert SECRET not in repr(facts)
    assert try_dashboard("", SECRET).url == ""


def test_a_dashboard_that_is_gone_says_so() -> None:
    facts = try_dashboard("http://127.0.0.1:9", SECRET)
    assert facts.status == 0
    assert "refused" in facts.error


def test_the_token_is_found_where_ray_looks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_token() == ""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("of-home\n")
    assert find_token() == "of-home"
    (tmp_path / "token").write_text("of-file")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert find_token() == "of-file"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-environ")
    assert find_token() == "of-environ"
