"""The one place where filesystems are built: local paths, ``s3://``, ``gs://`` and ``http(s)://``.

Locations stay strings everywhere. Credentials come from the environment, the AWS files or the machine's
role and never from a URI. Whatever a store answers reaches a person as one line: ``StorageError``.

Two libraries read S3 here. pyarrow's native filesystem is the faster one and does all reading and writing of
data. s3fs is handed to Ray Train and deletes, because pyarrow's creates empty directory objects (``runs/``)
before it writes, moves or deletes, and some S3 servers (rclone's among them) refuse those.
"""

from __future__ import annotations

import configparser
import contextlib
import errno
import fnmatch
import functools
import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar
from urllib.parse import urlsplit

from doodle_dist.data.retry import is_transient, persistently

if TYPE_CHECKING:
    import fsspec
    import pyarrow as pa
    import pyarrow.fs

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 30.0
MAX_ATTEMPTS = 3  # 3 attempts of 3 s and the pauses between them: a dead endpoint is reported in ~10 s

_S3_SCHEMES = ("s3", "s3a", "s3n")
_GCS_SCHEMES = ("gs", "gcs")
_HTTP_SCHEMES = ("http", "https")
_HOW_TO_GIVE_KEYS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use an AWS profile",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS",
    "http": "use a location that needs none",
}


class StorageError(Exception):
    """A store could not do what was asked. The message is one readable line that names the location."""


class DamagedError(StorageError):
    """A file is there and is not what it was written as: reading it again would give the same."""


class FileEntry(NamedTuple):
    """A file in a listing: where it is and how long it is (bytes)."""

    uri: str
    size: int


# --- locations -------------------------------------------------------------------------------------------


def split_uri(uri: str) -> tuple[str, str]:
    """(kind, path) of a location; kind is "file", "s3", "gs" or "http".

    The path is what the filesystem of that kind wants: absolute for local files, ``bucket/key`` for object
    stores, the whole URL for http. Raises ValueError for a scheme that is not known and for a URI with
    credentials in it (without repeating them).
    """
    uri = str(uri)
    match = re.match(r"^([A-Za-z][A-Za-z0-9+.-]*)://(.*)$", uri, re.DOTALL)
    if not match:
        if not uri:
            raise ValueError("the location is empty")
        return "file", os.path.abspath(os.path.expanduser(uri))
    scheme, rest = match.group(1).lower(), match.group(2)
    if scheme == "file":
        return "file", os.path.abspath("/" + rest.lstrip("/"))
    if scheme in _S3_SCHEMES:
        kind = "s3"
    elif scheme in _GCS_SCHEMES:
        kind = "gs"
    elif scheme in _HTTP_SCHEMES:
        kind = "http"
    else:
        raise ValueError(
            f"location '{scheme}://…' has an unknown scheme; use a local path, s3://, gs:// or http(s)://"
        )
    _refuse_credentials(kind, rest)
    if kind == "http":
        return kind, uri
    path = rest.rstrip("/")
    if not path or path.startswith("/"):
        raise ValueError(f"location '{uri}' names no bucket; write {kind}://bucket/path")
    return kind, path


def _refuse_credentials(kind: str, rest: str) -> None:
    netloc = rest.split("/", 1)[0]
    host, _, port = netloc.partition(":")
    odd_port = bool(port) and (kind != "http" or not port.isdigit()) and not host.startswith("[")
    # A secret may hold a slash, so 'key:sec/ret@bucket' also shows as a port that is no number.
    in_query = re.search(r"[?&](access_key|secret_key|aws_\w*key\w*|session_token|password)=", rest, re.I)
    if "@" in netloc or odd_port or in_query:
        raise ValueError(
            f"a {kind}:// location must not hold a user, password or key (it would end up in logs and "
            f"manifests): remove them from the URI and {_HOW_TO_GIVE_KEYS[kind]}"
        )


