"""`doodle-dist bench raster`: our rasteriser and other libraries' (rasterisers.py) against Google's own bitmaps.

Error is measured on the official pairs (row i of a bitmap file is line i of the simplified file). Speed is measured on
the same drawings, ours and each of the others in turns, on one core: CPU seconds of this thread, so that what else the
machine does counts little. Ours is given what the stream gives it, packed drawings in one buffer; the others are given
parsed drawings, one by one, as their interfaces have it.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from doodle_dist import __version__
from doodle_dist.bench.machine import Machine, write_result
from doodle_dist.bench.rasterisers import LIBRARIES, Library, Strokes
from doodle_dist.data.raster import rasterize_packed
from doodle_dist.data.stroke_augment import StrokeAugment, augment_packed
from doodle_dist.data.strokes import pack_strokes

_ROUND_S = 0.15
_GPU_DRAWINGS = 200_000
_MOST_OF_A_CATEGORY = 1_000  # official files have a hundred times as many, and cairo draws 5,000 a second
NEAR = 12  # grey levels

# As in classifier-340-small.
_AUGMENT = StrokeAugment(
    rotate_deg=12,
    aspect_log=0.25,
    shear=0.15,
    bend=0.1,
    stroke_shift=0.04,
    stroke_scale=0.08,
    drop_stroke_probability=0.08,
    drop_stroke_share=0.15,
    unfinished_probability=0.15,
    unfinished_share=0.2,
    flip_probability=0.5,
)


class RasterError(BaseModel):
    """How far rasters are from references; ``ink`` pixels are those inked in either picture."""

    model_config = ConfigDict(frozen=True)

    drawings: int
    ink_mean: float  # grey levels
    most: int
    within_12: float  # of all pixels
    identical_rows: int


class RasterRow(BaseModel):
    """One rasteriser. ``drawings_per_s`` is a median over rounds; ``ours_over_it`` the median of the rounds' ratios.
    All None where the library is not installed."""

    model_config = ConfigDict(frozen=True)

    name: str
    package: str
    version: str | None = None
    drawings_per_s: float | None = None
    ours_over_it: float | None = None
    error: RasterError | None = None


class GpuRaster(BaseModel):
    """Packed drawings in the host's memory -> pictures on the GPU, the copy and the checks included."""

    model_config = ConfigDict(frozen=True)

    gpu: str
    drawings_per_s: float
    most_off_the_cpu: int  # grey levels


class RasterBench(BaseModel):
    """Ours, and the others. ``gpu`` is None where there is none."""

    model_config = ConfigDict(frozen=True)

    ours: RasterRow
    gpu: GpuRaster | None = None
    others: list[RasterRow]
    augment_share: float  # of the rasteriser's time, for changing the strokes before
    points_per_drawing: float
    machine: Machine


def official_pairs(data_dir: Path) -> tuple[list[Strokes], NDArray[np.uint8]]:
    """Drawings of which both the strokes and Google's bitmap are in ``data_dir``, the first 1,000 of each category: N,
    uint8 [N, 28, 28]. Raises ValueError where there is none."""
    drawings: list[Strokes] = []
    bitmaps = []
    for file in sorted((data_dir / "google_bitmaps").glob("*.npy")):
        category = file.stem.removeprefix("full_numpy_bitmap_")
        rows = np.load(file, mmap_mode="r")
        with (data_dir / "simplified" / f"{category}.ndjson").open("rb") as official:
            lines = list(islice(official, min(len(rows), _MOST_OF_A_CATEGORY)))
        drawings += [[(x, y) for x, y in orjson.loads(line)["drawing"]] for line in lines]
        bitmaps.append(rows[: len(lines)].reshape(-1, 28, 28))
    if not drawings:
        raise ValueError(f"{data_dir} has no google_bitmaps/ with simplified/ beside it")
    return drawings, np.concatenate(bitmaps)


