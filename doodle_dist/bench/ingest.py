"""`doodle-dist bench ingest`: what reaches the workers through Ray Data, against the rasteriser alone on those cores.

Both are measured in turns, several times, in one run. *Alone*: one process a core rasterises packed drawings
that it holds in memory, chunk by chunk as the stream's threads do, more of them than a cache holds. *Stream*:
workers (which take no CPU of Ray's and only look at what comes) draw batches, while Ray Data's tasks have the
same cores; counting begins once the stream is warm.
"""

import statistics
import time
from pathlib import Path

import numpy as np
import ray
from rich.console import Console
from rich.table import Table

from doodle_dist.bench.machine import Machine, write_result
from doodle_dist.bench.results import Ingest, IngestBench
from doodle_dist.data import locations
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.raster import rasterize_packed
from doodle_dist.data.schema import binary_buffers
from doodle_dist.data.stream import CHUNK_DRAWINGS, rank_batches
from doodle_dist.data.stream_plan import StreamPlan, plan_stream
from doodle_dist.data.stream_rows import packed_drawings
from doodle_dist.ray_cluster import start_ray

_ROUNDS, _SECONDS, _WARM_UP_S = 3, 8.0, 5.0
_GLOBAL_BATCH = 1024


@ray.remote(num_cpus=1)
def _raster_alone(plan: StreamPlan, seconds: float) -> float:
    buffer, offsets = binary_buffers(packed_drawings(plan, 131_072))
    rasterize_packed(buffer, offsets[:2])  # compiled, or loaded from the cache, before the clock starts
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for first in range(0, len(offsets) - 1, CHUNK_DRAWINGS):
            part = offsets[first : first + CHUNK_DRAWINGS + 1]
            rasterize_packed(buffer, part)
            done += len(part) - 1
    return done / (time.perf_counter() - began)


@ray.remote(num_cpus=0)
def _consume(
    plan: StreamPlan, rank: int, workers: int, warm_up_s: float, seconds: float
) -> tuple[float, float]:
    """(drawings/s of this worker once warm, seconds to the first batch)."""
    began = time.perf_counter()
    first, started, done = 0.0, 0.0, 0
    for batch in rank_batches(plan, rank=rank, world_size=workers, epochs=None):
        now = time.perf_counter()
        first = first or now
        if not started and now - first > warm_up_s:
            started = now
        elif started:
            done += len(batch.labels)
            if now - started > seconds:
                return done / (now - started), first - began
    raise AssertionError("an endless stream ended")


def measure(uri: str, workers: int) -> Ingest:
    """Measure one dataset of strokes. Needs a Ray with ``workers`` CPUs."""
    manifest = load_manifest(uri)
    if manifest.kind != "strokes":
        raise ValueError(f"{uri} holds pixels; `bench ingest` needs a dataset of strokes")
    plan = plan_stream(manifest, uri, "train", global_batch=_GLOBAL_BATCH, read="tasks")
    alone, stream, first = [], [], []
    for _ in range(_ROUNDS):
        alone.append(sum(ray.get([_raster_alone.remote(plan, _SECONDS) for _ in range(workers)])))
        results = ray.get(
            [_consume.remote(plan, rank, workers, _WARM_UP_S, _SECONDS) for rank in range(workers)]
        )
        stream.append(sum(rate for rate, _ in results))
        first.append(max(seconds for _, seconds in results))
    ratios = np.array(stream) / np.array(alone)
    return Ingest(
        data=locations.public(uri),
        drawings=plan.rows,
        workers=workers,
        raster_alone_per_s=statistics.median(alone),
        stream_per_s=statistics.median(stream),
        ratio=float(np.median(ratios)),
        first_batch_s=statistics.median(first),
    )


def main(uris: list[str], workers: int, output: Path | None) -> None:
    """Measure each dataset and print a table."""
    start_ray(workers)
    results = [measure(locations.absolute(uri), workers) for uri in uris]
    table = Table("data", "drawings", "rasteriser alone /s", "to the workers /s", "ratio", "first batch s")
    for r in results:
        table.add_row(
            r.data,
            f"{r.drawings:,}",
            f"{r.raster_alone_per_s:,.0f}",
            f"{r.stream_per_s:,.0f}",
            f"{r.ratio:.3f}",
            f"{r.first_batch_s:.1f}",
        )
    Console().print(table)
    write_result(output, IngestBench(results=results, machine=Machine.here()))
