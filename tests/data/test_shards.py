"""A prepare that was given up and begun anew as another one. The tasks run in this process, without Ray."""

from pathlib import Path
from unittest.mock import patch

import pytest

from doodle_dist.data import shards
from doodle_dist.data.manifest import verify
from doodle_dist.data.shards import PrepareRequest, prepare
from doodle_dist.data.sources import categories_of, find_sources
from doodle_dist.errors import WorkFailedError
from tests.conftest import write_drawings
from tests.datasets import one_by_one


def request(folder: Path, count: int, **options: object) -> PrepareRequest:
    sources = tuple(find_sources([str(folder / "raw")]))
    return PrepareRequest(
        sources, categories_of(sources), str(folder / "data"), (60.0, 20.0, 20.0), shards=count, **options
    )


def give_up(asked: PrepareRequest) -> None:
    """Prepare until all but the manifest is written."""
    with (
        patch.object(shards, "_run_round", one_by_one),
        patch.object(shards, "Manifest", side_effect=WorkFailedError("killed")),
        pytest.raises(WorkFailedError, match="killed"),
    ):
        prepare(asked)


def test_what_another_prepare_left_behind_is_no_part_of_the_next(tmp_path: Path) -> None:
    write_drawings(tmp_path / "raw", {"cat": 200})
    give_up(request(tmp_path, 20))
    data = tmp_path / "data"
    assert len(list(data.glob("train/part-*.parquet"))) == 12
    for name in ("notes.parquet", "part-1.parquet", "picture.npy"):
        (data / "train" / name).write_bytes(b"a person's own")
    # As the shards are named from the hundred thousandth on
    (data / "train" / "part-100000.parquet").write_bytes(b"left over")
    with patch.object(shards, "_run_round", one_by_one):
        prepare(request(tmp_path, 5))
    assert len(list(data.glob("train/part-0*.parquet"))) == 3
    assert [problem.rpartition("/")[2] for problem in verify(str(data))] == [
        "notes.parquet is not named by the manifest",
        "part-1.parquet is not named by the manifest",
    ]
    assert (data / "train" / "picture.npy").exists()


def test_the_rejects_of_another_prepare_go_too(tmp_path: Path) -> None:
    write_drawings(tmp_path / "raw", {"cat": 200})
    with (tmp_path / "raw" / "cat.ndjson").open("ab") as file:
        file.write(b"{\n")
    give_up(request(tmp_path, 5, max_rejects=1.0))
    assert (tmp_path / "data" / "rejects" / "part-00000.parquet").exists()
    write_drawings(tmp_path / "raw", {"cat": 200})
    with patch.object(shards, "_run_round", one_by_one):
        prepare(request(tmp_path, 5))
    assert verify(str(tmp_path / "data")) == []


def test_the_same_prepare_goes_on_with_what_is_there(tmp_path: Path) -> None:
    write_drawings(tmp_path / "raw", {"cat": 200})
    give_up(request(tmp_path, 20))
    shard = next((tmp_path / "data").glob("train/part-*.parquet"))
    before = shard.stat().st_ino
    with patch.object(shards, "_run_round", lambda *_: None):
        prepare(request(tmp_path, 20))
    assert shard.stat().st_ino == before
    assert verify(str(tmp_path / "data")) == []


def test_what_a_prepare_that_was_killed_at_its_very_end_left_is_deleted_by_the_next(tmp_path: Path) -> None:
    """The manifest is there, and the exchange's files, as large as the dataset."""
    write_drawings(tmp_path / "raw", {"cat": 200})
    asked, staging = request(tmp_path, 5), tmp_path / "data" / "_staging"
    with patch.object(shards, "_run_round", one_by_one):
        with patch.object(shards.storage, "delete_prefix"):
            manifest = prepare(asked)
        assert list(staging.glob("*.arrow"))
        assert prepare(asked) == manifest
    assert not staging.exists()
    assert verify(str(tmp_path / "data")) == []
