"""A prepare that is cut off, without Ray: what it leaves is gone on from, or is in nobody's way."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from doodle_dist.data import shards
from doodle_dist.data.manifest import load_manifest, verify
from doodle_dist.data.shards import PrepareRequest, prepare
from doodle_dist.data.sources import categories_of, find_sources
from tests.conftest import write_drawings
from tests.datasets import one_by_one


@pytest.fixture
def request_of_many_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PrepareRequest:
    monkeypatch.setattr(shards, "_run_round", one_by_one)
    write_drawings(tmp_path / "raw", {"cat": 300, "dog": 200})
    sources = tuple(find_sources([str(tmp_path / "raw")]))
    return PrepareRequest(
        sources, categories_of(sources), str(tmp_path / "data"), (60.0, 20.0, 20.0), shards=20
    )


def cut_off(request: PrepareRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare it to where all shards are written, and no manifest is."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shards, "_finish", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(request)


def parts(to: Path) -> list[str]:
    return sorted(str(file.relative_to(to)) for file in to.glob("*/part-*.parquet"))


def test_another_request_is_not_in_the_way_of_what_a_cut_off_one_wrote(
    request_of_many_shards: PrepareRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "data"
    cut_off(request_of_many_shards, monkeypatch)
    assert len(parts(to)) == 20
    for folder in ("rejects", "train"):  # of a request with bad records; a person's own
        (to / folder).mkdir(exist_ok=True)
    (to / "rejects" / "part-00000.parquet").write_bytes(b"rejects")
    (to / "train" / "notes.txt").write_text("mine")
    manifest = prepare(replace(request_of_many_shards, shards=5))
    assert sum(len(split.shards) for split in manifest.splits.values()) == len(parts(to)) == 5
    assert verify(str(to)) == []
    assert (to / "train" / "notes.txt").read_text() == "mine"


def test_the_same_request_goes_on_with_the_shards_that_are_there(
    request_of_many_shards: PrepareRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "data"
    cut_off(request_of_many_shards, monkeypatch)
    written = {name: (to / name).stat().st_mtime_ns for name in parts(to)}

    def rest(
        _: str,
        __: object,
        name: str,
        arguments: Sequence[object],
        task: Callable[[list[tuple[int, object]]], object],
        *___: object,
    ) -> None:
        assert all((to / "_staging" / f"{name}-{k:06d}.json").exists() for k in range(len(arguments)))

    monkeypatch.setattr(shards, "_run_round", rest)
    prepare(request_of_many_shards)
    assert {name: (to / name).stat().st_mtime_ns for name in parts(to)} == written
    assert load_manifest(str(to)).rows == 500
    assert verify(str(to)) == []
