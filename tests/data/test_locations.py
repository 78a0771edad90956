"""Locations: what is one, what is none, and that no key is ever repeated."""

from pathlib import Path

import pytest

from doodle_dist.data import locations, storage


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
        locations.split_uri(uri)
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
        locations.split_uri(uri)


def test_ports_are_no_credentials() -> None:
    assert locations.split_uri("http://127.0.0.1:8000/a b") == ("http", "http://127.0.0.1:8000/a b")
    assert locations.split_uri("http://[::1]:8000/a") == ("http", "http://[::1]:8000/a")
    assert locations.split_uri("s3://bucket/a@b:c/d") == ("s3", "bucket/a@b:c/d")


def test_join() -> None:
    assert locations.join("s3://bucket/a/", "b", "c.txt") == "s3://bucket/a/b/c.txt"
    assert locations.join("/data", "b/") == "/data/b"
    assert locations.join("/", "b") == "/b"
    assert locations.join("rel", "b") == "rel/b"
    for part in ("../b", "/b", "s3://other/b"):
        with pytest.raises(ValueError, match="outside"):
            locations.join("s3://bucket/a", part)


def test_a_location_is_spelled_in_one_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the way in which listings spell what lies there, which it is compared with."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x").write_bytes(b"1")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    there = str(tmp_path / "there")
    for spelled in (
        "../there", "../there/", f"{tmp_path}/here/../there", f"{tmp_path}//there", "~/there", f"file://{there}",
        f"FILE://{tmp_path}/./there/",
    ):  # fmt: skip
        assert locations.absolute(spelled) == there, spelled
        [listed] = storage.list_files(locations.absolute(spelled))
        assert listed.uri == locations.join(locations.absolute(spelled), "x"), spelled
    for spelled in ("s3://b/k", "s3a://b/k/", "S3N://b/k"):
        assert locations.absolute(spelled) == "s3://b/k"
    assert locations.absolute("gcs://b/k/*.ndjson") == "gs://b/k/*.ndjson"
    assert locations.absolute("https://host/x.ndjson?sign=a/../b") == "https://host/x.ndjson?sign=a/../b"


def test_signed_urls_are_printed_without_their_signature() -> None:
    assert locations.public("https://host/x.ndjson?X-Amz-Signature=abc") == "https://host/x.ndjson"
