"""The rasteriser of raster.py as a Triton kernel: packed strokes in, pictures out, on a GPU.

A program draws one row of pixels of one drawing: 15 sub-rows of every column, each a mask of 16 sub-columns as on
the CPU, in registers from the first stroke to the last. Segments are prepared by every row that they may touch, by
the same arithmetic in the same order, so that pictures are the CPU's.

Needs triton, which torch's CUDA builds bring along. Triton's interpreter (TRITON_INTERPRET=1) runs it on a CPU.
"""

# Triton compiles the kernels, and its arithmetic is not Python's: mypy checks only what is annotated here.
# mypy: allow-untyped-defs, no-check-untyped-defs, disable-error-code="import-not-found,import-untyped"

import os
import shutil
import sysconfig
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl

from doodle_dist.data.kernels.packed import check_packed
from doodle_dist.data.kernels.recipe import BIAS, LANES, MIN_SIDE, NOWHERE, PEN_PHASES, SUBROWS, tables

MAX_SIDE = 63  # wider pictures have coarser units along x, which the kernel doesn't know

_LANES = tl.constexpr(LANES)
_SUBROWS = tl.constexpr(SUBROWS)
_BIAS = tl.constexpr(BIAS)
_NOWHERE = tl.constexpr(NOWHERE)
_PHASES = tl.constexpr(PEN_PHASES)
_MEASURED = tl.constexpr(64)  # points looked at in one go
_SHIFT = tl.constexpr(4)  # from units of x, 256 a pixel, to sub-columns, 16 a pixel


@triton.jit
def _u16(data, at):
    return tl.load(data + at).to(tl.int32) | (tl.load(data + at + 1).to(tl.int32) << 8)


@triton.jit
def _rint(x):
    # Adding 1.5 * 2**23 leaves no bits for a fraction, and rounds half to even.
    return (x + 12582912.0) - 12582912.0


@triton.jit
def _measure(data, offsets, far):
    """A drawing's greatest x and y, to far int32[N, 2]."""
    drawing = tl.program_id(0)
    at = tl.load(offsets + drawing)
    strokes = _u16(data, at)
    at += 2
    most_x = tl.zeros([_MEASURED], tl.int32)
    most_y = tl.zeros([_MEASURED], tl.int32)
    k = tl.arange(0, _MEASURED)
    for _ in range(strokes):
        n = _u16(data, at)
        at += 2
        for first in range(0, n, _MEASURED):
            inside = first + k < n
            x = tl.load(data + at + first + k, mask=inside, other=0).to(tl.int32)
            y = tl.load(data + at + n + first + k, mask=inside, other=0).to(tl.int32)
            most_x = tl.maximum(most_x, x)
            most_y = tl.maximum(most_y, y)
        at += 2 * n
    tl.store(far + 2 * drawing, tl.max(most_x, 0))
    tl.store(far + 2 * drawing + 1, tl.max(most_y, 0))


@triton.jit
def _from(x):
    """The mask of the sub-columns from x on."""
    return tl.where(x < 16, (0xFFFF << tl.minimum(x, 16)) & 0xFFFF, 0)


@triton.jit
def _half_width(pen, top, r, stride, length):
    """Half widths of the pen whose top is at ``top`` (in 15ths of a unit) in its sub-rows r."""
    at = ((top & 255) * _PHASES >> 8) * stride + _LANES
    inside = (r >= 0) & (r < length)
    return tl.load(pen + at + r, mask=inside, other=-_NOWHERE).to(tl.int32)


