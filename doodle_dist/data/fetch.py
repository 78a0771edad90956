"""Downloading Quick, Draw!'s official files: in parallel, resumed where they broke off, and checked.

A file arrives as ``<name>.part`` and gets its name when its length, and the MD5 that Google's server gives,
are right. Interrupted, in a local folder even in another process, it goes on where it was (HTTP Range), unless the
file on the server has changed since (If-Range with its ETag, which is kept beside the part). On its way to an object
store it lies in a temporary folder.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import functools
import hashlib
import http.client
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, get_args
from urllib.parse import quote, urlsplit

from doodle_dist.data import locations, scratch, storage, storage_errors
from doodle_dist.data.storage_errors import StorageError

T = TypeVar("T")
Item = TypeVar("Item")
Format = Literal["simplified", "raw", "binary", "bitmap"]

BASE_URL = "https://storage.googleapis.com/quickdraw_dataset/full"
_FOLDERS: dict[Format, tuple[str, str]] = {
    "simplified": ("simplified", ".ndjson"),
    "raw": ("raw", ".ndjson"),
    "binary": ("binary", ".bin"),
    "bitmap": ("numpy_bitmap", ".npy"),
}
THREADS = 8
TIMEOUT_S = 20.0
FIRST_TRIES = 4  # to reach the server at all: some 4 s where it refuses connections
TRIES = 8  # in a row without a byte, about a minute; a connection that drops after some is simply continued
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
_BLOCK_BYTES = 1 << 20


class Fetched(NamedTuple):
    """A file that is there now. ``was_there``: it was already complete and nothing was downloaded."""

    uri: str
    size: int
    was_there: bool


@dataclass(frozen=True)
class Progress:
    """How far a fetch is. ``bytes_total`` counts the files that are to be downloaded, None while unknown."""

    files: int
    files_total: int
    bytes: int
    bytes_total: int | None


class _Remote(NamedTuple):
    """What the server says of a file."""

    size: int | None
    version: str | None  # for If-Range: the ETag, or when it was last changed
    md5: bytes | None


class _TryAgainError(Exception):
    """A failure that may pass: the message says what happened."""

    def __init__(self, message: str, pause_s: float = 0.0) -> None:
        super().__init__(message)
        self.pause_s = pause_s


class _NothingLeftError(_TryAgainError):
    """HTTP 416: there is nothing where it was asked for. ``total``: the file's length, where the server says it."""

    def __init__(self, error: urllib.error.HTTPError) -> None:
        super().__init__(f"HTTP {error.code} {error.reason}")
        total = error.headers.get("Content-Range", "").rpartition("/")[2]
        self.total = int(total) if total.isdigit() else None


class _StoppedError(Exception):
    """Another file failed, or the person pressed Ctrl-C."""


def file_url(category: str, format: Format, base_url: str = BASE_URL) -> str:
    """Where a category's official file lies."""
    folder, suffix = _FOLDERS[format]
    return f"{base_url.rstrip('/')}/{folder}/{quote(category)}{suffix}"


def fetch(
    categories: Sequence[str],
    format: Format,
    to: str,
    *,
    base_url: str = BASE_URL,
    threads: int = THREADS,
    progress: Callable[[Progress], None] | None = None,
) -> list[Fetched]:
    """Download the files of ``categories`` to ``<to>/<category>.<ndjson|bin|npy>``, a local folder or s3://.

    Files that are there with the server's length are skipped. Raises ValueError for a wrong request; before anything
    is downloaded StorageError for a file that the server does not have, a server that stays unreachable, or too small a
    disk; after that WorkFailedError for a server that keeps breaking off, a file whose length or MD5 is wrong, or a
    full disk. Whole files stay, and in a local folder what there is of others, and the same call goes on from there.
    """
    if format not in _FOLDERS:
        raise ValueError(f"format is '{format}'; it is one of {', '.join(get_args(Format))}")
    if not categories:
        raise ValueError("categories: none given")
    if locations.split_uri(to)[0] == "http":
        raise ValueError(f"'{locations.public(to)}' is read-only: fetch to a local path, s3:// or gs://")
    suffix = _FOLDERS[format][1]
    urls = {f"{category}{suffix}": file_url(category, format, base_url) for category in categories}
    with _folder_to_work_in(to) as folder:
        work = _Work(to, folder, len(categories), progress)
        with ThreadPoolExecutor(threads, "fetch") as pool, work.stopping_on_error():
            remotes = dict(zip(urls, _all(pool, work.look, urls.values()), strict=True))
            there = {entry.uri: entry.size for entry in storage.list_files(to, missing_ok=True)}
            missing = [
                name
                for name, remote in remotes.items()
                if there.get(locations.join(to, name), -1) != remote.size
            ]
            work.expect([remotes[name].size for name in missing], len(urls) - len(missing))
            work.require_space()
            with storage_errors.under_way():
                lengths = _all(pool, lambda name: work.download(urls[name], name, remotes[name]), missing)
            sizes = dict(zip(missing, lengths, strict=True))
    return [
        Fetched(locations.join(to, name), sizes.get(name, remotes[name].size or 0), name not in sizes)
        for name in urls
    ]


