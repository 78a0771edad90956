"""`doodle-dist bench growth`: what planning and bookkeeping cost an item, at three sizes, so that what grows faster
than a dataset shows. No drawings and no Ray: made-up manifests, and an exchange of small drawings.

What a linear cost is divided by stays as it is; a cost that grows with the square is ten times as much an item where
there is ten times as much. Times are CPU time of this process.
"""

import hashlib
import io
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from doodle_dist.bench.machine import Machine, write_result
from doodle_dist.bench.made_up import RealDrawings, write_category
from doodle_dist.data import storage
from doodle_dist.data.exchange import chunk_notes, gather, scatter, write_index
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.order import EpochOrder
from doodle_dist.data.schema import MANIFEST, Manifest, RejectsInfo, ShardInfo, SplitInfo
from doodle_dist.data.shards import PrepareRequest
from doodle_dist.data.sources import categories_of, find_sources
from doodle_dist.data.stream_plan import StreamPlan, plan_stream, windows
from doodle_dist.data.strokes import pack_strokes

SHARDS = (1_000, 10_000, 100_000)
_EXCHANGE_SHARDS = (50, 500, 5_000)
_PARTS, _PART_ROWS = 40, 2_500
_CATEGORIES, _GROUPS, _LANES, _BATCH = 340, (2048, 2048, 904), 8, 1024
FASTER_THAN_LINEAR = 2.0  # times the cost of an item at a tenth of the size


class Growth(BaseModel):
    """Seconds of one kind of work at each size, ``per`` item of it in ``each_us`` microseconds."""

    model_config = ConfigDict(frozen=True)

    what: str
    per: str
    sizes: list[int]
    seconds: list[float]

    @property
    def each_us(self) -> list[float]:
        return [1e6 * seconds / size for seconds, size in zip(self.seconds, self.sizes, strict=True)]

    @property
    def growth(self) -> float:
        """Cost of an item at the largest size over that at the middle one: the smallest is mostly fixed costs."""
        return self.each_us[-1] / self.each_us[-2]


class GrowthBench(BaseModel):
    model_config = ConfigDict(frozen=True)

    results: list[Growth]
    machine: Machine


