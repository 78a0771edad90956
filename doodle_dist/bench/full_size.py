"""`doodle-dist bench full-size`: as many drawings as Quick, Draw! has, made up, prepared, verified and streamed once.

Four phases, each noted in the folder when it is done, so that the same command goes on after the last one:

- *make up*: drawings with the strokes of real ones (made_up.py), as files of the official binary format, which
  takes 116 bytes a drawing where ndjson takes 473;
- *prepare*: `data prepare` on this machine's cores;
- *verify*: `data verify`;
- *stream*: one whole epoch of the training split to workers, rasterised, as training reads it.

That each drawing comes exactly once is checked by a count and two sums (modulo 2^64) over the key_ids of the training
split, of the numbers and of their hashes, which are known from how the drawings were made up.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
import ray
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from doodle_dist.bench.machine import Machine, write_result
from doodle_dist.bench.made_up import Statistics, key_ids, real_drawings, statistics_of, write_category
from doodle_dist.bench.memory import MemoryWatch, folder_bytes
from doodle_dist.data.binary import HEADER_BYTES
from doodle_dist.data.manifest import load_manifest, verify
from doodle_dist.data.raster import rasterize_packed
from doodle_dist.data.shards import STAGING, PrepareRequest, Progress, prepare
from doodle_dist.data.sources import categories_of, find_sources
from doodle_dist.data.split import split_of, splitmix64
from doodle_dist.data.stream import rank_batches
from doodle_dist.data.stream_plan import StreamPlan, plan_stream
from doodle_dist.errors import WorkFailedError

PhaseName = Literal["make up", "prepare", "verify", "stream"]
PHASES: tuple[PhaseName, ...] = get_args(PhaseName)
NEAR = 0.1  # made-up means may be off the real ones by so much
_NOTE = "full-size.json"
_SPLIT = (98.0, 1.0, 1.0)
_GLOBAL_BATCH = 1024
# Of a drawing in a shard, beside its strokes; in staging; and what is kept free beyond all of it.
_SHARD_EXTRA, _STAGING_EXTRA, _ROOM = 16, 32, 1.05


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Means(_Frozen):
    """Means over drawings; bytes are those of packed strokes."""

    strokes: float
    points: float
    bytes: float

    @classmethod
    def of(cls, found: Statistics) -> Self:
        return cls(strokes=found.strokes, points=found.points, bytes=found.bytes)

    def off(self, other: Self) -> float:
        """The largest relative difference."""
        pairs = zip(self.model_dump().values(), other.model_dump().values(), strict=True)
        return float(max(abs(mine / its - 1) for mine, its in pairs))


class KeySums(_Frozen):
    """Count of key_ids, and the sums modulo 2^64 of themselves and of their hashes."""

    count: int = 0
    keys: int = 0
    hashes: int = 0

    def plus(self, key_id: NDArray[np.uint64]) -> "KeySums":
        """These and more."""
        return KeySums(
            count=self.count + len(key_id),
            keys=(self.keys + int(key_id.sum(dtype=np.uint64))) % 2**64,
            hashes=(self.hashes + int(splitmix64(key_id).sum(dtype=np.uint64))) % 2**64,
        )

    def together(self, other: "KeySums") -> "KeySums":
        return KeySums(
            count=self.count + other.count,
            keys=(self.keys + other.keys) % 2**64,
            hashes=(self.hashes + other.hashes) % 2**64,
        )


class Phase(_Frozen):
    """What a phase took. Memory is the highest seen, in MB: the sum of all processes, and of one of each kind."""

    name: PhaseName
    seconds: float
    drawings: int
    drawings_per_s: float
    pss_mb: float
    process_mb: dict[str, float]
    files_mb: dict[str, float]


class FullSize(_Frozen):
    """What is known after the phases that are done."""

    drawings: int
    categories: int
    real: Means
    made_up: Means | None = None
    wanted: KeySums | None = None  # of the training split
    streamed: KeySums | None = None
    first_batch_s: float | None = None
    ink_mean: float | None = None  # grey level of the rasters' pixels
    disk_needed_mb: float
    phases: tuple[Phase, ...] = ()
    machine: Machine

    @property
    def exactly_once(self) -> bool:
        return self.wanted is not None and self.wanted == self.streamed


def disk_needed(drawings: int, stroke_bytes: float) -> float:
    """Bytes that the drawings take on the way: as made up, in staging, and as shards."""
    each = (stroke_bytes + HEADER_BYTES) + (stroke_bytes + _STAGING_EXTRA) + (stroke_bytes + _SHARD_EXTRA)
    return _ROOM * drawings * each


def check_disk(folder: Path, needed: float) -> None:
    """Raise ValueError where ``folder``'s disk, with what lies there already, has less than ``needed`` bytes."""
    have = shutil.disk_usage(folder).free + folder_bytes(folder)
    if have < needed:
        raise ValueError(
            f"--folder {folder}: about {needed / 1e9:.1f} GB are needed and {have / 1e9:.1f} GB are free there; "
            "name a folder on another disk, or fewer --drawings"
        )


