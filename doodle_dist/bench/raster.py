"""`doodle-dist bench raster`: our rasteriser against Google's own bitmaps and against cairo.

Error is measured on the official pairs (row i of a bitmap file is line i of the simplified file). Speed is measured on
the same drawings, ours and cairo's in turns, on one core: CPU seconds of this thread, so that what else the machine
does counts little. cairo is driven through pycairo by plain integers from lists, which is the fastest way to drive it.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from doodle_dist.bench.machine import Machine, write_result
from doodle_dist.data.raster import rasterize_packed
from doodle_dist.data.stroke_augment import StrokeAugment, augment_packed
from doodle_dist.data.strokes import pack_strokes

Strokes = Sequence[tuple[list[int], list[int]]]

_ROUND_S = 0.15
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


class RasterBench(BaseModel):
    """Drawings/s are medians over rounds, and the ratio is the median of the rounds' ratios."""

    model_config = ConfigDict(frozen=True)

    error: RasterError
    ours_per_s: float
    cairo_per_s: float | None
    ratio: float | None
    augment_share: float | None = None  # of the rasteriser's time, for changing the strokes before
    points_per_drawing: float
    machine: Machine


def official_pairs(data_dir: Path) -> tuple[list[Strokes], NDArray[np.uint8]]:
    """All drawings of which both the strokes and Google's bitmap are in ``data_dir``: N, uint8 [N, 28, 28]."""
    drawings: list[Strokes] = []
    bitmaps = []
    for file in sorted((data_dir / "google_bitmaps").glob("full_numpy_bitmap_*.npy")):
        category = file.stem.removeprefix("full_numpy_bitmap_")
        rows = np.load(file, mmap_mode="r")
        lines = (data_dir / "simplified" / f"{category}.ndjson").read_bytes().splitlines()[: len(rows)]
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


def cairo_raster(
    strokes: Strokes, side: int = 28, line_width: float = 16, padding: float = 16
) -> NDArray[np.uint8]:
    """One drawing by cairo, with the recipe that reproduces Google's bitmaps byte for byte. Needs pycairo."""
    import cairo

    surface = cairo.ImageSurface(cairo.FORMAT_ARGB32, side, side)
    context = cairo.Context(surface)
    context.set_antialias(cairo.ANTIALIAS_BEST)
    context.set_line_cap(cairo.LINE_CAP_ROUND)
    context.set_line_join(cairo.LINE_JOIN_ROUND)
    context.set_line_width(line_width)
    around = 2 * padding + line_width
    context.scale(side / (256 + around), side / (256 + around))
    context.translate(around / 2, around / 2)
    context.set_source_rgb(0, 0, 0)
    context.paint()
    context.set_source_rgb(1, 1, 1)
    left = (256 - max(max(x) for x, _ in strokes)) / 2
    top = (256 - max(max(y) for _, y in strokes)) / 2
    for xs, ys in strokes:
        context.move_to(xs[0] + left, ys[0] + top)
        for x, y in zip(xs, ys, strict=True):
            context.line_to(x + left, y + top)
        context.stroke()
    return np.frombuffer(surface.get_data(), np.uint8).reshape(side, side, 4)[:, :, 0].copy()


def _cpu_seconds(work: Callable[[], Any], repeats: int) -> float:
    began = time.thread_time()
    for _ in range(repeats):
        work()
    return (time.thread_time() - began) / repeats


def run(data_dir: Path, seconds: float = 8.0) -> RasterBench:
    """Measure for about ``seconds``; without pycairo, only ours."""
    drawings, bitmaps = official_pairs(data_dir)
    buffer, offsets = pack_all(drawings)
    error = raster_error(rasterize_packed(buffer, offsets), bitmaps)  # compiles, too

    def ours() -> None:
        rasterize_packed(buffer, offsets)

    keys = np.arange(len(drawings), dtype=np.uint64)

    def changes() -> None:
        augment_packed(buffer, offsets, keys, _AUGMENT, 0, 0)

    changes()

    def theirs() -> None:
        for strokes in drawings:
            cairo_raster(strokes)

    with_cairo = importlib.util.find_spec("cairo") is not None
    ours_s: list[float] = []
    theirs_s: list[float] = []
    changes_s: list[float] = []
    repeats = max(1, round(_ROUND_S / _cpu_seconds(ours, 3)))
    until = time.perf_counter() + seconds
    while len(ours_s) < 3 or time.perf_counter() < until:
        ours_s.append(_cpu_seconds(ours, repeats))
        changes_s.append(_cpu_seconds(changes, repeats))
        if with_cairo:
            theirs_s.append(_cpu_seconds(theirs, 1))
    n = len(drawings)
    return RasterBench(
        error=error,
        ours_per_s=n / statistics.median(ours_s),
        cairo_per_s=n / statistics.median(theirs_s) if with_cairo else None,
        ratio=statistics.median(np.array(theirs_s) / ours_s) if with_cairo else None,
        augment_share=statistics.median(np.array(changes_s) / ours_s),
        points_per_drawing=sum(len(x) for strokes in drawings for x, _ in strokes) / n,
        machine=Machine.here(),
    )


def main(data_dir: Path, output: Path | None) -> None:
    """Run it and print it."""
    result = run(data_dir)
    error = result.error
    table = Table(
        "", "", title=f"{error.drawings:,} official pairs, {result.points_per_drawing:.0f} points each"
    )
    table.add_row("mean error on ink", f"{error.ink_mean:.2f} of 255")
    table.add_row("largest error", f"{error.most}")
    table.add_row("pixels within 12", f"{error.within_12:.4%}")
    table.add_row("identical drawings", f"{error.identical_rows:,}")
    table.add_row("ours, one core", f"{result.ours_per_s:,.0f} drawings/s")
    if result.augment_share is not None:
        table.add_row("augmenting strokes", f"{result.augment_share:.0%} of the rasteriser's time")
    if result.cairo_per_s is None:
        table.add_row("cairo", "not installed: pip install 'doodle_dist[bench]'")
    else:
        table.add_row("cairo, one core", f"{result.cairo_per_s:,.0f} drawings/s")
        table.add_row("ours / cairo", f"{result.ratio:.1f}")
    Console().print(table)
    write_result(output, result)
