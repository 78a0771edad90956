"""Files at any location: what is there, reading, writing, deleting.

Every call tries again for a while where its store is busy (see retry.py), and raises ``StorageError`` for what does
not pass.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import hashlib
import io
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from doodle_dist.data.filesystems import filesystem, fsspec_filesystem
from doodle_dist.data.locations import public, split_uri
from doodle_dist.data.storage_errors import StorageError, errors_about, patiently

if TYPE_CHECKING:
    import pyarrow as pa


COPY_BYTES = 4 << 20


class FileEntry(NamedTuple):
    """A file in a listing: where it is and how long it is (bytes)."""

    uri: str
    size: int


# --- reading ---------------------------------------------------------------------------------------------


@patiently
def _stat(uri: str) -> tuple[str, int]:
    """("file" | "folder" | "nothing", bytes). Raises StorageError for a store that cannot be asked."""
    import pyarrow.fs

    kind, path = split_uri(uri)
    with errors_about(uri):
        if kind == "http":
            # Not through pyarrow, which takes every failure of a web server for a missing file.
            info = fsspec_filesystem(uri)[0].info(path)
            return "file", int(info["size"] or 0)
        found = filesystem(uri)[0].get_file_info(path)
    if found.type == pyarrow.fs.FileType.NotFound:
        return "nothing", 0
    return ("file", int(found.size)) if found.is_file else ("folder", 0)


def exists(uri: str) -> bool:
    """Whether there is a file or folder at ``uri``. A store that cannot be asked is a StorageError."""
    try:
        return _stat(uri)[0] != "nothing"
    except StorageError as error:
        if str(error) == f"{public(uri)} not found":
            return False
        raise


def is_folder(uri: str) -> bool:
    """Whether ``uri`` is a folder (or, on an object store, a prefix with something below it)."""
    return _stat(uri)[0] == "folder"


def size(uri: str) -> int:
    """Length of the file at ``uri`` in bytes. Raises StorageError where there is none."""
    what, length = _stat(uri)
    if what != "file":
        raise StorageError(f"{public(uri)} not found" if what == "nothing" else f"{uri} is a folder")
    return length


@patiently
def open_input(uri: str) -> pa.NativeFile:
    """A seekable file open for reading."""
    fs, path = filesystem(uri)
    with errors_about(uri):
        if split_uri(uri)[0] == "http":
            import pyarrow as pa

            return pa.PythonFile(fsspec_filesystem(uri)[0].open(path), mode="r")
        return fs.open_input_file(path)


class PatientFile(io.RawIOBase):
    """A file open for reading, each of whose reads is tried again at the place where it failed.

    ``read(n)`` gives n bytes, fewer only at the end. Raises StorageError.
    """

    def __init__(self, uri: str) -> None:
        super().__init__()
        self._uri, self._at = uri, 0
        self._file: pa.NativeFile | None = open_input(uri)

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    @patiently
    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, counted from the file's beginning."""
        assert whence == os.SEEK_SET
        if place != self._at:  # a pipe has no places to go to
            with errors_about(self._uri), self._open() as file:
                file.seek(place)
                self._at = place
        return self._at

    @patiently
    def read(self, size: int = -1) -> bytes:
        pieces, length = [], 0
        with errors_about(self._uri), self._open() as file:
            while length != size and (piece := file.read(None if size < 0 else size - length)):
                pieces.append(piece)
                length += len(piece)
        self._at += length
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    @contextlib.contextmanager
    def _open(self) -> Iterator[pa.NativeFile]:
        """The file at its place; opened anew where something has failed."""
        if self._file is None:
            file = open_input(self._uri)
            try:
                if self._at:
                    file.seek(self._at)
            except ValueError as error:  # a web server that doesn't tell how long the file is
                raise StorageError(f"{public(self._uri)} broke off, and can't be read on: {error}") from None
            self._file = file
        try:
            yield self._file
        except Exception:
            self._file = None
            raise

    def close(self) -> None:
        if self._file is not None and not self.closed:
            self._file.close()
        super().close()