@triton.jit
def _on_edge(r, first, count, start, step, otherwise):
    """``start + step r``, in 16.16, in the sub-rows of a band's edge."""
    done = (r // _LANES) * _LANES
    k = r - done
    along = ((start + done * step) >> 16) + (step >> 16) * k + (((step & 0xFFFF) * k) >> 16)
    return tl.where((r >= first) & (r < first + count), (along << 16) >> 16, otherwise)


@triton.jit
def _draw_row(
    data, offsets, far, pen, dither, out,
    side, reach, reach_x, radius, length, scale_x, scale_y, margin,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    drawing, pixel_row = tl.program_id(0), tl.program_id(1)
    lane = tl.arange(0, 16)
    column = tl.arange(0, COLUMNS)
    subrow = pixel_row * _SUBROWS + lane
    # A pixel has 15 sub-rows; the sixteenth lane is there for Triton, which wants a power of two.
    offset = tl.load(dither + lane).to(tl.int32)
    stride = length + 2 * _LANES
    last = side - 1
    offset_x = ((256 - tl.load(far + 2 * drawing)).to(tl.float32) * 0.5 + margin) * scale_x
    offset_y = ((256 - tl.load(far + 2 * drawing + 1)).to(tl.float32) * 0.5 + margin) * scale_y

    picture = tl.zeros([COLUMNS], tl.int32)
    at = tl.load(offsets + drawing)
    strokes = _u16(data, at)
    at += 2
    for _ in range(strokes):
        n = _u16(data, at)
        at += 2
        covered = tl.zeros([16, COLUMNS], tl.int32)
        for k in range(tl.maximum(n - 1, 1)):
            following = tl.minimum(k + 1, n - 1)  # a lone point is a segment to itself
            x0 = _rint(tl.load(data + at + k).to(tl.float32) * scale_x + offset_x).to(tl.int32)
            x1 = _rint(tl.load(data + at + following).to(tl.float32) * scale_x + offset_x).to(tl.int32)
            y0 = _rint(tl.load(data + at + n + k).to(tl.float32) * scale_y + offset_y).to(tl.int32)
            y1 = _rint(tl.load(data + at + n + following).to(tl.float32) * scale_y + offset_y).to(tl.int32)
            ay = tl.minimum(y0, y1)
            dy = tl.maximum(y0, y1) - ay
            a_top = 15 * (ay - reach) + 128
            b_top = a_top + 15 * dy
            row = a_top >> 8
            end = (b_top + 30 * reach) >> 8
            if (pixel_row * _SUBROWS <= end) & (pixel_row * _SUBROWS + _SUBROWS > row):
                # As segments.prepare has it.
                ax = tl.where(y0 <= y1, x0, x1)
                dx = x0 + x1 - ax - ax
                first_column = tl.maximum(0, tl.minimum((tl.minimum(x0, x1) - reach_x - 2) >> 8, last - 3))
                last_column = tl.minimum(last, (tl.maximum(x0, x1) + reach_x + 2) >> 8)
                ax = ax - (first_column << 8)
                run = dx.to(tl.float32)
                rise = tl.maximum(dy, 1).to(tl.float32)
                inverse = tl.div_rn(radius, tl.sqrt_rn(run * run + rise * rise))
                nx = _rint(dy.to(tl.float32) * inverse)
                ny = _rint(run * inverse).to(tl.int32)
                left, right = 15 * (ay + ny) + 128, 15 * (ay - ny) + 128
                left_row, right_row = left >> 8, right >> 8
                left_first, right_first = left_row - row, right_row - row
                slope = tl.div_rn(run, rise)
                bounded = tl.maximum(tl.minimum(slope * 17.066666666666666, 32767.0), -32767.0)
                step = (bounded * 65536.0).to(tl.int32)
                slope = slope * 0.06666666666666667
                left_x = ax.to(tl.float32) - nx + (256 - (left & 255)).to(tl.float32) * slope
                right_x = ax.to(tl.float32) + nx + (256 - (right & 255)).to(tl.float32) * slope
                left_start = ((left_x + 0.5) * 65536.0).to(tl.int32) - step * left_first
                right_start = ((right_x + 0.5) * 65536.0).to(tl.int32) - step * right_first

                # As segments.stamp has it, for the sub-rows of these pixels.
                r = subrow - row
                pen_a = _half_width(pen, a_top, r, stride, length)
                pen_b = _half_width(pen, b_top, r + row - (b_top >> 8), stride, length)
                begin = tl.minimum(ax - pen_a, ax + dx - pen_b)
                stop = tl.maximum(ax + pen_a, ax + dx + pen_b)
                on_left = _on_edge(r, left_first, ((left + 15 * dy) >> 8) - left_row, left_start, step, begin)
                on_right = _on_edge(
                    r, right_first, ((right + 15 * dy) >> 8) - right_row, right_start, step, stop
                )
                begin, stop = tl.minimum(on_left, begin), tl.maximum(on_right, stop)
                begin = tl.maximum((((begin + offset) & 0xFFFF) >> _SHIFT) - (_BIAS >> _SHIFT), 0)
                stop = tl.maximum((((stop + offset) & 0xFFFF) >> _SHIFT) - (_BIAS >> _SHIFT), 0)
                from_here = 16 * (column - first_column)[None, :]
                interval = _from(tl.maximum(begin[:, None] - from_here, 0)) & ~_from(
                    tl.maximum(stop[:, None] - from_here, 0)
                )
                crossed = (column >= first_column) & (
                    column < first_column + tl.maximum(last_column - first_column + 1, 4)
                )
                drawn = crossed[None, :] & (r >= 0)[:, None] & (lane < _SUBROWS)[:, None]
                covered = covered | tl.where(drawn, interval, 0)
        bits = covered - ((covered >> 1) & 0x5555)
        bits = (bits & 0x3333) + ((bits >> 2) & 0x3333)
        bits = (bits + (bits >> 4)) & 0x0F0F
        count = tl.sum((bits + (bits >> 8)) & 0x1F, 0)
        alpha = (count * 17 + 8) >> 4
        rest = picture * (255 - alpha) + 127
        picture = alpha + ((rest + (rest >> 8)) >> 8)
        at += 2 * n
    to = (drawing.to(tl.int64) * side + pixel_row) * side + column
    tl.store(out + to, picture.to(tl.uint8), mask=column < side)


def check_device(device: torch.device, side: int) -> None:
    """Raise ValueError where drawings can't be rasterised on ``device`` at that side."""
    if device.type != "cuda" and not triton.knobs.runtime.interpret:
        raise ValueError(
            f"data.rasterize=device: the worker's device is {device.type}; allowed there: worker, tasks"
        )
    _check_side(side)
    if device.type == "cuda" and (lacks := wanting_to_build()):
        raise ValueError(
            f"data.rasterize=device: Triton builds a C module before its first kernel starts, and there is no {lacks}; "
            "allowed here: worker, tasks"
        )


def wanting_to_build() -> str:
    """What Triton needs to build its C module and is not there; "" where all is."""
    names = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    if not any(shutil.which(name) for name in names):
        return "compiler (gcc, clang, or what CC names)"
    scheme = sysconfig.get_default_scheme()  # as Triton has it: Debian's own names no headers
    header = Path(sysconfig.get_path("include", scheme.replace("posix_local", "posix_prefix"))) / "Python.h"
    return "" if header.exists() else f"{header} (Debian's package python3-dev has it)"


def _check_side(side: int) -> None:
    if not MIN_SIDE <= side <= MAX_SIDE:
        raise ValueError(f"side = {side}: must be {MIN_SIDE}..{MAX_SIDE} on a GPU")


def _there(array: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """A copy on the device; into a GPU from pinned memory, as nobody should wait for the steps it has to do first."""
    held = torch.from_numpy(array.copy())
    return held.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else held


def rasterize_packed_on(
    buffer: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.integer],
    device: torch.device,
    *,
    side: int = 28,
    line_width: float = 16.0,
    padding: float = 16.0,
) -> torch.Tensor:
    """Rasterise packed drawings on ``device``: as raster.rasterize_packed, -> uint8 [N, 1, side, side] there.

    Only the packed strokes travel. Raises ValueError for a malformed drawing, as on the CPU, and for sides
    over MAX_SIDE.
    """
    _check_side(side)
    check_packed(buffer, offsets)
    recipe, pen, dither = tables(side, float(line_width), float(padding))
    count = len(offsets) - 1
    out = torch.empty(count, 1, side, side, dtype=torch.uint8, device=device)
    if not count:
        return out
    first, last = int(offsets[0]), int(offsets[-1])
    data, starts = _there(buffer[first:last], device), _there(offsets.astype(np.int64) - first, device)
    far = torch.empty(count, 2, dtype=torch.int32, device=device)
    # Triton launches on the thread's current device, which is the first one in threads that chose none.
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        _measure[(count,)](data, starts, far, num_warps=1)
        _draw_row[(count, side)](
            data, starts, far, _there(pen, device), _there(dither, device), out,
            side, recipe.reach, recipe.reach_x, float(recipe.radius), recipe.pen_length,
            float(recipe.scale_x), float(recipe.scale_y), float(recipe.margin),
            COLUMNS=triton.next_power_of_2(side), num_warps=1, enable_fp_fusion=False,
        )  # fmt: skip
    return out
