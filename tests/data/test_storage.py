"""Storage: the same calls on disk and on a real S3 server, and one readable line for each failure."""

import errno
import functools
import hashlib
import http.server
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs
import pytest

from doodle_dist.data import storage
from doodle_dist.data.storage import FileEntry, StorageError


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder or bucket."""
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_bucket")


# --- the same on every store -----------------------------------------------------------------------------


def test_written_bytes_are_read_back(place: str) -> None:
    uri = storage.join(place, "a", "b c.bin")
    data = os.urandom(100_000)
    assert not storage.exists(uri)
    storage.write_atomic(uri, data)
    assert storage.exists(uri)
    assert storage.size(uri) == len(data)
    assert storage.read_bytes(uri) == data
    assert storage.read_bytes(uri, 5) == data[5:]
    assert storage.read_bytes(uri, 99_990, 50) == data[99_990:]
    assert storage.read_bytes(uri, 7, 11) == data[7:18]
    assert storage.sha256_of(uri) == hashlib.sha256(data).hexdigest()
    storage.write_atomic(uri, b"new")
    assert storage.read_bytes(uri) == b"new"
    with storage.open_input(uri) as file:
        file.seek(1)
        assert file.read() == b"ew"


def test_listing(place: str) -> None:
    for name in ("cat.ndjson", "dog.ndjson", "cow.txt", ".hidden.ndjson", "_part.ndjson", "sub/ant.ndjson"):
        storage.write_atomic(storage.join(place, "in", name), name.encode())
    folder = storage.join(place, "in")

    def names(found: list[FileEntry]) -> list[str]:
        assert all(entry.uri.startswith(folder + "/") for entry in found)
        assert all(entry.size == len(entry.uri) - len(folder) - 1 for entry in found)
        return [entry.uri[len(folder) + 1 :] for entry in found]

    assert storage.list_folders(folder) == [folder + "/sub"]
    assert storage.list_folders(folder + "/sub") == storage.list_folders(folder + "/none") == []
    assert names(storage.list_files(folder, [".ndjson"])) == ["cat.ndjson", "dog.ndjson"]
    assert names(storage.list_files(folder + "/")) == ["cat.ndjson", "cow.txt", "dog.ndjson"]
    assert names(storage.list_files(folder, [".ndjson"], recursive=True)) == [
        "cat.ndjson",
        "dog.ndjson",
        "sub/ant.ndjson",
    ]
    assert names(storage.list_files(folder + "/c*")) == ["cat.ndjson", "cow.txt"]
    assert names(storage.list_files(folder + "/[a-c]*.ndjson")) == ["cat.ndjson"]
    assert names(storage.list_files(folder + "/*/*.ndjson")) == ["sub/ant.ndjson"]
    assert names(storage.list_files(folder + "/**/?[n-t]*.ndjson")) == ["dog.ndjson", "sub/ant.ndjson"]
    assert names(storage.list_files(folder + "/**/*nt.ndjson")) == ["sub/ant.ndjson"]
    assert names(storage.list_files(folder + "/.hidden.ndjson")) == [".hidden.ndjson"]
    assert storage.list_files(folder + "/no*") == []
    with pytest.raises(StorageError, match=r"nowhere not found"):
        storage.list_files(storage.join(place, "nowhere"))


def test_missing_files_are_named(place: str) -> None:
    uri = storage.join(place, "no.txt")
    for call in (storage.read_bytes, storage.size, storage.sha256_of, storage.open_input):
        with pytest.raises(StorageError) as error:
            call(uri)
        assert str(error.value) == f"{uri} not found"


def test_delete_prefix_deletes_that_and_nothing_else(place: str) -> None:
    for name in ("run/a", "run/b/c", "run/.d", "runs/e", "f"):
        storage.write_atomic(storage.join(place, name), b"x")
    storage.delete_prefix(storage.join(place, "run"))
    assert not storage.exists(storage.join(place, "run/b/c"))
    assert not storage.exists(storage.join(place, "run/.d"))
    assert storage.exists(storage.join(place, "runs/e"))
    storage.delete_prefix(storage.join(place, "f"))
    assert not storage.exists(storage.join(place, "f"))
    storage.delete_prefix(storage.join(place, "run"))  # nothing there: no error


def test_a_packed_file_is_stored_as_it_is(place: str, tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(b"packed already")
    storage.write_atomic(storage.join(place, "a.gz"), b"packed already")
    storage.put_file(tmp_path / "x.gz", storage.join(place, "b.gz"))
    assert [storage.read_bytes(storage.join(place, name)) for name in ("a.gz", "b.gz")] == [
        b"packed already"
    ] * 2


def test_put_file_copies_large_files(place: str, tmp_path: Path) -> None:
    local = tmp_path / "big.bin"
    local.write_bytes(os.urandom(12 << 20))  # more than one part of an S3 multipart upload
    uri = storage.join(place, "x", "big.bin")
    storage.put_file(local, uri)
    assert storage.sha256_of(uri) == storage.sha256_of(str(local))


def test_filesystems_can_be_sent_to_workers(place: str) -> None:
    uri = storage.join(place, "a.txt")
    storage.write_atomic(uri, b"abc")
    for build in (storage.filesystem, storage.train_filesystem):
        fs, path = build(uri)
        assert isinstance(fs, pyarrow.fs.FileSystem)
        with pickle.loads(pickle.dumps(fs)).open_input_file(path) as file:
            assert file.read() == b"abc"
    fs, path = storage.fsspec_filesystem(uri)
    assert fs.cat_file(path) == b"abc"


# --- local disk ------------------------------------------------------------------------------------------


def test_local_writes_leave_no_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.txt"
    storage.write_atomic(str(target), b"old")

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"^no space left on .*a\.txt$"):
        storage.write_atomic(str(target), b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_delete_refuses_what_nobody_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for place in ("/", "~", ".", "..", str(tmp_path), "s3://bucket", "s3://bucket/", "gs://bucket"):
        with pytest.raises(ValueError, match="refusing to delete"):
            storage.delete_prefix(place)
    assert tmp_path.exists()


def test_permission_is_named(tmp_path: Path) -> None:
    error = storage.explain(str(tmp_path / "a"), PermissionError(errno.EACCES, "Permission denied"))
    assert str(error) == f"{tmp_path / 'a'}: permission denied"


def test_file_uri_is_a_local_path(tmp_path: Path) -> None:
    storage.write_atomic(f"file://{tmp_path}/x", b"1")
    assert (tmp_path / "x").read_bytes() == b"1"


# --- locations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIAKEY:topsecret@bucket/x",
        "s3://AKIAKEY:top/secret@bucket/x",
        "s3://topsecret@bucket/x",
        "s3://bucket/x?secret_key=topsecret",
        "https://user:topsecret@host/x",
        "https://user:top/secret@host/x",
        "gs://topsecret@bucket/x",
    ],
)
def test_credentials_in_a_uri_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(ValueError, match="must not hold a user, password or key") as error:
        storage.filesystem(uri)
    assert "secret" not in str(error.value).replace("AWS_SECRET_ACCESS_KEY", "")
    assert "AKIAKEY" not in str(error.value)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("ftp://host/x", "unknown scheme"),
        ("s3:///x", "names no bucket"),
        ("s3://", "names no bucket"),
        ("", "empty"),
    ],
)
def test_wrong_locations(uri: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        storage.filesystem(uri)


def test_ports_are_no_credentials() -> None:
    assert storage.split_uri("http://127.0.0.1:8000/a b") == ("http", "http://127.0.0.1:8000/a b")
    assert storage.split_uri("http://[::1]:8000/a") == ("http", "http://[::1]:8000/a")
    assert storage.split_uri("s3://bucket/a@b:c/d") == ("s3", "bucket/a@b:c/d")


def test_join() -> None:
    assert storage.join("s3://bucket/a/", "b", "c.txt") == "s3://bucket/a/b/c.txt"
    assert storage.join("/data", "b/") == "/data/b"
    assert storage.join("/", "b") == "/b"
    assert storage.join("rel", "b") == "rel/b"
    for part in ("../b", "/b", "s3://other/b"):
        with pytest.raises(ValueError, match="outside"):
            storage.join("s3://bucket/a", part)


def test_signed_urls_are_printed_without_their_signature() -> None:
    uri = "https://host/x.ndjson?X-Amz-Signature=abc"
    assert storage.public(uri) == "https://host/x.ndjson"
    assert "abc" not in str(storage.explain(uri, OSError("went wrong")))


# --- S3's ways to fail -----------------------------------------------------------------------------------


def test_endpoint_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "config"
    config.write_text("[default]\nendpoint_url = http://file:1\n[profile p]\nendpoint_url = http://p:1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert storage.s3_endpoint() is None
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert storage.s3_endpoint() == "http://file:1"
    monkeypatch.setenv("AWS_PROFILE", "p")
    assert storage.s3_endpoint() == "http://p:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://all:1")
    assert storage.s3_endpoint() == "http://all:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3:1/")
    assert storage.s3_endpoint() == "http://s3:1"
    assert storage.s3_endpoint("http://option:1") == "http://option:1"
    with pytest.raises(ValueError, match="is no URL"):
        storage.s3_endpoint("minio:9000")
    with pytest.raises(ValueError, match="must not hold") as error:
        storage.s3_endpoint("http://user:topsecret@minio:9000")
    assert "topsecret" not in str(error.value)


def test_wrong_key(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_atomic(f"{s3_bucket}/x", b"1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    storage.forget_filesystems()
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


def test_missing_bucket(s3_env: object) -> None:
    with pytest.raises(
        StorageError, match=r"^s3://nobucket/x: the store at http://.* has no bucket 'nobucket'"
    ):
        storage.write_atomic("s3://nobucket/x", b"1")
    assert not storage.exists("s3://nobucket/x")


@pytest.mark.parametrize(
    "silent",
    [
        pytest.param(False, id="nothing listens"),
        pytest.param(True, id="accepts no more connections", marks=pytest.mark.slow),
    ],
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


def test_uploads_need_no_setting_of_the_person(s3_bucket: str) -> None:
    """Newer SDKs add checksum trailers that this server refuses; a fresh process must not."""
    code = (
        "from doodle_dist.data import storage\n"
        f"storage.write_atomic('{s3_bucket}/a', b'1')\n"
        f"fs, path = storage.train_filesystem('{s3_bucket}/runs')\n"
        "fs.create_dir(path, recursive=True)\n"
        "with fs.open_output_stream(path + '/b') as f: f.write(b'2')\n"
    )
    environment = {k: v for k, v in os.environ.items() if "CHECKSUM" not in k}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)
    assert storage.read_bytes(f"{s3_bucket}/a") == b"1"
    assert storage.read_bytes(f"{s3_bucket}/runs/b") == b"2"


# --- http ------------------------------------------------------------------------------------------------


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a b.ndjson").write_bytes(b"0123456789")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *args: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_http_is_read(web: str) -> None:
    uri = f"{web}/full/a%20b.ndjson"
    assert storage.size(uri) == 10
    assert storage.read_bytes(uri) == b"0123456789"
    assert storage.read_bytes(uri, 0, 4) == b"0123"
    assert storage.list_files(uri) == [FileEntry(uri, 10)]
    assert storage.exists(uri)
    assert not storage.exists(f"{web}/no")
    with pytest.raises(StorageError, match="not found"):
        storage.read_bytes(f"{web}/no")
    with pytest.raises(ValueError, match="read-only"):
        storage.write_atomic(uri, b"")
    with pytest.raises(ValueError, match="read-only"):
        storage.train_filesystem(uri)


def test_http_server_that_is_gone() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{sock.getsockname()[1]}/x"
        for call in (storage.read_bytes, storage.size, storage.exists):
            with pytest.raises(StorageError, match="is unreachable"):
                call(uri)


def test_import_is_light() -> None:
    code = (
        "import sys, doodle_dist.data.storage; print({'pyarrow', 'fsspec', 's3fs', 'ray'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
