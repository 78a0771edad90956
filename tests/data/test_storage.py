"""Storage: the same calls on disk, on a real S3 server and on a web server."""

import errno
import functools
import hashlib
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from doodle_dist.data import locations, storage
from doodle_dist.data.storage import FileEntry
from doodle_dist.data.storage_errors import StorageError


def test_written_bytes_are_read_back(place: str) -> None:
    uri = locations.join(place, "a", "b c.bin")
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
        storage.write_atomic(locations.join(place, "in", name), name.encode())
    folder = locations.join(place, "in")

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
        storage.list_files(locations.join(place, "nowhere"))
    assert storage.list_files(locations.join(place, "nowhere"), missing_ok=True) == []
    assert storage.list_files(folder + "/[a-c]*.ndjson", missing_ok=True) == []
    assert names(storage.list_files(folder, (".ndjson",), missing_ok=True)) == names(
        storage.list_files(folder, (".ndjson",))
    )


def test_missing_files_are_named(place: str) -> None:
    uri = locations.join(place, "no.txt")
    for call in (storage.read_bytes, storage.size, storage.sha256_of, storage.open_input):
        with pytest.raises(StorageError) as error:
            call(uri)
        assert str(error.value) == f"{uri} not found"


def test_delete_prefix_deletes_that_and_nothing_else(place: str) -> None:
    for name in ("run/a", "run/b/c", "run/.d", "runs/e", "f"):
        storage.write_atomic(locations.join(place, name), b"x")
    storage.delete_prefix(locations.join(place, "run"))
    assert not storage.exists(locations.join(place, "run/b/c"))
    assert not storage.exists(locations.join(place, "run/.d"))
    assert storage.exists(locations.join(place, "runs/e"))
    storage.delete_prefix(locations.join(place, "f"))
    assert not storage.exists(locations.join(place, "f"))
    storage.delete_prefix(locations.join(place, "run"))  # nothing there: no error


def test_a_packed_file_is_stored_as_it_is(place: str, tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(b"packed already")
    storage.write_atomic(locations.join(place, "a.gz"), b"packed already")
    storage.put_file(tmp_path / "x.gz", locations.join(place, "b.gz"))
    assert [storage.read_bytes(locations.join(place, name)) for name in ("a.gz", "b.gz")] == [
        b"packed already"
    ] * 2


def test_put_file_copies_large_files(place: str, tmp_path: Path) -> None:
    local = tmp_path / "big.bin"
    local.write_bytes(os.urandom(12 << 20))  # more than one part of an S3 multipart upload
    uri = locations.join(place, "x", "big.bin")
    storage.put_file(local, uri)
    assert storage.sha256_of(uri) == storage.sha256_of(str(local))


def test_an_empty_file_is_put(place: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    storage.put_file(tmp_path / "empty", locations.join(place, "empty"))
    assert storage.read_bytes(locations.join(place, "empty")) == b""


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


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_disk_without_hard_links_creates_a_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", no_links)
    where = str(tmp_path / "lease" / "000001.json")
    assert storage.create_on_disk(where, b"first")
    assert not storage.create_on_disk(where, b"second")
    assert storage.read_bytes(where) == b"first"
    assert [file.name for file in (tmp_path / "lease").iterdir()] == ["000001.json"]


def test_google_s_store_is_deleted_from_path_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its filesystem of fsspec takes no list of paths; pyarrow's own calls stand in for it here, on a disk."""
    from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

    disk = SubTreeFileSystem(str(tmp_path), LocalFileSystem())
    monkeypatch.setattr(storage, "filesystem", lambda uri: (disk, locations.split_uri(uri)[1]))
    for name in ("run/a", "run/deep/b", "other"):
        file = tmp_path / "bucket" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    storage.delete_prefix("gs://bucket/run")
    storage.delete_prefix("gs://bucket/nothing")
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["other"]


def test_delete_refuses_what_nobody_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for place in ("/", "~", ".", "..", str(tmp_path), "s3://bucket", "s3://bucket/", "gs://bucket"):
        with pytest.raises(ValueError, match="refusing to delete"):
            storage.delete_prefix(place)
    assert tmp_path.exists()


def test_file_uri_is_a_local_path(tmp_path: Path) -> None:
    storage.write_atomic(f"file://{tmp_path}/x", b"1")
    assert (tmp_path / "x").read_bytes() == b"1"


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


def test_import_is_light() -> None:
    code = (
        "import sys, doodle_dist.data.storage; print({'pyarrow', 'fsspec', 's3fs', 'ray'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"one\ntwo\n",), daemon=True)
    writer.start()
    assert storage.read_bytes(str(pipe)) == b"one\ntwo\n"
    writer.join(10)
