"""What is tried again, for how long, and what never is."""

import errno
import http.server
import threading
from collections.abc import Iterator

import pytest

from doodle_dist.data import filesystems, retry, storage
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
]
STAYS = [
    OSError("AWS Error ACCESS_DENIED during PutObject operation: Access Denied."),
    OSError("AWS Error UNKNOWN (HTTP status 403) during HeadObject operation: No response body."),
    PermissionError("Forbidden"),
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


@pytest.fixture
def busy_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Busy]]:
    handler = type("Handler", (_Busy,), {"busy": 4, "requests": 0})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "doodle")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-never-printed")
    filesystems.forget_filesystems()
    yield handler
    server.shutdown()
    server.server_close()
    filesystems.forget_filesystems()


@pytest.mark.slow
def test_a_busy_store_is_asked_again_and_one_that_refuses_is_not(busy_server: type[_Busy]) -> None:
    with patience(20.0), pytest.raises(StorageError, match="refused the key") as error:
        storage.write_atomic("s3://bucket/x", b"1")
    assert "a-secret-never-printed" not in str(error.value)
    # Four busy answers are more than the library's own three attempts; then one refusal ends it.
    assert busy_server.requests == 5