def write_manifest(folder: Path, shards: int) -> None:
    """The manifest and the group counts of a dataset of ``shards`` shards that are not there."""
    rows, groups = shards * sum(_GROUPS), shards * len(_GROUPS)
    sink = io.BytesIO()
    np.save(sink, np.full((groups, _CATEGORIES), 5, np.uint16))
    infos = tuple(
        ShardInfo(
            path=f"train/part-{k:06d}.parquet",
            rows=sum(_GROUPS),
            bytes=600_000,
            sha256="0" * 64,
            row_groups=_GROUPS,
        )
        for k in range(shards)
    )
    split = SplitInfo(
        rows=rows,
        counts=(rows // _CATEGORIES,) * _CATEGORIES,
        recognized=rows,
        shards=infos,
        group_counts="train/group_counts.npy",
        group_counts_sha256=hashlib.sha256(sink.getvalue()).hexdigest(),
    )
    manifest = Manifest(
        kind="strokes",
        categories=tuple(f"c{k:03}" for k in range(_CATEGORIES)),
        split_percents=(100.0, 0.0, 0.0),
        splits={"train": split},
        sources=(),
        rejects=RejectsInfo(rows=0),
        plan="",
    )
    storage.write_atomic(str(folder / split.group_counts), sink.getvalue())
    storage.write_atomic(str(folder / MANIFEST), orjson.dumps(manifest.model_dump()))


@contextmanager
def _timed(into: list[float]) -> Iterator[None]:
    began = time.process_time()
    yield
    into.append(time.process_time() - began)


def _epoch_plan(plan: StreamPlan) -> int:
    """Every window of a rank's epoch and the pieces of row groups behind it, as its tasks find them."""
    order, pieces = plan.order(0), 0
    for window in windows(plan, _LANES, 0, 0, 1):
        for lane in range(_LANES):
            start, _ = order.lane_rows(lane, window.first)
            _, stop = order.lane_rows(lane, window.stop - 1)
            pieces += sum(1 for _ in order.pieces(start, stop))
    return pieces


def planning(sizes: tuple[int, ...]) -> list[Growth]:
    """Manifests, plans and orders."""
    seconds: dict[str, list[float]] = {name: [] for name in ("load", "plan", "subset", "order", "windows")}
    for shards in sizes:
        with tempfile.TemporaryDirectory(prefix="doodle-dist-bench-") as place:
            write_manifest(Path(place), shards)
            with _timed(seconds["load"]):
                manifest = load_manifest(place)
            with _timed(seconds["plan"]):
                plan = plan_stream(manifest, place, "train", lanes=_LANES, global_batch=_BATCH)
            with _timed(seconds["subset"]):
                plan_stream(
                    manifest,
                    place,
                    "train",
                    lanes=_LANES,
                    global_batch=_BATCH,
                    categories=manifest.categories[:9],
                )
            with _timed(seconds["order"]):
                order = EpochOrder(plan.group_rows, 0, 1, _LANES, _BATCH)
                next(order.pieces(0, 1))
            with _timed(seconds["windows"]):
                _epoch_plan(plan)
    names = {
        "load": "load the manifest",
        "plan": "plan the stream",
        "subset": "plan the stream of 9 of 340 categories",
        "order": "an epoch's order",
        "windows": "an epoch's windows and their row groups",
    }
    return [
        Growth(what=what, per="shard", sizes=list(sizes), seconds=seconds[name])
        for name, what in names.items()
    ]


def exchange(sizes: tuple[int, ...]) -> Growth:
    """prepare's second round, from 40 parts to more and more shards, the drawings staying as many."""
    packed = pack_strokes([([10, 200], [0, 255])])
    real = RealDrawings(
        "cat",
        np.frombuffer(packed, np.uint8),
        np.array([0, len(packed)], np.int32),
        np.frombuffer(b"US", np.uint8).reshape(1, 2),
        np.ones(1, np.uint8),
    )
    seconds: list[float] = []
    with tempfile.TemporaryDirectory(prefix="doodle-dist-bench-") as place:
        raw = Path(place) / "raw"
        raw.mkdir()
        for part in range(_PARTS):
            write_category(real, part * _PART_ROWS, _PART_ROWS, raw / f"cat-{part:02d}.bin")
        sources = tuple(find_sources([str(raw)]))
        for shards in sizes:
            to = str(Path(place) / f"to-{shards}")
            request = PrepareRequest(sources, categories_of(sources), to, (100.0, 0.0, 0.0), shards=shards)
            plan = request.exchange()
            chunks = request.chunks()
            for number, chunk in enumerate(chunks):
                scatter(plan, number, chunk)
            parts = write_index(plan, chunk_notes(plan, len(chunks)))
            with _timed(seconds):
                for run in range(len(plan.runs) - 1):
                    gather(plan, run, parts)
    return Growth(
        what=f"prepare: {_PARTS * _PART_ROWS:,} drawings from {_PARTS} parts to their shards",
        per="shard",
        sizes=list(sizes),
        seconds=seconds,
    )


def run() -> GrowthBench:
    """Measure; about half a minute."""
    planning(SHARDS[:1])  # what is imported or compiled at first use
    return GrowthBench(results=[*planning(SHARDS), exchange(_EXCHANGE_SHARDS)], machine=Machine.here())


def main(output: Path | None) -> None:
    """Run it and print it."""
    result = run()
    table = Table("", "shards", "s", "µs a shard", "")
    for one in result.results:
        table.add_row(
            one.what,
            ", ".join(f"{size:,}" for size in one.sizes),
            ", ".join(f"{seconds:.3f}" for seconds in one.seconds),
            ", ".join(f"{each:,.1f}" for each in one.each_us),
            "grows faster" if one.growth > FASTER_THAN_LINEAR else "",
        )
    Console().print(table)
    write_result(output, result)