# --- the phases -------------------------------------------------------------------------------------------


def make_up(state: FullSize, folder: Path, real: Path) -> FullSize:
    """Write the drawings, a file a category."""
    sources = real_drawings(real, state.categories)
    counts = np.diff(np.arange(state.categories + 1) * state.drawings // state.categories)
    (folder / "raw").mkdir(exist_ok=True)
    total, wanted, first = np.zeros(3), KeySums(), 0
    for source, count in zip(sources, counts.tolist(), strict=True):
        made = write_category(source, first, count, folder / "raw" / f"{source.category}.bin")
        total += count * np.array([made.strokes, made.points, made.bytes])
        keys = key_ids(first, count)
        wanted = wanted.plus(keys[split_of(keys, _SPLIT) == 0])
        first += count
        _show(f"make up {first:,}")
    strokes, points, size = (total / state.drawings).tolist()
    made_up = Means(strokes=strokes, points=points, bytes=size)
    if made_up.off(state.real) > NEAR:
        raise WorkFailedError(f"the made-up drawings ({made_up}) are not like the real ones ({state.real})")
    return state.model_copy(update={"made_up": made_up, "wanted": wanted})


def prepare_all(state: FullSize, folder: Path) -> FullSize:
    """`data prepare`, with a Ray that is up. Raises ValueError where a part of it was done before, and isn't timed."""
    if (folder / "prepared").exists():
        raise ValueError(
            f"{folder / 'prepared'} is left of a prepare that was cut off, whose time is not known; delete it first"
        )
    sources = tuple(find_sources([str(folder / "raw")]))
    request = PrepareRequest(sources, categories_of(sources), str(folder / "prepared"), _SPLIT)

    def show(now: Progress) -> None:
        _show(f"prepare: {now.stage} {now.done}/{now.total}")

    manifest = prepare(request, show)
    if manifest.rows != state.drawings:
        raise WorkFailedError(f"{manifest.rows:,} drawings were prepared of {state.drawings:,}")
    return state


def verify_all(state: FullSize, folder: Path) -> FullSize:
    """`data verify`."""
    problems = verify(str(folder / "prepared"))
    if problems:
        raise WorkFailedError(f"{len(problems)} differences, the first: {problems[0]}")
    return state


@ray.remote(num_cpus=0)
def _consume(plan: StreamPlan, rank: int, workers: int) -> tuple[KeySums, float, float]:
    """(sums over the key_ids, sum of the pixels' means, seconds to the first batch) of a rank's epoch."""
    began, first = time.perf_counter(), 0.0
    sums, ink, held, kept = KeySums(), 0.0, 0, []
    for batch in rank_batches(plan, rank=rank, world_size=workers):
        first = first or time.perf_counter() - began
        kept.append(batch.key_ids)
        held += len(batch.key_ids)
        # A pixel in a hundred of each picture: whether they were drawn, not how.
        ink += float(batch.pixels[:, 0, ::10, ::10].mean(dtype=np.float64)) * len(batch.key_ids)
        if held > 1 << 18:
            sums, kept, held = sums.plus(np.concatenate(kept)), [], 0
    return sums.plus(np.concatenate(kept)) if kept else sums, ink, first


def stream_all(state: FullSize, folder: Path, workers: int) -> FullSize:
    """One epoch of the training split, with a Ray that is up."""
    uri = str(folder / "prepared")
    plan = plan_stream(load_manifest(uri), uri, "train", global_batch=_GLOBAL_BATCH)
    running = [_consume.remote(plan, rank, workers) for rank in range(workers)]
    began, waiting = time.perf_counter(), running
    while waiting:
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=5)
        _show(f"stream: {time.perf_counter() - began:.0f} s")
    streamed, ink, first = KeySums(), 0.0, 0.0
    for sums, its_ink, its_first in ray.get(running):
        streamed, ink, first = streamed.together(sums), ink + its_ink, max(first, its_first)
    state = state.model_copy(
        update={"streamed": streamed, "ink_mean": ink / streamed.count, "first_batch_s": first}
    )
    if not state.exactly_once:
        raise WorkFailedError(
            f"the epoch was not each drawing once: {streamed}, and should be {state.wanted}"
        )
    return state


def _show(text: str) -> None:
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end="", flush=True)


# --- the command ------------------------------------------------------------------------------------------