def public(uri: str) -> str:
    """The location as it may be printed: an http URL loses its query, which can hold a signature."""
    return uri.split("?", 1)[0] if uri.lower().startswith(("http://", "https://")) else uri


def join(uri: str, *parts: str) -> str:
    """The location ``parts`` below ``uri``. Unlike os.path.join, no part can lead outside of it."""
    for part in parts:
        if part.startswith("/") or "://" in part or ".." in part.split("/"):
            raise ValueError(f"cannot join '{part}' to '{public(uri)}': it leads outside of it")
    pieces = [uri.rstrip("/") or "/", *(part.strip("/") for part in parts)]
    return "/".join(piece for piece in pieces if piece).replace("//", "/", 1 if uri == "/" else 0)


def absolute(uri: str) -> str:
    """A local path made absolute, since workers have other working directories; a URI as it is."""
    return uri if "://" in uri else str(Path(uri).expanduser().absolute())


def basename(uri: str) -> str:
    """The last part of a location, without an http query."""
    return public(uri).rstrip("/").rsplit("/", 1)[-1]


# --- filesystems -----------------------------------------------------------------------------------------


def s3_endpoint(endpoint: str | None = None) -> str | None:
    """The S3 endpoint URL in force, None for AWS itself.

    In this order: the argument, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, ``endpoint_url`` of the profile in
    the AWS config file (which pyarrow ignores). Raises ValueError for one that is no http(s) URL.
    """
    found = (
        endpoint
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or _endpoint_in_config_file()
    )
    if not found:
        return None
    parts = urlsplit(found)
    if "@" in parts.netloc:
        raise ValueError("the S3 endpoint must not hold a user or password; " + _HOW_TO_GIVE_KEYS["s3"])
    if parts.scheme not in _HTTP_SCHEMES or not parts.netloc:
        raise ValueError(f"the S3 endpoint '{found}' is no URL; write it like http://host:9000")
    return found.rstrip("/")


def use_endpoint(endpoint: str | None) -> None:
    """Make ``endpoint`` the S3 endpoint of this process and of the processes it starts (None: no change)."""
    if endpoint:
        os.environ["AWS_ENDPOINT_URL_S3"] = s3_endpoint(endpoint) or ""


def _endpoint_in_config_file() -> str | None:
    path = Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser()
    profile = os.environ.get("AWS_PROFILE", "default")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path)
    except (configparser.Error, OSError):
        return None  # botocore and the SDK report a broken config file themselves
    section = "default" if profile == "default" else f"profile {profile}"
    return parser.get(section, "endpoint_url", fallback=None)


def _ask_for_plain_uploads() -> None:
    # Newer AWS SDKs add trailing checksums to every upload, which S3 look-alikes refuse. A person's own
    # setting wins. The C++ SDK inside pyarrow reads the environment, so an option is not enough.
    os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")


def filesystem(uri: str, *, endpoint: str | None = None) -> tuple[pa.fs.FileSystem, str]:
    """The pyarrow filesystem for reading and writing data at ``uri``, and the path on it.

    Native and fast for local files, S3 and Google Cloud Storage; http(s) goes through fsspec and is
    read-only. Raises ValueError for a location that cannot be one.
    """
    kind, path = split_uri(uri)
    if kind == "s3":
        where = s3_endpoint(endpoint)
        bucket = path.split("/", 1)[0] if where is None else ""
        return _native_s3(where, bucket, os.getpid()), path
    return _other_filesystem(kind), path


@functools.lru_cache(maxsize=16)
def _native_s3(endpoint: str | None, bucket: str, pid: int) -> pa.fs.S3FileSystem:
    import pyarrow.fs

    _ask_for_plain_uploads()
    options: dict[str, Any] = {}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if endpoint is not None:
        parts = urlsplit(endpoint)
        options = {"endpoint_override": parts.netloc + parts.path, "scheme": parts.scheme}
        region = region or "us-east-1"
    elif not region:
        with contextlib.suppress(OSError):  # offline, or not allowed: the request itself will say so
            region = pyarrow.fs.resolve_s3_region(bucket)
    if region:
        options["region"] = region
    return pyarrow.fs.S3FileSystem(
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=READ_TIMEOUT_S,
        # Not the "standard" strategy: its budget is spent after a hundred retries, and it fails at once from then on.
        retry_strategy=pyarrow.fs.AwsDefaultS3RetryStrategy(max_attempts=MAX_ATTEMPTS - 1),  # after the first
        allow_delayed_open=True,  # a small file is one put and not a multipart upload of three requests
        **options,
    )


