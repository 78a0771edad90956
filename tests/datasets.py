"""Prepared datasets without a Ray: the tasks of `prepare` run one after another, in this process."""

from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

from doodle_dist.data import shards
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.shards import PrepareRequest, prepare
from doodle_dist.data.sources import categories_of, find_sources
from doodle_dist.data.stream_plan import StreamPlan, plan_stream
from tests.conftest import write_drawings


def one_by_one(
    _: str,
    __: object,
    ___: str,
    arguments: Sequence[object],
    task: Callable[[int, object], object],
    *____: object,
) -> None:
    """Instead of a round of Ray tasks, each in its turn."""
    for number, argument in enumerate(arguments):
        task(number, argument)


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


def train_plan(dataset: str, **options: object) -> StreamPlan:
    """A training split's stream through Ray Data: steps of 64 in 8 lanes, windows of 200 pictures or 1,225 drawings."""
    defaults = {"global_batch": 64, "lanes": 8, "window_bytes": 200 * 784, "read": "tasks"}
    return plan_stream(load_manifest(dataset), dataset, "train", **(defaults | options))
