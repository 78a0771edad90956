"""What is tried again, for how long, and what never is."""

import errno
import gzip
import http.server
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pytest

from doodle_dist.data import blocks, filesystems, retry, storage
from doodle_dist.data.blocks import byte_blocks, line_blocks
from doodle_dist.data.records import Chunk
from doodle_dist.data.retry import is_transient, patience, persistently
from doodle_dist.data.storage_errors import StorageError

PASSES = [
    ConnectionResetError("connection reset by peer"),
    TimeoutError("timed out"),
    OSError("AWS Error SLOW_DOWN during PutObject operation: Please reduce your request rate."),
    OSError("AWS Error INTERNAL_FAILURE during GetObject operation: We encountered an internal error"),
    OSError("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation: No response body."),
    OSError("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7, Couldn't connect"),
    OSError("An error occurred (500) when calling the PutObject operation: Internal Server Error"),
    OSError(
        "ClientPayloadError: Response payload is not completed: <ContentLengthError: 400, message='Not'>"
    ),
    OSError("AWS Error UNKNOWN (HTTP status 429) during GetObject operation: No response body."),
    OSError("AWS Error UNKNOWN during GetObject operation: Unable to parse ExceptionName: TooManyRequests"),
    OSError(
        "google::cloud::Status(UNAVAILABLE: Retry policy exhausted, with a last message of Backend Error)"
    ),
    OSError(
        "google::cloud::Status(RESOURCE_EXHAUSTED: Retry policy exhausted, with a last message of slower)"
    ),
    OSError("google::cloud::Status(DEADLINE_EXCEEDED: Retry policy exhausted)"),
    OSError("google::cloud::Status(INTERNAL: Retry policy exhausted)"),
    OSError("PerformWork() - CURL error [6]=Could not resolve hostname"),
]
STAYS = [
    OSError("AWS Error ACCESS_DENIED during PutObject operation: Access Denied."),
    OSError("AWS Error UNKNOWN (HTTP status 403) during HeadObject operation: No response body."),
    PermissionError("Forbidden"),
    OSError(
        "google::cloud::Status(PERMISSION_DENIED: Permanent error, with a last message of internal users only)"
    ),
    FileNotFoundError("no such file: 503.json"),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError("Parquet magic bytes not found in footer of 502 bytes"),
    ValueError("wrong"),
]


@pytest.mark.parametrize("error", PASSES, ids=str)
def test_what_passes_is_tried_again(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_FIRST_PAUSE_S", 0.001)
    calls = []

    def do() -> int:
        calls.append(1)
        if len(calls) < 4:
            raise error
        return 42

    assert persistently(do) == 42
    assert len(calls) == 4


@pytest.mark.parametrize("error", STAYS, ids=str)
def test_what_stays_is_raised_at_once(error: Exception) -> None:
    calls = []

    def do() -> None:
        calls.append(1)
        raise error

    assert not is_transient(error)
    with pytest.raises(type(error)):
        persistently(do)
    assert len(calls) == 1


def test_pauses_grow_and_end_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    now, pauses = [0.0], []
    monkeypatch.setattr(retry.time, "monotonic", lambda: now[0])

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    def do() -> None:
        raise TimeoutError

    monkeypatch.setattr(retry.time, "sleep", sleep)
    with patience(100.0), pytest.raises(TimeoutError):
        persistently(do)
    assert 80 <= sum(pauses) <= 100
    assert max(pauses) <= 12
    assert all(0.5 * 0.25 * 2**k <= pause <= 1.5 * 0.25 * 2**k for k, pause in enumerate(pauses[:5]))


class _Busy(http.server.BaseHTTPRequestHandler):
    """Answers 503 SlowDown to the first ``busy`` requests, then 403."""

    busy = 0
    requests = 0

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        type(self).requests += 1
        code = 503 if self.requests <= self.busy else 403
        body = b"" if self.command == "HEAD" else b"<Error><Code>SlowDown</Code></Error>"
        if code == 403 and body:
            body = b"<Error><Code>AccessDenied</Code></Error>"
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def _served(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on loopback: its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def busy_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Busy]]:
    handler = type("Handler", (_Busy,), {"busy": 4, "requests": 0})
    with _served(handler) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "doodle")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-never-printed")
        filesystems.forget_filesystems()
        yield handler
    filesystems.forget_filesystems()


@pytest.mark.slow
def test_a_busy_store_is_asked_again_and_one_that_refuses_is_not(busy_server: type[_Busy]) -> None:
    with patience(20.0), pytest.raises(StorageError, match="refused the key") as error:
        storage.write_atomic("s3://bucket/x", b"1")
    assert "a-secret-never-printed" not in str(error.value)
    # Four busy answers are more than the library's own three attempts; then one refusal ends it.
    assert busy_server.requests == 5


