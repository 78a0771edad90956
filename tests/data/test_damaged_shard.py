"""A shard whose bytes were altered, its length kept, is named when it is read; it never gives other drawings."""

from pathlib import Path

import numpy as np
import pytest

from doodle_dist.data import filesystems, storage, stream_rows
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.retry import patience
from doodle_dist.data.storage_errors import StorageError
from doodle_dist.data.stream_plan import plan_stream, windows
from doodle_dist.data.stream_rows import read_window
from tests.datasets import prepare_here
from tests.s3 import S3Server


def read_all(dataset: str) -> list[tuple[list[int], list[bytes]]]:
    stream_rows._reader.files.clear()  # it keeps files open
    plan = plan_stream(load_manifest(dataset), dataset, "train", global_batch=64, lanes=8)
    tables = [read_window(plan, range(8), window) for window in windows(plan, 8, 0, 0, 1)]
    return [(table["key_id"].to_pylist(), table["strokes"].to_pylist()) for table in tables]


def test_an_altered_byte_is_found_or_changes_nothing(tmp_path: Path) -> None:
    dataset = prepare_here(tmp_path, {"cat": 200, "dog": 200})
    sound = read_all(dataset)
    shard = Path(dataset) / load_manifest(dataset).splits["train"].shards[0].path
    content = shard.read_bytes()
    found = 0
    pages = (
        len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    )  # after them the footer, its length, "PAR1"
    positions = np.random.default_rng(0).integers(4, pages, 200).tolist()
    for position in positions:
        altered = bytearray(content)
        altered[position] ^= 0xFF
        shard.write_bytes(altered)
        try:
            assert read_all(dataset) == sound, f"byte {position}"
        except StorageError:
            found += 1
    assert found > len(positions) / 2
    shard.write_bytes(content)
    assert read_all(dataset) == sound


def test_a_stroke_that_was_altered_is_named(tmp_path: Path) -> None:
    dataset = prepare_here(tmp_path, {"cat": 200, "dog": 200})
    strokes = read_all(dataset)[0][1][0]
    shard = Path(dataset) / load_manifest(dataset).splits["train"].shards[0].path
    content = bytearray(shard.read_bytes())
    content[content.index(strokes) + len(strokes) - 1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StorageError, match=f"{shard.name} is damaged"):
        read_all(dataset)


def test_a_store_that_refuses_or_is_away_is_not_called_damage(
    s3_env: S3Server, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = prepare_here(tmp_path, {"cat": 100, "dog": 100})
    for file in storage.list_files(local, recursive=True):
        storage.put_file(file.uri, file.uri.replace(local, f"{s3_bucket}/data", 1))
    plan = plan_stream(
        load_manifest(f"{s3_bucket}/data"), f"{s3_bucket}/data", "train", global_batch=64, lanes=8
    )
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "withdrawn")
    filesystems.forget_filesystems()
    with pytest.raises(StorageError, match="refused the key"):
        read_window(plan, range(8), next(windows(plan, 8, 0, 0, 1)))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setattr(filesystems, "MAX_ATTEMPTS", 1)
    filesystems.forget_filesystems()
    with patience(0.1), pytest.raises(StorageError, match="unreachable"):
        read_window(plan, range(8), next(windows(plan, 8, 0, 0, 1)))
