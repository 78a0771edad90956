"""One readable line for each way in which a store fails."""

import errno
import functools
import socket
import time
from pathlib import Path

import pyarrow as pa
import pytest

from doodle_dist.data import filesystems, storage, storage_errors
from doodle_dist.data.storage_errors import StorageError


def test_permission_is_named(tmp_path: Path) -> None:
    error = storage_errors.explain(str(tmp_path / "a"), PermissionError(errno.EACCES, "Permission denied"))
    assert str(error) == f"{tmp_path / 'a'}: permission denied"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"is a folder$"):
        storage.read_bytes(str(tmp_path))


def test_errors_about_signed_urls_hold_no_signature() -> None:
    uri = "https://host/x.ndjson?X-Amz-Signature=abc"
    assert "abc" not in str(storage_errors.explain(uri, OSError("went wrong")))


def test_wrong_key(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_atomic(f"{s3_bucket}/x", b"1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    filesystems.forget_filesystems()
    calls = [
        storage.exists,
        storage.read_bytes,
        storage.list_files,
        storage.delete_prefix,
        functools.partial(storage.write_atomic, data=b"2"),
    ]
    for call in calls:
        with pytest.raises(StorageError, match=r"refused the key \(AWS_ACCESS_KEY_ID\)$"):
            call(f"{s3_bucket}/x")


@pytest.mark.parametrize(
    ("text", "is_key"),
    [
        ("Forbidden", True),
        ("An error occurred (403) when calling the HeadObject operation", True),
        ("HTTP status 401", True),
        ("status: 403, message='no'", True),
        ("writing key 'runs/exp-403/lease/000001.json' in bucket 'b': curlCode: 7, Couldn't connect", False),
        ("reading train/401/x.parquet: network_connection", False),
    ],
)
def test_a_number_in_a_name_is_no_refusal(text: str, is_key: bool) -> None:
    said = str(storage_errors.explain("s3://b/runs/exp-403/lease", OSError(text)))
    assert said.endswith("refused the key (AWS_ACCESS_KEY_ID)") == is_key
    assert said.endswith("is unreachable") != is_key


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("UNAVAILABLE: Retry policy exhausted, with a last message of Backend Error", "is unreachable"),
        ("UNAVAILABLE: CURL error [6]=Could not resolve hostname", "is unreachable"),
        (
            "UNAVAILABLE: Could not create a OAuth2 access token to authenticate the request. The underlying error "
            "message was: CURL error [6]=Could not resolve hostname",
            "no key was found; set GOOGLE_APPLICATION_CREDENTIALS",
        ),
    ],
)
def test_what_google_s_library_says_is_one_readable_line(text: str, said: str) -> None:
    error = storage_errors.explain(
        "gs://b/k", OSError(f"google::cloud::Status({text} error_info={{reason=}})")
    )
    assert str(error).startswith("gs://b/k: ")
    assert str(error).endswith(said)
    assert len(str(error)) < 80


@pytest.mark.parametrize(
    ("error", "is_damage"),
    [
        (OSError("Couldn't deserialize thrift: TProtocolException: Invalid data"), True),
        (
            OSError("could not verify page integrity, CRC checksum verification failed for page_ordinal 0"),
            True,
        ),
        (pa.ArrowInvalid("Parquet magic bytes not found in footer"), True),
        (
            OSError("When reading information for key: AWS Error ACCESS_DENIED during GetObject operation"),
            False,
        ),
        (OSError("AWS Error UNKNOWN (HTTP status 400) during GetObject operation: ExpiredToken"), False),
        (OSError("AWS Error UNKNOWN (HTTP status 429) during GetObject operation: No response body"), False),
        (OSError("google::cloud::Status(PERMISSION_DENIED: no)"), False),
        (OSError(errno.EIO, "Input/output error"), False),
        (OSError(errno.ESTALE, "Stale file handle"), False),
    ],
)
def test_only_what_is_in_a_file_is_damage(error: Exception, is_damage: bool) -> None:
    """What is damaged ends a run for good; what a store or a disk answers may be otherwise at the next start."""
    assert storage_errors.is_of_content(error) == is_damage


def test_missing_bucket(s3_env: object) -> None:
    with pytest.raises(
        StorageError, match=r"^s3://nobucket/x: the store at http://.* has no bucket 'nobucket'"
    ):
        storage.write_atomic("s3://nobucket/x", b"1")
    assert not storage.exists("s3://nobucket/x")


@pytest.mark.slow
@pytest.mark.parametrize(
    "silent",
    [pytest.param(False, id="nothing listens"), pytest.param(True, id="accepts no more connections")],
)
def test_unreachable_endpoint_is_reported_soon(
    s3_env: object, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        waiting = []
        if silent:  # a full backlog: connections are neither refused nor made
            server.listen(0)
            for _ in range(4):
                waiting.append(socket.socket())
                waiting[-1].setblocking(False)
                waiting[-1].connect_ex(server.getsockname())
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        begin = time.monotonic()
        with pytest.raises(StorageError) as error:
            storage.exists("s3://bucket/x")
        assert str(error.value) == f"s3://bucket/x: the store at {endpoint} is unreachable"
        assert time.monotonic() - begin < 15
        for sock in waiting:
            sock.close()


def test_http_server_that_is_gone() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{sock.getsockname()[1]}/x"
        for call in (storage.read_bytes, storage.size, storage.exists):
            with pytest.raises(StorageError, match="is unreachable"):
                call(uri)