def forget_filesystems() -> None:
    """Build filesystems anew, after the environment's keys have changed."""
    _native_s3.cache_clear()
    import s3fs

    from doodle_dist.data.patient_s3 import PatientS3FileSystem

    s3fs.S3FileSystem.clear_instance_cache()
    PatientS3FileSystem.clear_instance_cache()


def _other_filesystem(kind: str) -> pa.fs.FileSystem:
    import pyarrow.fs

    if kind == "file":
        return pyarrow.fs.LocalFileSystem()
    if kind == "gs":
        from datetime import timedelta

        return pyarrow.fs.GcsFileSystem(retry_time_limit=timedelta(seconds=15))
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(_fsspec_of(kind, None)))


def fsspec_filesystem(uri: str, *, endpoint: str | None = None) -> tuple[fsspec.AbstractFileSystem, str]:
    """The fsspec filesystem for ``uri`` and the path on it (s3fs for S3)."""
    kind, path = split_uri(uri)
    return _fsspec_of(kind, s3_endpoint(endpoint) if kind == "s3" else None), path


def _fsspec_of(kind: str, endpoint: str | None, *, patient: bool = False) -> fsspec.AbstractFileSystem:
    import fsspec

    if kind == "file":
        return fsspec.filesystem("file", auto_mkdir=True)
    if kind == "http":
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S)
        return fsspec.filesystem("http", client_kwargs={"timeout": timeout, "trust_env": True})
    if kind == "gs":
        from fsspec.implementations.arrow import ArrowFSWrapper

        return ArrowFSWrapper(_other_filesystem("gs"))
    _ask_for_plain_uploads()
    config = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "retries": {"max_attempts": MAX_ATTEMPTS, "mode": "standard"},
        "s3": {"addressing_style": "path"},
    }
    from doodle_dist.data.patient_s3 import PatientS3FileSystem

    # Other processes write the same prefixes, so a cached listing would be a wrong one.
    kind_of_s3 = PatientS3FileSystem if patient else fsspec.get_filesystem_class("s3")
    return kind_of_s3(endpoint_url=endpoint, config_kwargs=config, use_listings_cache=False)


def train_filesystem(uri: str, *, endpoint: str | None = None) -> tuple[pa.fs.FileSystem, str]:
    """The filesystem for ``RunConfig(storage_filesystem=…, storage_path=…)``, and that path.

    For S3 it goes through s3fs, which creates no directory objects; otherwise it is ``filesystem(uri)``.
    """
    import pyarrow.fs

    kind, path = split_uri(uri)
    if kind == "http":
        raise ValueError(f"'{public(uri)}' is read-only: results go to a local path, s3:// or gs://")
    if kind != "s3":
        return filesystem(uri)
    patient = _fsspec_of("s3", s3_endpoint(endpoint), patient=True)
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(patient)), path


# --- errors ----------------------------------------------------------------------------------------------

_UNREACHABLE = (
    "network_connection",
    "curlcode",
    "could not connect",
    "cannot connect",
    "connect timeout",
    "connection refused",
    "name or service not known",
    "timed out",
    "timeout",
)