@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_web_server_is_asked_again(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_FIRST_PAUSE_S", 0.01)
    busy = [code] * 3  # each look at the file's length, and each read

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(b"")

        def do_GET(self) -> None:
            self._answer(b"drawings")

        def _answer(self, body: bytes) -> None:
            self.send_response(busy.pop() if busy else 200)
            self.send_header("Content-Length", "8")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with _served(Handler) as address, patience(20.0):
        assert storage.read_bytes(f"{address}/cat.ndjson") == b"drawings"
    assert not busy


def test_a_busy_google_store_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_FIRST_PAUSE_S", 0.01)
    back_at = time.monotonic() + 0.5  # later than the library's own patience

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if time.monotonic() < back_at else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with _served(Handler) as address:
        google = pyarrow.fs.GcsFileSystem(
            anonymous=True,
            endpoint_override=address.removeprefix("http://"),
            scheme="http",
            retry_time_limit=timedelta(seconds=0.1),
        )
        monkeypatch.setattr(filesystems, "_other_filesystem", lambda kind: google)
        with patience(0.0), pytest.raises(StorageError) as error:
            storage.exists("gs://bucket/manifest.json")
        with patience(20.0):
            assert not storage.exists("gs://bucket/manifest.json")
    assert str(error.value) == "gs://bucket/manifest.json: Google Cloud Storage is unreachable"


def test_a_web_server_that_refuses_connections_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_FIRST_PAUSE_S", 0.01)
    looks = []
    filesystem = storage.fsspec_filesystem

    def counted(uri: str) -> Any:
        looks.append(uri)
        return filesystem(uri)

    monkeypatch.setattr(storage, "fsspec_filesystem", counted)
    for patient_s in (0.0, 0.5):  # the first look imports what it looks with
        looks.clear()
        with patience(patient_s), pytest.raises(StorageError, match="unreachable"):
            storage.size("http://127.0.0.1:9/cat.ndjson")
    assert len(looks) > 2


@pytest.mark.parametrize("name", ["cat.ndjson", "cat.ndjson.gz"])
def test_a_source_whose_store_is_busy_meanwhile_is_read_on_where_it_was(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(blocks, "_GZIP_READ_BYTES", 1000)
    data = b"".join(b"line %d %d\n" % (k, k**5) for k in range(2000))
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    failed = []

    class Busy(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            if self.tell() > 2000 and len(failed) < 5:
                failed.append(self.tell())
                raise OSError(
                    "AWS Error SLOW_DOWN during GetObject operation: Please reduce your request rate."
                )
            return super().readinto(buffer) or 0

        def read(self, size: int | None = -1) -> bytes:
            buffer = bytearray(1 << 20 if size is None or size < 0 else size)
            return bytes(buffer[: self.readinto(buffer)])

    monkeypatch.setattr(storage, "open_input", lambda uri: pa.PythonFile(Busy(uri), mode="r"))
    chunk = Chunk(str(path), 0, None, "ndjson")
    assert b"".join(block.data for block in line_blocks(chunk, block_bytes=1500)) == data
    assert len(failed) == 5


class _Answers(io.RawIOBase):
    """A web server's answer of a length that nobody knows: a little at a time, and no going back."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def read(self, size: int | None = -1) -> bytes:
        answer = self.answers.pop(0) if self.answers else b""
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_what_comes_a_little_at_a_time_is_read_as_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "open_input", lambda _: pa.PythonFile(_Answers(b"abc", b"de"), mode="r"))
    with storage.PatientFile("https://host/cat.ndjson") as file:
        assert [file.read(5), file.read(5)] == [b"abcde", b""]


def test_a_web_file_that_breaks_off_and_cannot_be_begun_in_the_middle_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retry, "_FIRST_PAUSE_S", 0.001)
    dropped = ConnectionResetError("connection reset by peer")
    monkeypatch.setattr(storage, "open_input", lambda _: pa.PythonFile(_Answers(b"abc", dropped), mode="r"))
    with storage.PatientFile("https://host/cat.ndjson") as file:
        assert file.read(3) == b"abc"
        with pytest.raises(StorageError, match=r"^https://host/cat\.ndjson broke off, and can't be read on"):
            file.read(3)


def test_a_gzip_file_is_asked_for_in_large_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a request to an object store."""
    data = np.random.default_rng(0).bytes(3 << 20)
    path = tmp_path / "cat.bin.gz"
    path.write_bytes(gzip.compress(data))
    asked = []
    read = storage.PatientFile.read

    def counted(file: storage.PatientFile, size: int = -1) -> bytes:
        asked.append(size)
        return read(file, size)

    monkeypatch.setattr(storage.PatientFile, "read", counted)
    assert b"".join(block.data for block in byte_blocks(Chunk(str(path), 0, None, "binary"))) == data
    assert len(asked) <= 4
