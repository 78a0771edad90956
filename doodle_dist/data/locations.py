"""Locations: local paths, ``s3://``, ``gs://`` and ``http(s)://``, which stay strings everywhere.

Credentials come from the environment, the AWS files or the machine's role and never from a URI.
"""

import configparser
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

_S3_SCHEMES = ("s3", "s3a", "s3n")
_GCS_SCHEMES = ("gs", "gcs")
HTTP_SCHEMES = ("http", "https")
HOW_TO_GIVE_KEYS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use an AWS profile",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS",
    "http": "use a location that needs none",
}


def s3_endpoint() -> str | None:
    """The S3 endpoint URL in force, None for AWS itself.

    In this order: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, ``endpoint_url`` of the profile in the AWS config file
    (which pyarrow ignores). Raises ValueError for one that is no http(s) URL.
    """
    found = (
        os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or of_aws_profile("endpoint_url")
    )
    if not found:
        return None
    parts = urlsplit(found)
    if "@" in parts.netloc:
        raise ValueError("the S3 endpoint must not hold a user or password; " + HOW_TO_GIVE_KEYS["s3"])
    if parts.scheme not in HTTP_SCHEMES or not parts.netloc:
        raise ValueError(f"the S3 endpoint '{found}' is no URL; write it like http://host:9000")
    return found.rstrip("/")


def of_aws_profile(key: str) -> str | None:
    """What the profile in the AWS config file says of a key; None where there is none."""
    path = Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser()
    profile = os.environ.get("AWS_PROFILE", "default")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path)
    except (configparser.Error, OSError):
        return None  # botocore and the SDK report a broken config file themselves
    section = "default" if profile == "default" else f"profile {profile}"
    return parser.get(section, key, fallback=None)


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
    elif scheme in HTTP_SCHEMES:
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
            f"manifests): remove them from the URI and {HOW_TO_GIVE_KEYS[kind]}"
        )


def public(uri: str) -> str:
    """The location as it may be printed: an http URL loses its query, which can hold a signature."""
    return uri.split("?", 1)[0] if uri.lower().startswith(("http://", "https://")) else uri


def is_gzip(uri: str) -> bool:
    """Whether the location's name says that the file is compressed; a signed URL's query comes after the name."""
    return public(uri).endswith(".gz")


def join(uri: str, *parts: str) -> str:
    """The location ``parts`` below ``uri``. Unlike os.path.join, no part can lead outside of it."""
    for part in parts:
        if part.startswith("/") or "://" in part or ".." in part.split("/"):
            raise ValueError(f"cannot join '{part}' to '{public(uri)}': it leads outside of it")
    pieces = [uri.rstrip("/") or "/", *(part.strip("/") for part in parts)]
    return "/".join(piece for piece in pieces if piece).replace("//", "/", 1 if uri == "/" else 0)


def absolute(uri: str) -> str:
    """The one spelling of a location, which is the one that listings give: local paths absolute, since workers have
    other working directories, and without ``..`` or ``file://``; ``s3://`` and ``gs://`` without a slash at the end.

    Raises ValueError as ``split_uri`` does.
    """
    kind, path = split_uri(uri)
    return path if kind in ("file", "http") else f"{kind}://{path}"


def basename(uri: str) -> str:
    """The last part of a location, without an http query."""
    return public(uri).rstrip("/").rsplit("/", 1)[-1]
