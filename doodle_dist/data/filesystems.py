"""The one place where filesystems are built, from a location and the environment.

Two libraries read S3 here. pyarrow's native filesystem is the faster one and does all reading and writing of
data. s3fs is handed to Ray Tune, and deletes, because pyarrow's creates empty directory objects (``runs/``) before it
moves or deletes, and some S3 servers (rclone's among them) refuse them.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from doodle_dist.data.locations import HTTP_SCHEMES, of_aws_profile, public, s3_endpoint, split_uri
from doodle_dist.data.retry import is_transient
from doodle_dist.data.storage_errors import errors_about

if TYPE_CHECKING:
    import fsspec
    import pyarrow.fs

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 30.0
MAX_ATTEMPTS = 3  # 3 attempts of 3 s and the pauses between them: a dead endpoint is reported in ~10 s


def _ask_for_plain_uploads() -> None:
    # Newer AWS SDKs add trailing checksums to every upload, which S3 look-alikes refuse. A person's own
    # setting wins. The C++ SDK inside pyarrow reads the environment, so an option is not enough.
    os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")


def filesystem(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The pyarrow filesystem for reading and writing data at ``uri``, and the path on it.

    Native and fast for local files, S3 and Google Cloud Storage; http(s) goes through fsspec and is
    read-only. Raises ValueError for a location that cannot be one, and StorageError where AWS can't be asked which
    region a bucket is in.
    """
    kind, path = split_uri(uri)
    if kind != "s3":
        return _other_filesystem(kind), path
    endpoint = s3_endpoint()
    bucket = path.split("/", 1)[0] if endpoint is None else ""
    with errors_about(uri):
        return _native_s3(endpoint, bucket, os.getpid()), path


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
        proxy = _proxy(endpoint)
    else:
        proxy = _proxy(f"https://s3.{region}.amazonaws.com" if region else "https://s3.amazonaws.com")
        if not region and not proxy:  # which pyarrow would not ask through
            region = _region_of(bucket)
    if proxy:
        options["proxy_options"] = proxy
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


def _region_of(bucket: str) -> str | None:
    """The region of a bucket at AWS; where it doesn't say, the AWS profile's, if any.

    Raises OSError where it may say so in a moment.
    """
    import pyarrow.fs

    try:
        found: str = pyarrow.fs.resolve_s3_region(bucket)
    except OSError as error:
        told = of_aws_profile("region")
        if is_transient(error) and not told:
            raise  # and is asked again: a guess would be kept as long as this process lives
        return told  # not allowed, no such bucket, or a closed network: the request itself will say so
    return found


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a URL, if any. s3fs heeds HTTPS_PROXY and NO_PROXY; pyarrow doesn't."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    found = getproxies().get(parts.scheme)
    if not found or proxy_bypass(parts.netloc):
        return None
    found = found if "://" in found else f"http://{found}"
    return found if urlsplit(found).scheme in HTTP_SCHEMES else None  # pyarrow knows no others


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