def _all(pool: ThreadPoolExecutor, call: Callable[[Item], T], items: Iterable[Item]) -> list[T]:
    """The results of all calls, or the first error."""
    futures: list[Future[T]] = [pool.submit(call, item) for item in items]
    try:
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        return [future.result() for future in futures]
    except BaseException:  # Ctrl-C too
        for future in futures:
            future.cancel()
        raise


@contextlib.contextmanager
def _folder_to_work_in(to: str) -> Iterator[Path]:
    """Where files come to be: the folder itself, or a brief one on their way to an object store."""
    kind, path = locations.split_uri(to)
    if kind == "file":
        yield Path(path)
    else:
        with scratch.brief_folder("fetch") as folder:
            yield folder


class _Work:
    """One call of ``fetch``: counts, the signal to stop, and the steps for each file."""

    def __init__(
        self, to: str, folder: Path, files: int, progress: Callable[[Progress], None] | None
    ) -> None:
        self.to, self.folder = to, folder
        self.progress = progress
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.files, self.files_total, self.bytes = 0, files, 0
        self.bytes_total: int | None = None
        self.is_local = locations.split_uri(to)[0] == "file"

    @contextlib.contextmanager
    def stopping_on_error(self) -> Iterator[None]:
        """Tell the threads, which are waited for after this, that there is no use in going on."""
        try:
            yield
        except BaseException:
            self.stop.set()
            raise

    def expect(self, sizes: list[int | None], files_there: int) -> None:
        self.files = files_there
        if None not in sizes:
            self.bytes_total = sum(size or 0 for size in sizes)
        self.count(0)

    def count(self, n_bytes: int, files: int = 0) -> None:
        with self.lock:
            self.bytes += n_bytes
            self.files += files
            if self.progress:
                self.progress(Progress(self.files, self.files_total, self.bytes, self.bytes_total))

    def require_space(self) -> None:
        if self.is_local and self.bytes_total:
            with storage_errors.errors_about(self.to):
                self.folder.mkdir(parents=True, exist_ok=True)
            parts = sum(part.stat().st_size for part in self.folder.glob("*.part"))
            free = shutil.disk_usage(self.folder).free
            if self.bytes_total - parts > free:
                raise StorageError(
                    f"no space left on {self.to}: {self.bytes_total / 1e9:.1f} GB are to come, "
                    f"{free / 1e9:.1f} GB are free"
                )

    # --- one file ---

    def look(self, url: str) -> _Remote:
        """What the server says of a file, without downloading it."""

        def head() -> _Remote:
            with _request(url, "HEAD") as response:
                return _remote(response)

        return self.patiently(url, head, FIRST_TRIES)

    def download(self, url: str, name: str, remote: _Remote) -> int:
        """Fetch one file, check it and put it in its place. Returns its length."""
        part = self.folder / f"{name}.part"
        mark = self.folder / f"{name}.part.version"
        for attempt in (1, 2):
            self.begin(part, mark, remote)
            self.patiently(url, functools.partial(self.receive, url, part, remote), TRIES, part)
            problem = _problem(part, remote)
            if problem is None:
                break
            self.count(-part.stat().st_size)
            part.unlink()
            if attempt == 2:  # once may be an accident, or a file that was replaced just now
                raise StorageError(f"{locations.public(url)}: {problem}")
            remote = self.look(url)
        size = part.stat().st_size
        target = locations.join(self.to, name)
        with storage_errors.errors_about(target):
            if self.is_local:
                part.replace(self.folder / name)
            else:
                storage.put_file(part, target)
                part.unlink()
            mark.unlink(missing_ok=True)
        self.count(0, files=1)
        return size

    def begin(self, part: Path, mark: Path, remote: _Remote) -> None:
        """Keep the part that an earlier run left, if it is one of this version of the file."""
        with storage_errors.errors_about(str(part)):
            self.folder.mkdir(parents=True, exist_ok=True)
            known = part.exists() and mark.exists() and remote.version and mark.read_text() == remote.version
            if not known or (remote.size is not None and part.stat().st_size > remote.size):
                part.write_bytes(b"")
                mark.write_text(remote.version or "")
            self.count(part.stat().st_size)

    def receive(self, url: str, part: Path, remote: _Remote) -> None:
        """As `append`; where the server has nothing after ``part``, that is whole, or is begun anew."""
        try:
            self.append(url, part, remote)
        except _NothingLeftError as error:
            have = part.stat().st_size
            if error.total == have:
                return
            self.count(-have)
            with storage_errors.errors_about(str(part)):
                part.write_bytes(b"")
            raise

    def append(self, url: str, part: Path, remote: _Remote) -> None:
        """Append to ``part`` what is missing. Raises _TryAgainError where the connection ends too early."""
        have = part.stat().st_size
        if have and have == remote.size:
            return
        headers = {"Range": f"bytes={have}-", "If-Range": remote.version} if have and remote.version else {}
        with _request(url, "GET", headers) as response:
            continued = response.status == 206
            if continued and _range_start(response) != have:
                raise _TryAgainError("the server sent another part of the file than it was asked for")
            if not continued:
                self.count(-have)
                have = 0
            announced = response.headers.get("Content-Length", "")
            expected = have + int(announced) if announced.isdigit() else None
            with storage_errors.errors_about(str(part)):
                file = part.open("ab" if continued else "wb")
            with file:
                while block := response.read(_BLOCK_BYTES):
                    with storage_errors.errors_about(str(part)):
                        file.write(block)
                    have += len(block)
                    self.count(len(block))
                    if self.stop.is_set():
                        raise _StoppedError
        if expected is not None and have < expected:
            raise _TryAgainError(f"the connection was closed after {have} of {expected} bytes")

    def patiently(self, url: str, call: Callable[[], T], most: int, part: Path | None = None) -> T:
        """``call()``, again after growing pauses while it fails in a way that may pass.

        It gives up after ``most`` failures in a row in which ``part`` did not grow.
        """
        tries, pause, longest = 0, FIRST_PAUSE_S, -1
        while True:
            try:
                return call()
            except _TryAgainError as error:
                problem = error
            except (http.client.HTTPException, OSError) as error:  # of the network: files raise StorageError
                problem = _TryAgainError(f"{type(error).__name__} {error}".strip())
            size = part.stat().st_size if part else 0
            if size > longest:
                tries, pause, longest = 0, FIRST_PAUSE_S, size
            tries += 1
            if tries >= most:
                raise StorageError(
                    f"{locations.public(url)}: gave up after {tries} tries: {problem}"
                ) from problem
            if self.stop.wait(max(pause, min(problem.pause_s, LONGEST_PAUSE_S))):
                raise _StoppedError
            pause = min(2 * pause, LONGEST_PAUSE_S)