def explain(uri: str, error: BaseException) -> StorageError:
    """The one readable line for what a filesystem raised while it worked on ``uri``."""
    if isinstance(error, StorageError):
        return error
    if type(error) is FileNotFoundError and isinstance(error.__cause__, Exception):
        error = error.__cause__  # fsspec calls a web server that cannot be reached "not found"
    kind, path = split_uri(uri)
    where = public(uri)
    text = f"{type(error).__name__} {error}".lower()
    number = getattr(error, "errno", None)
    store = _store_name(kind, uri)
    bucket = path.split("/", 1)[0]
    if number == errno.ENOSPC or "no space left" in text:
        return StorageError(f"no space left on {where}")
    if kind != "file":
        if "no_such_bucket" in text or "nosuchbucket" in text or "specified bucket" in text:
            return StorageError(f"{where}: {store} has no bucket '{bucket}'")
        if "nocredentials" in text or "unable to locate credentials" in text:
            return StorageError(f"{where}: no key was found; {_HOW_TO_GIVE_KEYS[kind]}")
        if re.search(
            r"invalid_?access_?key|signature_?does_?not_?match|access_?denied|forbidden|\b40[13]\b", text
        ):
            hint = {"s3": " (AWS_ACCESS_KEY_ID)", "gs": " (GOOGLE_APPLICATION_CREDENTIALS)"}.get(kind, "")
            return StorageError(f"{where}: {store} refused the key{hint}")
        if kind == "s3" and "http status 400" in text:  # what a request without a signature gets
            return StorageError(f"{where}: {store} refused the request; {_HOW_TO_GIVE_KEYS[kind]}")
    if (
        isinstance(error, FileNotFoundError)
        or "not found" in text
        or "no such" in text
        or "not_found" in text
    ):
        return StorageError(f"{where} not found")
    if isinstance(error, PermissionError):
        return StorageError(f"{where}: permission denied")
    if kind != "file" and (isinstance(error, TimeoutError) or any(sign in text for sign in _UNREACHABLE)):
        return StorageError(f"{where}: {store} is unreachable")
    return StorageError(f"{where}: {' '.join(str(error).split()) or type(error).__name__}")


def _store_name(kind: str, uri: str) -> str:
    if kind == "s3":
        return f"the store at {s3_endpoint() or 'AWS'}"
    if kind == "http":
        return f"the server at {urlsplit(uri).netloc}"
    return "Google Cloud Storage" if kind == "gs" else "the disk"


@contextlib.contextmanager
def errors_about(uri: str) -> Iterator[None]:
    """Whatever a filesystem raises inside becomes a StorageError about ``uri``."""
    try:
        yield
    except (StorageError, ValueError):
        raise
    except Exception as error:
        if isinstance(error, OSError) or _is_client_error(error):
            raise explain(uri, error) from error
        raise


_P = ParamSpec("_P")
_T = TypeVar("_T")


