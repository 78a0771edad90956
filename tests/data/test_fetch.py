"""Fetching from a server that drops connections, lies about sizes, answers 404 and 503, and changes files."""

import base64
import hashlib
import http.server
import os
import signal
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from doodle_dist.data import fetch as module
from doodle_dist.data import storage
from doodle_dist.data.fetch import Progress, fetch, file_url
from doodle_dist.data.storage_errors import StorageError
from doodle_dist.errors import WorkFailedError


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files`` like Google's bucket, with the faults a test asks for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.drop_after: list[int] = []  # bytes after which each of the next answers is cut
        self.statuses: list[int] = []  # what the next requests get instead of an answer
        self.headers: dict[str, str] = {}
        self.ranges = True
        self.with_etag = self.with_length = True
        self.corrupt = 0  # how many of the next bodies have a wrong byte
        self.seen: list[tuple[str, str, str | None]] = []
        self.base_url = f"http://127.0.0.1:{self.server_port}/full"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        server = self.server
        server.seen.append((self.command, self.path, self.headers.get("Range")))
        data = server.files.get(urllib.parse.unquote(self.path).removeprefix("/full/"))
        status = server.statuses.pop(0) if server.statuses else 200 if data is not None else 404
        if status != 200 or data is None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        begin = 0
        if server.ranges and "Range" in self.headers and self.headers.get("If-Range", etag) == etag:
            begin = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        body = data[begin:]
        if begin and not body:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        if server.with_etag:
            self.send_header("ETag", etag)
        self.send_header("x-goog-hash", "crc32c=AAAAAA==")
        self.send_header("x-goog-hash", f"md5={base64.b64encode(hashlib.md5(data).digest()).decode()}")
        length = {"Content-Length": str(len(body))} if server.with_length else {"Connection": "close"}
        for name, value in (length | server.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if server.corrupt:
            server.corrupt -= 1
            body = bytes([body[0] ^ 1]) + body[1:]
        cut = server.drop_after.pop(0) if server.drop_after else len(body)
        self.wfile.write(body[:cut])
        if cut < len(body):
            self.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.02)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()


CAT, ICE = os.urandom(300_000), os.urandom(1234)


@pytest.fixture
def full(server: Server) -> Server:
    server.files = {"simplified/cat.ndjson": CAT, "simplified/ice cream.ndjson": ICE, "binary/cat.bin": ICE}
    return server


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def gets(server: Server) -> list[str | None]:
    return [ranged for method, _, ranged in server.seen if method == "GET"]


def test_urls() -> None:
    start = "https://storage.googleapis.com/quickdraw_dataset/full"
    assert file_url("ice cream", "simplified") == f"{start}/simplified/ice%20cream.ndjson"
    assert file_url("cat", "raw") == f"{start}/raw/cat.ndjson"
    assert file_url("cat", "binary") == f"{start}/binary/cat.bin"
    assert file_url("cat", "bitmap") == f"{start}/numpy_bitmap/cat.npy"


def test_files_arrive(full: Server, tmp_path: Path) -> None:
    seen: list[Progress] = []
    to = tmp_path / "in"
    found = fetch(["cat", "ice cream"], "simplified", str(to), base_url=full.base_url, progress=seen.append)
    assert (to / "cat.ndjson").read_bytes() == CAT
    assert (to / "ice cream.ndjson").read_bytes() == ICE
    assert names(to) == ["cat.ndjson", "ice cream.ndjson"]
    assert [tuple(f) for f in found] == [
        (f"{to}/cat.ndjson", 300_000, False),
        (f"{to}/ice cream.ndjson", 1234, False),
    ]
    assert seen[-1] == Progress(2, 2, 301_234, 301_234)


def test_complete_files_are_skipped(full: Server, tmp_path: Path) -> None:
    (tmp_path / "cat.ndjson").write_bytes(CAT)
    found = fetch(["cat", "ice cream"], "simplified", str(tmp_path), base_url=full.base_url)
    assert [f.was_there for f in found] == [True, False]
    assert [path for method, path, _ in full.seen if method == "GET"] == [
        "/full/simplified/ice%20cream.ndjson"
    ]
    assert all(f.was_there for f in fetch(["cat"], "simplified", str(tmp_path), base_url=full.base_url))


