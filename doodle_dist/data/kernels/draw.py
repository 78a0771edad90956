"""Drawings onto pictures: points in units, segments onto a canvas of lanes, strokes composited from there."""

# Numba infers the kernels' types, and its arithmetic is not Python's: mypy checks only what is annotated here.
# mypy: allow-untyped-defs, no-check-untyped-defs

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]  # Numba's own dependency
from numba.core import types

from doodle_dist.data.kernels.coverage import FRONT_LANES, composite16
from doodle_dist.data.kernels.jit import inline, jit
from doodle_dist.data.kernels.llvm import (
    BYTES,
    F32,
    I8,
    I32,
    INT,
    INT32S,
    call,
    llvm,
    load,
    pointer,
    splat,
    store,
)
from doodle_dist.data.kernels.packed import byte_range, u16
from doodle_dist.data.kernels.recipe import SUBROWS
from doodle_dist.data.kernels.segments import BATCH, prepare, stamp


class Scratch(NamedTuple):
    """Addresses of what the kernels work on."""

    pen: Any  # int16[PEN_PHASES, LANES + pen_length + LANES]: half widths, NOWHERE around them
    dither: Any  # int16[SUBROWS + LANES]: by sub-row, plus BIAS
    canvas: Any  # int16[FRONT_LANES + side * pitch]: zero between strokes
    xs: Any  # int32[points]: the drawing, in units
    ys: Any
    segments: Any  # int32[FIELDS, BATCH]
    strokes: Any  # int32[strokes, 5]: number of points, least and most x, least and most y


@inline
def _measure(data, at, strokes):
    """Fill in ``strokes``. -> (how many, the drawing's greatest x and y)."""
    n_strokes = u16(data, at)
    at += 2
    far_x, far_y = np.int64(0), np.int64(0)
    for s in range(n_strokes):
        n = u16(data, at)
        at += 2
        least_x, most_x, least_y, most_y = np.int64(255), np.int64(0), np.int64(255), np.int64(0)
        for k in range(0, n, 16):
            x = byte_range(data, at + k, min(n - k, 16))
            y = byte_range(data, at + n + k, min(n - k, 16))
            least_x, most_x = min(least_x, x & 255), max(most_x, x >> 8)
            least_y, most_y = min(least_y, y & 255), max(most_y, y >> 8)
        strokes[5 * s] = np.int32(n)
        strokes[5 * s + 1], strokes[5 * s + 2] = np.int32(least_x), np.int32(most_x)
        strokes[5 * s + 3], strokes[5 * s + 4] = np.int32(least_y), np.int32(most_y)
        far_x, far_y = max(far_x, most_x), max(far_y, most_y)
        at += 2 * n
    return n_strokes, far_x, far_y


@llvm(types.void, BYTES, INT, types.float32, types.float32, INT32S, INT)
def _place16(b, data, at, scale, offset, positions, to):
    """Sixteen coordinates to units: rint(x scale + offset)."""
    reals, wholes = ir.VectorType(F32, 16), ir.VectorType(I32, 16)
    x = b.uitofp(load(b, data, at, ir.VectorType(I8, 16)), reals)
    x = b.fadd(b.fmul(x, splat(b, scale, reals)), splat(b, offset, reals))
    store(b, b.fptosi(call(b, "llvm.rint.v16f32", reals, x), wholes), positions, to)


@inline
def _place(recipe, data, at, n_strokes, offset_x, offset_y, xs, ys):
    """The points in units, one stroke after the other; a lone point twice. -> how many."""
    at += 2
    n_points = np.int64(0)
    for _ in range(n_strokes):
        n = u16(data, at)
        at += 2
        for k in range(0, n, 16):
            _place16(data, at + k, recipe.scale_x, offset_x, xs, n_points + k)
            _place16(data, at + n + k, recipe.scale_y, offset_y, ys, n_points + k)
        n_points += n
        if n == 1:
            xs[n_points], ys[n_points] = xs[n_points - 1], ys[n_points - 1]
            n_points += 1
        at += 2 * n
    return n_points


@inline
def _pixels(recipe, strokes, at, scale, offset, reach, bits):
    """The first and the last pixel that a stroke may touch, from its least and its greatest coordinate."""
    least, most = np.float32(strokes[at]) * scale + offset, np.float32(strokes[at + 1]) * scale + offset
    first, last = (np.int64(least) - reach - 3) >> bits, (np.int64(most) + reach + 3) >> bits
    return max(first, np.int64(0)), min(last, np.int64(recipe.side - 1))


@inline
def _composite(recipe, canvas, out, to, top, bottom, first, last):
    """Composite pixel rows top..bottom and columns first..last over the picture, in blocks of two by eight."""
    side = np.int64(recipe.side)
    odd = (bottom - top + 1) & 1
    up = odd & np.int64(top > 0)
    top, bottom = top - up, bottom + (odd ^ up)
    column = min(first, side - 8)
    while True:
        at, pixel = FRONT_LANES + column * recipe.pitch + SUBROWS * top, to + side * top + column
        for _ in range(top, bottom, 2):
            composite16(canvas, at, recipe.pitch, out, pixel, side)
            at += 2 * SUBROWS
            pixel += 2 * side
        column += 8
        if column > last:
            break
        column = min(column, side - 8)


@inline
def _draw(recipe, scratch, data, at, out, to):
    """One drawing onto ``out[to:]``, which is black."""
    n_strokes, far_x, far_y = _measure(data, at, scratch.strokes)
    # Centred by the maximum alone, as the recipe has it.
    offset_x = (np.float32(256 - far_x) * np.float32(0.5) + recipe.margin) * recipe.scale_x
    offset_y = (np.float32(256 - far_y) * np.float32(0.5) + recipe.margin) * recipe.scale_y
    n_points = _place(recipe, data, at, n_strokes, offset_x, offset_y, scratch.xs, scratch.ys)
    first, batch, prepared = np.int64(0), np.int64(0), np.int64(0)
    for s in range(n_strokes):
        n = max(np.int64(scratch.strokes[5 * s]), 2)
        for k in range(first, first + n - 1):
            if k >= prepared:
                prepare(recipe, scratch.xs, scratch.ys, k, min(n_points - k, BATCH), scratch.segments)
                batch, prepared = k, k + BATCH
            stamp(recipe, scratch, k - batch)
        first += n
        left, right = _pixels(
            recipe, scratch.strokes, 5 * s + 1, recipe.scale_x, offset_x, recipe.reach_x, recipe.x_bits
        )
        top, bottom = _pixels(recipe, scratch.strokes, 5 * s + 3, recipe.scale_y, offset_y, recipe.reach, 8)
        _composite(recipe, scratch.canvas, out, to, top, bottom, left, right)


@jit
def draw_all(recipe, pen, dither, canvas, points, segments, strokes, buffer, offsets, out):
    """Drawings 0..N, each well-formed and followed by SLACK_BYTES readable bytes, onto ``out[N, side, side]``."""
    scratch = Scratch(
        pointer(pen),
        pointer(dither),
        pointer(canvas),
        pointer(points[0]),
        pointer(points[1]),
        pointer(segments),
        pointer(strokes),
    )
    data, pictures, area = pointer(buffer), pointer(out), recipe.side * recipe.side
    for i in range(len(offsets) - 1):
        out[i] = 0
        _draw(recipe, scratch, data, offsets[i], pictures, i * area)
