"""The drawings of a split in an order of their own, dealt out to any number of workers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from doodle_dist.data.manifest import check_files, load_manifest
from doodle_dist.data.stream_pictures import pictures
from doodle_dist.data.stream_plan import Split, StreamPlan, Window, plan_stream
from doodle_dist.data.stream_rows import read_window

# Drawings read and rasterised at once: what is dealt to a worker.
_CHUNK = 2048


@dataclass(frozen=True)
class Chunk:
    """Drawings of a split: their numbers in its order, and what is stored of them."""

    numbers: NDArray[np.int64]
    table: pa.Table

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.asarray(self.table["label"].to_numpy(), np.int64)


def plan_drawings(
    uri: str, split: str, categories: tuple[str, ...], *, extra_columns: tuple[str, ...] = ()
) -> StreamPlan:
    """The plan of a split's drawings of ``categories``, labelled in sorted order.

    Their order is a fixed one, in which the first N are a fair sample of all. Raises ValueError where the
    dataset is damaged, lacks a category or the split, or has no drawing.
    """
    manifest = load_manifest(uri)
    check_files(uri, manifest)
    unknown = set(categories) - set(manifest.categories)
    if unknown:
        raise ValueError(f"{uri} has no drawings of {', '.join(sorted(unknown)[:3])}, which the run knows")
    kind = cast(Split, split)  # plan_stream refuses what is none
    plan = plan_stream(manifest, uri, kind, categories=categories, lanes=1, global_batch=_CHUNK)
    if not plan.rows:
        raise ValueError(f"split {split} of {uri} has no drawings of the run's categories")
    return replace(plan, extra_columns=extra_columns)


def chunks(plan: StreamPlan, limit: int, part: int = 0, parts: int = 1) -> Iterator[Chunk]:
    """The chunks of the first ``limit`` drawings that are one part's: every ``parts``-th."""
    order = plan.order(0)
    for step in range(part, order.steps, parts):
        first = step * _CHUNK
        if first >= limit:
            return
        table = read_window(plan, range(1), Window(0, step, step + 1)).slice(0, limit - first)
        yield Chunk(np.arange(first, first + len(table)), table)


def pictures_of(plan: StreamPlan, chunk: Chunk) -> NDArray[np.uint8]:
    """uint8 [N, C, side, side]"""
    return pictures(plan, chunk.table.combine_chunks())


def labels_of(plan: StreamPlan, limit: int) -> NDArray[np.int64]:
    """The labels of the first ``limit`` drawings."""
    return np.concatenate([chunk.labels for chunk in chunks(plan, limit)])


def by_number(plan: StreamPlan, numbers: list[int]) -> dict[int, NDArray[np.uint8]]:
    """The pictures uint8 [C, side, side] of some drawings, reading only the chunks they are in."""
    found: dict[int, NDArray[np.uint8]] = {}
    for step in sorted({number // _CHUNK for number in numbers}):
        table = read_window(plan, range(1), Window(0, step, step + 1))
        rows = pictures(plan, table)
        found |= {n: rows[n - step * _CHUNK] for n in numbers if n // _CHUNK == step}
    return found