def test_dropped_connections_are_continued(full: Server, tmp_path: Path) -> None:
    full.drop_after = [100_000, 1, 0, 50_000]
    seen: list[Progress] = []
    fetch(["cat"], "simplified", str(tmp_path), base_url=full.base_url, progress=seen.append)
    assert (tmp_path / "cat.ndjson").read_bytes() == CAT
    assert gets(full) == [None, "bytes=100000-", "bytes=100001-", "bytes=100001-", "bytes=150001-"]
    assert seen[-1].bytes == 300_000


def test_more_drops_than_tries_are_fine_while_it_grows(full: Server, tmp_path: Path) -> None:
    full.drop_after = [10_000] * 20
    fetch(["cat"], "simplified", str(tmp_path), base_url=full.base_url)
    assert (tmp_path / "cat.ndjson").read_bytes() == CAT


def test_an_interrupted_fetch_is_continued_by_the_next(full: Server, tmp_path: Path) -> None:
    full.drop_after = [70_000] + [0] * 20
    with pytest.raises(
        WorkFailedError, match=r"cat\.ndjson: gave up after 8 tries: .*closed after 70000 of 300000"
    ):
        fetch(["cat"], "simplified", str(tmp_path), base_url=full.base_url)
    assert names(tmp_path) == ["cat.ndjson.part", "cat.ndjson.part.version"]
    full.drop_after, full.seen = [], []
    fetch(["cat"], "simplified", str(tmp_path), base_url=full.base_url)
    assert gets(full) == ["bytes=70000-"]
    assert (tmp_path / "cat.ndjson").read_bytes() == CAT
    assert names(tmp_path) == ["cat.ndjson"]


def test_a_part_of_another_version_is_not_continued(full: Server, tmp_path: Path) -> None:
    full.drop_after = [70_000] + [0] * 20
    with pytest.raises(WorkFailedError):
        fetch(["cat"], "simplified", str(tmp_path), base_url=full.base_url)
    full.drop_after, full.seen = [], []
    full.files["simplified/cat.ndjson"] = CAT[::-1]
    fetch(["cat"], "simplified", str(tmp_path), base_url=full.base_url)
    assert gets(full) == [None]
    assert (tmp_path / "cat.ndjson").read_bytes() == CAT[::-1]


def test_servers_without_ranges_or_etags(full: Server, tmp_path: Path) -> None:
    full.ranges = False
    full.drop_after = [100_000, 50_000]
    fetch(["cat"], "simplified", str(tmp_path / "a"), base_url=full.base_url)
    full.ranges, full.with_etag = True, False
    full.drop_after = [100_000]
    fetch(["cat"], "simplified", str(tmp_path / "b"), base_url=full.base_url)
    for folder in ("a", "b"):
        assert (tmp_path / folder / "cat.ndjson").read_bytes() == CAT


def test_missing_files_stop_it_before_anything_is_downloaded(full: Server, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"/full/simplified/dog\.ndjson not found$"):
        fetch(["cat", "dog"], "simplified", str(tmp_path / "in"), base_url=full.base_url)
    assert not (tmp_path / "in").exists()


def test_busy_servers_are_asked_again(full: Server, tmp_path: Path) -> None:
    full.statuses = [503, 429, 200, 500, 503]
    fetch(["cat"], "simplified", str(tmp_path), base_url=full.base_url)
    assert (tmp_path / "cat.ndjson").read_bytes() == CAT
    full.statuses = [503] * 20
    with pytest.raises(StorageError, match="gave up after 4 tries: HTTP 503"):
        fetch(["cat"], "simplified", str(tmp_path), base_url=full.base_url)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_refusals_are_not_repeated(full: Server, tmp_path: Path, status: int) -> None:
    full.statuses = [status] * 20
    with pytest.raises(StorageError, match=str(status)):
        fetch(["cat"], "simplified", str(tmp_path), base_url=full.base_url)
    assert len(full.seen) == 1


def test_wrong_content_is_fetched_once_more(full: Server, tmp_path: Path) -> None:
    full.corrupt = 1
    fetch(["cat"], "simplified", str(tmp_path / "a"), base_url=full.base_url)
    assert (tmp_path / "a" / "cat.ndjson").read_bytes() == CAT
    full.corrupt = 9
    with pytest.raises(WorkFailedError, match="another MD5 than the server's file"):
        fetch(["cat"], "simplified", str(tmp_path / "b"), base_url=full.base_url)
    assert "cat.ndjson" not in names(tmp_path / "b")