def pack_all(drawings: Sequence[Strokes]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Drawings as an Arrow binary column holds them: bytes and offsets [N + 1]."""
    packed = [pack_strokes(strokes) for strokes in drawings]
    offsets = np.cumsum([0, *map(len, packed)]).astype(np.int32)
    return np.frombuffer(b"".join(packed), np.uint8), offsets


def raster_error(rasters: NDArray[np.uint8], references: NDArray[np.uint8]) -> RasterError:
    """Compare uint8 [N, side, side] with references of that shape."""
    off = np.abs(rasters.astype(np.int16) - references)
    ink = (rasters > 0) | (references > 0)
    return RasterError(
        drawings=len(off),
        ink_mean=float(off[ink].mean()) if ink.any() else 0.0,
        most=int(off.max()),
        within_12=float((off <= NEAR).mean()),
        identical_rows=int((off.max(axis=(1, 2)) == 0).sum()),
    )


def _cpu_seconds(work: Callable[[], object], repeats: int) -> float:
    began = time.thread_time()
    for _ in range(repeats):
        work()
    return (time.thread_time() - began) / repeats


def measure_gpu(buffer: NDArray[np.uint8], offsets: NDArray[np.int32]) -> GpuRaster | None:
    """The GPU's rasteriser on about 200,000 drawings a call, the given ones again and again; None without a GPU
    or what Triton needs to start a kernel."""
    import torch

    if not torch.cuda.is_available():
        return None
    from doodle_dist.data.raster_cuda import rasterize_packed_on, wanting_to_build

    if wanting_to_build():
        return None
    device, times = torch.device("cuda"), []
    off = rasterize_packed_on(buffer, offsets, device)[:, 0].cpu().numpy().astype(np.int16)
    off -= rasterize_packed(buffer, offsets)
    count = max(1, _GPU_DRAWINGS // (len(offsets) - 1))
    lengths = np.tile(np.diff(offsets), count)
    many, ends = np.tile(buffer, count), np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    for _ in range(12):
        began = time.perf_counter()
        rasterize_packed_on(many, ends, device)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return GpuRaster(
        gpu=torch.cuda.get_device_name(device),
        drawings_per_s=len(lengths) / statistics.median(times[2:]),
        most_off_the_cpu=int(np.abs(off).max()),
    )


def run(data_dir: Path, rounds: int = 7) -> RasterBench:
    """Measure in ``rounds`` turns, a few seconds each."""
    drawings, bitmaps = official_pairs(data_dir)
    buffer, offsets = pack_all(drawings)
    keys = np.arange(len(drawings), dtype=np.uint64)
    there = {library: library.make() for library in LIBRARIES if library.is_installed}

    def ours() -> None:
        rasterize_packed(buffer, offsets)

    def changes() -> None:
        augment_packed(buffer, offsets, keys, _AUGMENT, 0, 0)

    error = raster_error(rasterize_packed(buffer, offsets), bitmaps)  # compiles, too
    changes()
    repeats = max(1, round(_ROUND_S / _cpu_seconds(ours, 3)))
    ours_s, changes_s, ratios = [], [], []
    theirs_s: dict[str, list[float]] = {library.name: [] for library in there}
    for _ in range(rounds):
        ours_s.append(_cpu_seconds(ours, repeats))
        changes_s.append(_cpu_seconds(changes, repeats))
        ratios.append(changes_s[-1] / ours_s[-1])
        for library, draw in there.items():
            theirs_s[library.name].append(_cpu_seconds(partial(list, map(draw, drawings)), 1))
            ours_s.append(_cpu_seconds(ours, repeats))  # beside each, since a shared machine's speed changes
    n, turns = len(drawings), len(there) + 1
    beside = np.array(ours_s).reshape(rounds, turns)

    def row(library: Library, number: int) -> RasterRow:
        times = theirs_s[library.name]
        return RasterRow(
            name=library.name,
            package=library.package,
            version=library.version,
            drawings_per_s=n / statistics.median(times),
            ours_over_it=float(np.median(np.array(times) / beside[:, number + 1])),
            error=raster_error(np.stack([there[library](one) for one in drawings]), bitmaps),
        )

    installed = list(there)
    return RasterBench(
        ours=RasterRow(
            name="doodle_dist",
            package="doodle_dist",
            version=__version__,
            drawings_per_s=n / statistics.median(ours_s),
            ours_over_it=1.0,
            error=error,
        ),
        others=[
            row(library, installed.index(library))
            if library in there
            else RasterRow(name=library.name, package=library.package)
            for library in LIBRARIES
        ],
        gpu=measure_gpu(buffer, offsets),
        augment_share=statistics.median(ratios),
        points_per_drawing=sum(len(x) for strokes in drawings for x, _ in strokes) / n,
        machine=Machine.here(),
    )


def main(data_dir: Path, output: Path | None) -> None:
    """Run it and print it."""
    result = run(data_dir)
    error = result.ours.error
    assert error is not None
    table = Table(
        *("", "drawings/s, one core", "ours is", "error on ink", "most", "pixels within 12", "identical"),
        title=f"{error.drawings:,} official pairs, {result.points_per_drawing:.0f} points each",
    )
    for row in (result.ours, *result.others):
        if row.error is None:
            table.add_row(row.name, f"not installed: pip install {row.package}")
            continue
        table.add_row(
            f"{row.name} {row.version}",
            f"{row.drawings_per_s:,.0f}",
            f"{row.ours_over_it:.1f} ×",
            f"{row.error.ink_mean:.2f}",
            f"{row.error.most}",
            f"{row.error.within_12:.3%}",
            f"{row.error.identical_rows:,}",
        )
    Console().print(table)
    if result.gpu is None:
        print("on a GPU: not measured here")
    else:
        print(
            f"on {result.gpu.gpu}: {result.gpu.drawings_per_s:,.0f} drawings/s, at most {result.gpu.most_off_the_cpu} "
            "grey levels off the CPU's"
        )
    print(
        f"changing the strokes as classifier-340-small does takes {result.augment_share:.0%} of rasterising them"
    )
    write_result(output, result)