def _patiently(operation: Callable[_P, _T]) -> Callable[_P, _T]:
    """The operation, tried again where its store was busy or away for a moment (see retry.py)."""

    @functools.wraps(operation)
    def tried(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        return persistently(lambda: operation(*args, **kwargs), _may_pass)

    return tried


def _may_pass(error: Exception) -> bool:
    """Whether a StorageError is about something that passes."""
    return isinstance(error, StorageError) and is_transient(error.__cause__ or error)


def _is_client_error(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in ("botocore", "aiobotocore", "aiohttp", "fsspec", "pyarrow")


# --- reading ---------------------------------------------------------------------------------------------


@_patiently
def _stat(uri: str) -> tuple[str, int]:
    """("file" | "folder" | "nothing", bytes). Raises StorageError for a store that cannot be asked."""
    import pyarrow.fs

    kind, path = split_uri(uri)
    with errors_about(uri):
        if kind == "http":
            # Not through pyarrow, which takes every failure of a web server for a missing file.
            info = _fsspec_of("http", None).info(path)
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


@_patiently
def open_input(uri: str) -> pa.NativeFile:
    """A seekable file open for reading."""
    fs, path = filesystem(uri)
    with errors_about(uri):
        if split_uri(uri)[0] == "http":
            import pyarrow as pa

            return pa.PythonFile(_fsspec_of("http", None).open(path), mode="r")
        return fs.open_input_file(path)


@_patiently
def read_bytes(uri: str, start: int = 0, length: int | None = None) -> bytes:
    """``length`` bytes from ``start`` on; to the end without it, fewer where the file ends before."""
    with errors_about(uri), open_input(uri) as file:
        if start:
            file.seek(start)
        return bytes(file.read() if length is None else file.read(length))


@_patiently
def sha256_of(uri: str) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with errors_about(uri), open_input(uri) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def list_files(
    uri_or_glob: str, suffixes: Iterable[str] = ("",), *, recursive: bool = False, hidden: bool = False
) -> list[FileEntry]:
    """The files at a location, sorted, with their sizes.

    A folder gives the files in it (``recursive``: also below it) that end with one of ``suffixes``; a file
    gives itself; a glob (``*``, ``?``, ``[…]``, ``**``) what it matches. Hidden files (``.x``, ``_x``) are
    skipped unless named or ``hidden``. An http location is always one file. Raises StorageError where there
    is nothing.
    """
    suffixes = tuple(suffixes)
    kind, path = split_uri(uri_or_glob)
    if kind == "http":
        return [FileEntry(uri_or_glob, size(uri_or_glob))]
    is_glob = any(sign in path for sign in "*?[")
    what, length = _stat(uri_or_glob)  # a name may hold a glob's signs and be meant as it stands
    if what == "file":
        return [FileEntry(uri_or_glob, length)]
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


@_patiently
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


@_patiently
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


@_patiently
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
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.tmp")
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


@_patiently
def put_file(local: str | Path, uri: str) -> None:
    """Copy a local file to ``uri``; it appears there whole or not at all."""
    kind, path = _writable(uri)
    with errors_about(uri), open(local, "rb") as source:
        if kind == "file":
            target = Path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.tmp")
            try:
                with temporary.open("xb") as file:
                    while block := source.read(1 << 22):
                        file.write(block)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
            return
        # An object exists once its upload is completed: a copy that is cut off here leaves none.
        with filesystem(uri)[0].open_output_stream(path, compression=None) as stream:
            while block := source.read(1 << 22):
                stream.write(block)


@_patiently
def create(uri: str, data: bytes) -> bool:
    """Write a whole file where there is none yet; False, and nothing is written, where there is one.

    Atomic on local disks, and on object stores that know conditional writes (`If-None-Match`). On others, and on
    Google Cloud Storage, of two that write at the same moment both may be told True and the later one stays: who
    must know reads the file again a moment later.
    """
    kind, path = _writable(uri)
    if kind == "file":
        target = Path(path)
        with errors_about(uri):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.tmp")
            try:
                temporary.write_bytes(data)
                os.link(temporary, target)  # unlike a rename, it fails where the target is there
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
            return True
    if exists(uri):
        return False
    if kind != "s3":
        write_atomic(uri, data)
        return True
    with errors_about(uri):
        try:
            _fsspec_of("s3", s3_endpoint()).pipe_file(path, data, mode="create")
        except OSError as error:
            if re.search(
                r"PreconditionFailed|ConditionalRequestConflict|\b(409|412)\b", repr(error.__cause__)
            ):
                return False
            raise
    return True


@_patiently
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
        import shutil

        with errors_about(uri), contextlib.suppress(FileNotFoundError):
            if Path(path).is_dir() and not Path(path).is_symlink():
                shutil.rmtree(path)
            else:
                Path(path).unlink()
        return
    if "/" not in path:
        raise ValueError(f"refusing to delete '{uri}': it is a whole bucket")
    # Listed with pyarrow, as s3fs takes a refused key for an empty prefix; deleted with s3fs (see the top).
    try:
        entries = list_files(uri, recursive=True, hidden=True)
    except StorageError as error:
        if str(error).endswith("not found"):
            return
        raise
    with errors_about(uri):
        _fsspec_of(kind, s3_endpoint() if kind == "s3" else None).rm(
            [split_uri(entry.uri)[1] for entry in entries]
        )