def test_wrong_sizes(full: Server, tmp_path: Path) -> None:
    full.headers = {"Content-Length": "400000"}  # more than comes
    with pytest.raises(WorkFailedError, match="closed after 300000 of 400000 bytes"):
        _with_closing(full, tmp_path / "a")
    full.headers = {"Content-Length": "1000"}  # less than there is
    with pytest.raises(WorkFailedError, match="another MD5"):
        fetch(["cat"], "simplified", str(tmp_path / "b"), base_url=full.base_url)
    for folder in ("a", "b"):
        assert "cat.ndjson" not in names(tmp_path / folder)


def _with_closing(server: Server, to: Path) -> None:
    server.drop_after = []
    server.headers["Connection"] = "close"
    server.ranges = False
    fetch(["cat"], "simplified", str(to), base_url=server.base_url)


def test_server_that_is_gone(server: Server, tmp_path: Path) -> None:
    url = server.base_url
    server.shutdown()
    server.server_close()
    with pytest.raises(StorageError, match=r"the server at 127\.0\.0\.1:\d+ is unreachable"):
        fetch(["cat"], "simplified", str(tmp_path), base_url=url)


def test_one_failure_stops_the_others(full: Server, tmp_path: Path) -> None:
    categories = [f"c{i}" for i in range(30)]
    full.files |= {f"simplified/{name}.ndjson": CAT for name in categories}
    full.corrupt = 1000
    with pytest.raises(WorkFailedError, match="MD5"):
        fetch(categories, "simplified", str(tmp_path), base_url=full.base_url, threads=2)
    assert len(gets(full)) < 12


def test_ctrl_c_begins_no_file_that_was_still_waiting(full: Server, tmp_path: Path) -> None:
    categories = [f"c{i}" for i in range(30)]
    full.files |= {f"simplified/{name}.ndjson": CAT for name in categories}
    interrupted: list[int] = []

    def interrupt(now: Progress) -> None:
        if now.bytes and not interrupted:
            interrupted.append(now.files)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.01)  # what is under way takes a while

    with pytest.raises(KeyboardInterrupt):
        fetch(categories, "simplified", str(tmp_path), base_url=full.base_url, threads=2, progress=interrupt)
    assert len(gets(full)) < 12


def test_a_full_disk_is_said_before(full: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("usage", (), {"free": 1000}))
    with pytest.raises(StorageError, match=r"no space left on .*: 0.0 GB are to come, 0.0 GB are free"):
        fetch(["cat"], "simplified", str(tmp_path), base_url=full.base_url)


def test_to_s3(full: Server, s3_bucket: str) -> None:
    full.drop_after = [1000]
    (found,) = fetch(["cat"], "binary", f"{s3_bucket}/in", base_url=full.base_url)
    assert (found.uri, found.was_there) == (f"{s3_bucket}/in/cat.bin", False)
    assert storage.read_bytes(found.uri) == ICE
    (found,) = fetch(["cat"], "binary", f"{s3_bucket}/in", base_url=full.base_url)
    assert found.was_there


def test_wrong_requests(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format is 'png'; it is one of simplified, raw, binary, bitmap"):
        fetch(["cat"], "png", str(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="none given"):
        fetch([], "raw", str(tmp_path))
    with pytest.raises(ValueError, match="read-only"):
        fetch(["cat"], "raw", "https://host/x")


@pytest.mark.parametrize("part", [CAT, CAT + b"more than there is"])
def test_a_whole_part_of_a_file_of_unknown_length_is_taken(full: Server, tmp_path: Path, part: bytes) -> None:
    full.with_length = False
    (tmp_path / "cat.ndjson.part").write_bytes(part)
    (tmp_path / "cat.ndjson.part.version").write_text(f'"{hashlib.md5(CAT).hexdigest()}"')
    fetch(["cat"], "simplified", str(tmp_path), base_url=full.base_url)
    assert names(tmp_path) == ["cat.ndjson"]
    assert (tmp_path / "cat.ndjson").read_bytes() == CAT
