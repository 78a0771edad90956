"""Whatever a store answers reaches a person as one line: ``StorageError``."""

import contextlib
import errno
import functools
import re
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

from doodle_dist.data.locations import HOW_TO_GIVE_KEYS, public, s3_endpoint, split_uri
from doodle_dist.data.retry import is_transient, persistently
from doodle_dist.errors import WorkFailedError, one_line


class StorageError(Exception):
    """A store could not do what was asked. The message is one readable line that names the location."""


class DamagedError(StorageError):
    """A file is there and is not what it was written as: reading it again would give the same."""


_UNREACHABLE = (
    "network_connection",
    "curlcode",
    "could not connect",
    "cannot connect",
    "could not resolve",
    "status(unavailable",  # what Google's library says of any of these, and of a store that stays busy
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
    error = _unwrapped(error)
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
        if re.search(
            r"nocredentials|unable to locate credentials|could not create a oauth2 access token", text
        ):
            return StorageError(f"{where}: no key was found; {HOW_TO_GIVE_KEYS[kind]}")
        if re.search(
            r"invalid_?access_?key|signature_?does_?not_?match|access_?denied|forbidden"
            r"|(?<![\w./-])40[13](?![\w/-]|\.\w)",  # of an answer, not of a name
            text,
        ):
            hint = {"s3": " (AWS_ACCESS_KEY_ID)", "gs": " (GOOGLE_APPLICATION_CREDENTIALS)"}.get(kind, "")
            return StorageError(f"{where}: {store} refused the key{hint}")
        if kind == "s3" and "http status 400" in text:  # what a request without a signature gets
            return StorageError(f"{where}: {store} refused the request; {HOW_TO_GIVE_KEYS[kind]}")
    if (
        isinstance(error, FileNotFoundError)
        or "not found" in text
        or "no such" in text
        or "not_found" in text
    ):
        return StorageError(f"{where} not found")
    if isinstance(error, PermissionError):
        return StorageError(f"{where}: permission denied")
    if isinstance(error, IsADirectoryError):
        return StorageError(f"{where} is a folder")
    if kind != "file" and (isinstance(error, TimeoutError) or any(sign in text for sign in _UNREACHABLE)):
        return StorageError(f"{where}: {store} is unreachable")
    return StorageError(f"{where}: {' '.join(str(error).split()) or type(error).__name__}")


def _unwrapped(error: BaseException) -> BaseException:
    """What happened, where fsspec calls a web server that refuses or cannot be reached "not found"."""
    is_wrapped = type(error) is FileNotFoundError and isinstance(error.__cause__, Exception)
    return error.__cause__ or error if is_wrapped else error


# How the libraries tell what a store answered, or that it did not.
_ANSWER = re.compile(r"aws error|google::cloud|http status|curlcode", re.IGNORECASE)


def is_of_content(error: BaseException) -> bool:
    """Whether what a file's reader raised is about the bytes that it was given, and not about getting them."""
    is_of_system = getattr(error, "errno", None) is not None
    return not (is_of_system or is_transient(error) or _ANSWER.search(str(error)))


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


@contextlib.contextmanager
def under_way() -> Iterator[None]:
    """A store that fails inside is no wrong request, as one is that is away from the start: WorkFailedError."""
    try:
        yield
    except StorageError as error:
        raise WorkFailedError(one_line(error)) from error


_P = ParamSpec("_P")
_T = TypeVar("_T")


def patiently(operation: Callable[_P, _T]) -> Callable[_P, _T]:
    """The operation, tried again where its store was busy or away for a moment (see retry.py)."""

    @functools.wraps(operation)
    def tried(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        return persistently(lambda: operation(*args, **kwargs), _may_pass)

    return tried


def _may_pass(error: Exception) -> bool:
    """Whether a StorageError is about something that passes."""
    return isinstance(error, StorageError) and is_transient(_unwrapped(error.__cause__ or error))


def _is_client_error(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in ("botocore", "aiobotocore", "aiohttp", "fsspec", "pyarrow")