# --- HTTP ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _request(
    url: str, method: str, headers: dict[str, str] | None = None
) -> Iterator[http.client.HTTPResponse]:
    """An open answer with status 200 or 206. Raises _TryAgainError or StorageError for the others."""
    request = urllib.request.Request(
        url, method=method, headers={"Accept-Encoding": "identity"} | (headers or {})
    )
    where = locations.public(url)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            raise StorageError(f"{where} not found") from None
        if error.code in (401, 403):
            raise StorageError(f"{where}: the server refused it (HTTP {error.code})") from None
        if error.code == 416:
            raise _NothingLeftError(error) from None
        if error.code in (408, 425, 429) or error.code >= 500:
            raise _TryAgainError(f"HTTP {error.code} {error.reason}", _retry_after(error.headers)) from None
        raise StorageError(f"{where}: HTTP {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _TryAgainError(
            f"the server at {urlsplit(url).netloc} is unreachable ({error.reason})"
        ) from None
    with response:
        yield response


def _retry_after(headers: Message) -> float:
    """The pause in seconds that a server asks for, 0 where it asks for none."""
    value = headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    with contextlib.suppress(TypeError, ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return 0.0


def _remote(response: http.client.HTTPResponse) -> _Remote:
    headers = response.headers
    length = headers.get("Content-Length", "")
    md5 = None
    # The hash is of the stored file, which is another one if it is stored compressed.
    if headers.get("x-goog-stored-content-encoding", "identity") == "identity":
        for value in ",".join(headers.get_all("x-goog-hash", [])).split(","):
            if value.strip().startswith("md5="):
                md5 = base64.b64decode(value.strip()[4:])
    version = headers.get("ETag")
    if not version or version.startswith("W/"):  # If-Range takes no weak ones
        version = headers.get("Last-Modified")
    return _Remote(int(length) if length.isdigit() else None, version, md5)


def _range_start(response: http.client.HTTPResponse) -> int:
    value = response.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0]
    return int(value) if value.isdigit() else -1


def _problem(part: Path, remote: _Remote) -> str | None:
    """What is wrong with a file that arrived."""
    size = part.stat().st_size
    if remote.size is not None and size != remote.size:
        return f"{size} bytes arrived, the server had announced {remote.size}"
    if remote.md5 is not None:
        with part.open("rb") as file:
            if hashlib.file_digest(file, "md5").digest() != remote.md5:
                return "what arrived has another MD5 than the server's file"
    return None