@patiently
def read_bytes(uri: str, start: int = 0, length: int | None = None) -> bytes:
    """``length`` bytes from ``start`` on; to the end without it, fewer where the file ends before."""
    kind, path = split_uri(uri)
    with errors_about(uri):
        if kind == "file":  # small pieces take a third of what they take through pyarrow
            with open(path, "rb") as local:
                if start:  # a pipe has no places to go to
                    local.seek(start)
                return local.read(-1 if length is None else length)
        with open_input(uri) as file:
            if start:
                file.seek(start)
            return bytes(file.read() if length is None else file.read(length))


def read_if_there(uri: str) -> bytes | None:
    """A file's bytes; None where there is none: it may have been deleted since it was listed. Raises StorageError."""
    try:
        return read_bytes(uri)
    except StorageError:
        if exists(uri):
            raise
        return None


@patiently
def sha256_of(uri: str) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with errors_about(uri), open_input(uri) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def list_files(
    uri_or_glob: str,
    suffixes: Iterable[str] = ("",),
    *,
    recursive: bool = False,
    hidden: bool = False,
    missing_ok: bool = False,
) -> list[FileEntry]:
    """The files at a location, sorted, with their sizes.

    A folder gives the files in it (``recursive``: also below it) that end with one of ``suffixes``; a file
    gives itself; a glob (``*``, ``?``, ``[…]``, ``**``) what it matches. Hidden files (``.x``, ``_x``) are
    skipped unless named or ``hidden``. An http location is always one file. Raises StorageError where there
    is nothing; with ``missing_ok``, which takes no globs, that gives none.
    """
    suffixes = tuple(suffixes)
    kind, path = split_uri(uri_or_glob)
    if kind == "http":
        if missing_ok and not exists(uri_or_glob):
            return []
        return [FileEntry(uri_or_glob, size(uri_or_glob))]
    is_glob = any(sign in path for sign in "*?[")
    what, length = _stat(uri_or_glob)  # a name may hold a glob's signs and be meant as it stands
    if what == "file":
        return [FileEntry(uri_or_glob, length)]
    if what == "nothing" and missing_ok:
        return []
    if what == "nothing" and not is_glob:
        raise StorageError(f"{public(uri_or_glob)} not found")
    if what == "folder":
        found = _walk(kind, path, uri_or_glob, recursive, hidden)
        return [entry for entry in found if entry.uri.endswith(suffixes)]
    parts = path.split("/")
    first = next(i for i, part in enumerate(parts) if any(sign in part for sign in "*?["))
    base = "/".join(parts[:first]) or "/"
    found = _walk(kind, base, uri_or_glob, True, hidden) if first else []
    return [
        entry
        for entry in found
        if _matches(split_uri(entry.uri)[1].split("/")[first:], parts[first:])
        and entry.uri.endswith(suffixes)
    ]


@patiently
def list_folders(uri: str) -> list[str]:
    """The folders right below ``uri``, sorted; none where there is nothing. What lies in them is not looked at."""
    import pyarrow.fs

    kind, base = split_uri(uri)
    fs, _ = filesystem(uri)
    with errors_about(uri):
        infos = fs.get_file_info(pyarrow.fs.FileSelector(base, allow_not_found=True))
    prefix = "" if kind == "file" else f"{kind}://"
    return sorted(
        prefix + info.path.rstrip("/") for info in infos if info.type == pyarrow.fs.FileType.Directory
    )


@patiently
def _walk(kind: str, base: str, uri: str, recursive: bool, hidden: bool) -> list[FileEntry]:
    import pyarrow.fs

    fs, _ = filesystem(uri)
    selector = pyarrow.fs.FileSelector(base, recursive=recursive, allow_not_found=True)
    with errors_about(uri):
        infos = fs.get_file_info(selector)
    prefix = "" if kind == "file" else f"{kind}://"
    below = len(base.rstrip("/")) + 1
    return sorted(
        FileEntry(prefix + info.path, int(info.size))
        for info in infos
        if info.is_file
        and (hidden or not any(part.startswith((".", "_")) for part in info.path[below:].split("/")))
    )


def _matches(parts: list[str], pattern: list[str]) -> bool:
    """Whether a path fits a glob, part by part; ``**`` stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[skip:], pattern[1:]) for skip in range(len(parts)))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


# --- writing ---------------------------------------------------------------------------------------------


def _writable(uri: str) -> tuple[str, str]:
    kind, path = split_uri(uri)
    if kind == "http":
        raise ValueError(f"'{public(uri)}' is read-only: write to a local path, s3:// or gs://")
    return kind, path


def _in_its_folder(path: str) -> Path:
    """A local file's path; its folder is made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