def run(
    drawings: int, categories: int, real: Path, folder: Path, workers: int, until: PhaseName = "stream"
) -> FullSize:
    """Do the phases that are not done yet, to ``until``. Raises ValueError and WorkFailedError."""
    note = folder / _NOTE
    state = FullSize.model_validate_json(note.read_bytes()) if note.exists() else None
    if state is None:
        means = Means.of(statistics_of(real_drawings(real, categories)))
        needed = disk_needed(drawings, means.bytes)
        state = FullSize(
            drawings=drawings,
            categories=categories,
            real=means,
            disk_needed_mb=needed / 1e6,
            machine=Machine.here(),
        )
    if (state.drawings, state.categories) != (drawings, categories):
        raise ValueError(
            f"--folder {folder} holds {state.drawings:,} drawings of {state.categories} categories; "
            "ask for as many, or name another folder"
        )
    phases: dict[PhaseName, Callable[[FullSize], FullSize]] = {
        "make up": lambda now: make_up(now, folder, real),
        "prepare": lambda now: prepare_all(now, folder),
        "verify": lambda now: verify_all(now, folder),
        "stream": lambda now: stream_all(now, folder, workers),
    }
    check_disk(folder, state.disk_needed_mb * 1e6)
    # Compiled once a machine, which takes ten seconds, and from then on read from Numba's cache.
    rasterize_packed(np.array([1, 0, 1, 0, 0, 0], np.uint8), np.array([0, 6]))
    for name in PHASES[len(state.phases) : PHASES.index(until) + 1]:
        if name in ("prepare", "stream") and not ray.is_initialized():
            _start_ray(workers)
        state = _timed(name, phases[name], state, folder)
        note.write_text(state.model_dump_json())
    return state


def _start_ray(workers: int) -> None:
    from doodle_dist.ray_cluster import quiet_ray_data, start_ray

    start_ray(workers)
    quiet_ray_data()


def _timed(name: PhaseName, phase: Callable[[FullSize], FullSize], state: FullSize, folder: Path) -> FullSize:
    prepared = folder / "prepared"
    watch = MemoryWatch(raw=folder / "raw", staging=prepared / STAGING, prepared=prepared)
    began = time.perf_counter()
    with watch:
        state = phase(state)
        seconds = time.perf_counter() - began
    _show("")
    drawings = state.streamed.count if state.streamed else state.drawings
    done = Phase(
        name=name,
        seconds=seconds,
        drawings=drawings,
        drawings_per_s=drawings / seconds,
        pss_mb=watch.pss_mb,
        process_mb=watch.process_mb,
        files_mb=watch.files_mb,
    )
    return state.model_copy(update={"phases": (*state.phases, done)})


def main(
    drawings: int,
    categories: int,
    real: Path,
    folder: Path | None,
    workers: int,
    until: str,
    output: Path | None,
    keep: bool,
) -> None:
    """Run it and print it. What was made is deleted at the end, unless ``keep`` or phases are left."""
    name = next((phase for phase in PHASES if phase == until.replace("-", " ")), None)
    if name is None:
        allowed = ", ".join(phase.replace(" ", "-") for phase in PHASES)
        raise ValueError(f"--until {until!r}: should be one of {allowed}")
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="doodle-dist-bench-") as place:
            result = run(drawings, categories, real, Path(place), workers, name)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        result = run(drawings, categories, real, folder, workers, name)
        if len(result.phases) == len(PHASES) and not keep:
            for part in ("raw", "prepared"):
                shutil.rmtree(folder / part, ignore_errors=True)
            (folder / _NOTE).unlink(missing_ok=True)
    _print(result)
    write_result(output, result)


def _print(result: FullSize) -> None:
    console = Console()
    title = f"{result.drawings:,} drawings of {result.categories} categories, {result.machine.cores} cores"
    table = Table("", "s", "drawings/s", "all processes, MB", "largest of each kind, MB", title=title)
    for phase in result.phases:
        largest = ", ".join(f"{kind} {size:,.0f}" for kind, size in sorted(phase.process_mb.items()))
        table.add_row(
            phase.name,
            f"{phase.seconds:.1f}",
            f"{phase.drawings_per_s:,.0f}",
            f"{phase.pss_mb:,.0f}",
            largest,
        )
    console.print(table)
    means = Table("a drawing", "strokes", "points", "bytes")
    for name, one in (("real", result.real), ("made up", result.made_up)):
        if one:
            means.add_row(name, f"{one.strokes:.2f}", f"{one.points:.1f}", f"{one.bytes:.1f}")
    console.print(means)
    sizes = {
        name: max(phase.files_mb[name] for phase in result.phases) for name in ("raw", "staging", "prepared")
    }
    console.print(
        f"disk: {result.disk_needed_mb:,.0f} MB asked for; "
        + ", ".join(f"{name} {size:,.0f} MB" for name, size in sizes.items())
        + " (staging lies in prepared, until it is done)"
    )
    if result.streamed:
        console.print(
            f"{result.streamed.count:,} drawings of the training split came exactly once (count and two sums over "
            f"key_ids agree); first batch after {result.first_batch_s:.1f} s"
        )
