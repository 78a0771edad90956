"""Prepared datasets without a Ray: the tasks of `prepare` run one after another, in this process."""

from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

from doodle_dist.data import shards
from doodle_dist.data.shards import PrepareRequest, prepare
from doodle_dist.data.sources import categories_of, find_sources
from tests.conftest import write_drawings


def one_by_one(
    _: str,
    __: object,
    ___: str,
    arguments: Sequence[object],
    task: Callable[[list[tuple[int, object]]], object],
    *____: object,
) -> None:
    """In place of a round of Ray tasks."""
    task(list(enumerate(arguments)))


def prepare_here(
    folder: Path, counts: dict[str, int], split: tuple[float, float, float] = (60.0, 10.0, 30.0)
) -> str:
    """A dataset of made-up drawings, ``counts`` of each category; where it lies."""
    write_drawings(folder / "raw", counts)
    sources = tuple(find_sources([str(folder / "raw")]))
    request = PrepareRequest(sources, categories_of(sources), str(folder / "data"), split, row_group_rows=128)
    with patch.object(shards, "_run_round", one_by_one):
        prepare(request)
    return str(folder / "data")