@contextlib.contextmanager
def _temporary_beside(target: Path) -> Iterator[Path]:
    """A new name in the folder of a local file; what is still there in the end is deleted."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _new_on_disk(path: Path) -> Iterator[BinaryIO]:
    """A new file to write to, which is on disk once the block is left. Raises FileExistsError where there is one."""
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes a local file's place once the block is left, and only on disk.

    Its folder has to be there. Raises OSError. After an exception, what was there stays.
    """
    with _temporary_beside(target) as temporary:
        with _new_on_disk(temporary) as file:
            yield file
        temporary.replace(target)


@patiently
def write_atomic(uri: str, data: bytes) -> None:
    """Write a whole file so that a reader sees the old content or the new, never a part.

    Local: a temporary file beside it, fsync, rename. Object stores: one put, which is atomic.
    """
    kind, path = _writable(uri)
    with errors_about(uri):
        if kind != "file":
            # No compression, or pyarrow would compress what is named .gz once more.
            with filesystem(uri)[0].open_output_stream(path, compression=None) as stream:
                stream.write(data)
            return
        with replacing(_in_its_folder(path)) as file:
            file.write(data)


@patiently
def put_file(local: str | Path, uri: str) -> None:
    """Copy a local file to ``uri``; it appears there whole or not at all."""
    kind, path = _writable(uri)
    with errors_about(uri):
        if kind == "file":
            with open(local, "rb") as source, replacing(_in_its_folder(path)) as file:
                shutil.copyfileobj(source, file, COPY_BYTES)
            return
        import pyarrow as pa

        # Leaving the block completes the upload, after an exception too: so no Python runs between its first byte and
        # its last.
        with (
            pa.memory_map(str(local)) as source,
            filesystem(uri)[0].open_output_stream(path, compression=None) as stream,
        ):
            stream.write(source.read_buffer())


# What a file system without hard links answers: exFAT, many network shares.
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


@patiently
def create_on_disk(path: str, data: bytes) -> bool:
    """Write a whole file where there is none yet; False, and nothing is written, where there is one. Atomic."""
    with errors_about(path), _temporary_beside(_in_its_folder(path)) as temporary:
        with _new_on_disk(temporary) as file:
            file.write(data)
        try:
            os.link(temporary, path)  # unlike a rename, it fails where the target is there
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            try:
                with _new_on_disk(Path(path)) as file:
                    file.write(data)
            except FileExistsError:
                return False
        return True


@patiently
def delete_prefix(uri: str) -> None:
    """Delete everything below ``uri``, or the file it names; nothing there is no error.

    Raises ValueError for a disk's root, a home, the working directory or one above it, or a whole bucket.
    """
    kind, path = _writable(uri)
    if kind == "file":
        here, home = Path.cwd().resolve(), Path.home().resolve()
        real = Path(path).resolve()
        if real in (here, home, *here.parents, *home.parents):
            raise ValueError(f"refusing to delete '{uri}': it is a root, a home or the working directory")
        with errors_about(uri), contextlib.suppress(FileNotFoundError):
            if Path(path).is_dir() and not Path(path).is_symlink():
                shutil.rmtree(path)
            else:
                Path(path).unlink()
        return
    if "/" not in path:
        raise ValueError(f"refusing to delete '{uri}': it is a whole bucket")
    # Listed with pyarrow, as s3fs takes a refused key for an empty prefix; deleted with s3fs (see filesystems.py).
    try:
        entries = list_files(uri, recursive=True, hidden=True)
    except StorageError as error:
        if str(error).endswith("not found"):
            return
        raise
    paths = [split_uri(entry.uri)[1] for entry in entries]
    with errors_about(uri):
        if kind == "gs":  # what fsspec makes of it deletes one path at a time, and with pyarrow's own call
            for each in paths:
                with contextlib.suppress(FileNotFoundError):
                    filesystem(uri)[0].delete_file(each)
        elif paths:
            fsspec_filesystem(uri)[0].rm(paths)
