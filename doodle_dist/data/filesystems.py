"""The one place where filesystems are built, from a location and the environment.

Two libraries read S3 here. pyarrow's native filesystem is the faster one and does all reading and writing of
data. s3fs is handed to Ray Tune, and deletes, because pyarrow's creates empty directory objects (``runs/``) before it
moves or deletes, and some S3 servers (rclone's among them) refuse them.
"""

from __future__ import annotations

import configparser
import contextlib
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from doodle_dist.data.locations import HOW_TO_GIVE_KEYS, HTTP_SCHEMES, public, split_uri

if TYPE_CHECKING:
    import fsspec
    import pyarrow.fs

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 30.0
MAX_ATTEMPTS = 3  # 3 attempts of 3 s and the pauses between them: a dead endpoint is reported in ~10 s


def s3_endpoint() -> str | None:
    """The S3 endpoint URL in force, None for AWS itself.

    In this order: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, ``endpoint_url`` of the profile in the AWS config file
    (which pyarrow ignores). Raises ValueError for one that is no http(s) URL.
    """
    found = (
        os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or _endpoint_in_config_file()
    )
    if not found:
        return None
    parts = urlsplit(found)
    if "@" in parts.netloc:
        raise ValueError("the S3 endpoint must not hold a user or password; " + HOW_TO_GIVE_KEYS["s3"])
    if parts.scheme not in HTTP_SCHEMES or not parts.netloc:
        raise ValueError(f"the S3 endpoint '{found}' is no URL; write it like http://host:9000")
    return found.rstrip("/")


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


def filesystem(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The pyarrow filesystem for reading and writing data at ``uri``, and the path on it.

    Native and fast for local files, S3 and Google Cloud Storage; http(s) goes through fsspec and is
    read-only. Raises ValueError for a location that cannot be one.
    """
    kind, path = split_uri(uri)
    if kind == "s3":
        endpoint = s3_endpoint()
        bucket = path.split("/", 1)[0] if endpoint is None else ""
        return _native_s3(endpoint, bucket, os.getpid()), path
    return _other_filesystem(kind), path


@functools.lru_cache(maxsize=16)
def _native_s3(endpoint: str | None, bucket: str, pid: int) -> pyarrow.fs.S3FileSystem:
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


def _other_filesystem(kind: str) -> pyarrow.fs.FileSystem:
    import pyarrow.fs

    if kind == "file":
        return pyarrow.fs.LocalFileSystem()
    if kind == "gs":
        from datetime import timedelta

        return pyarrow.fs.GcsFileSystem(retry_time_limit=timedelta(seconds=15))
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(_fsspec_of(kind)))


def fsspec_filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The fsspec filesystem for ``uri`` and the path on it (s3fs for S3)."""
    kind, path = split_uri(uri)
    return _fsspec_of(kind), path


def _fsspec_of(kind: str, *, patient: bool = False) -> fsspec.AbstractFileSystem:
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
    return kind_of_s3(endpoint_url=s3_endpoint(), config_kwargs=config, use_listings_cache=False)


def train_filesystem(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The filesystem for ``RunConfig(storage_filesystem=…, storage_path=…)``, and that path.

    For S3 it goes through s3fs, which creates no directory objects; otherwise it is ``filesystem(uri)``.
    """
    import pyarrow.fs

    kind, path = split_uri(uri)
    if kind == "http":
        raise ValueError(f"'{public(uri)}' is read-only: results go to a local path, s3:// or gs://")
    if kind != "s3":
        return filesystem(uri)
    patient = _fsspec_of("s3", patient=True)
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(patient)), path
