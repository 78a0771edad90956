"""Rasterise Quick, Draw! drawings as Google's own 28x28 bitmaps were made: cairo's picture, forty times its speed.

``shared/data/README.md`` gives the recipe behind Google's bitmaps. What cairo does with it, and so what this does:

- a stroke is the union of one band per segment and one round pen per point; the pen is a polygon (of 12 vertices at
  side 28: as many as keep it within 0.1 pixels of a circle), in 24.8 fixed-point coordinates;
- a pixel is sampled on 15 sub-rows, each covered exactly along x;
- strokes are composited OVER each other in 8-bit arithmetic.

Here a sub-row of a pixel is one int16 whose 16 bits are sub-columns, so that a union is an OR and coverage a bit count.
Each of a pixel's 15 sub-rows has its sub-columns at another offset (a dither), which makes 16 of them as good as 240
for an upright edge, and nearly so for others. The convex hull of a segment's two pens meets a sub-row in one interval,
and 64 sub-rows (more than four pixels, most segments whole) are one LLVM vector: intervals are computed for all of them
at once and ORed into the columns of pixels that the segment crosses. LLVM makes two 512-bit registers of that vector,
or what else the machine has.

Geometry is in *units* of 1/256 pixel along y; along x too, but coarser for sides over 63, where 256 units a pixel
would overflow int16 lanes.
"""

# Numba infers the kernels' types, and its arithmetic is not Python's: mypy checks only what is annotated here.
# mypy: allow-untyped-defs, no-check-untyped-defs

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]  # Numba's own dependency
from numba.core import types
from numba.extending import intrinsic, models, register_model

from doodle_dist.data.strokes import pack_strokes

SUBROWS = 15
SUBCOLUMNS = 16
LANES = 64
MIN_SIDE, MAX_SIDE = 8, 1023
CAIRO_TOLERANCE = 0.1  # pixels: cairo's default, which sets the number of the pen's vertices

SLACK_BYTES = 16  # coordinates are read 16 at a time
FRONT_LANES = 16  # lanes before the first column, since a composite clears two lanes before its rows
NOWHERE = 16_383  # a pen's half width outside the pen: its interval becomes empty, and still fits int16
PEN_PHASES = 64  # of a sub-row, at which a pen may begin
BIAS = 16_384  # keeps quantised positions unsigned
BATCH = 128  # segments prepared at a time
FIELDS = 16  # of a prepared segment


# ---- LLVM vectors in Numba ------------------------------------------------------------------------------------------
# Numba's own loops over int16 arrays vectorise only sometimes; these few operations are written in LLVM IR, which every
# target compiles to the widest vectors it has.

_I8, _I16, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
_LANES_IR = ir.VectorType(_I16, LANES)


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"int16x{LANES}")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: object, fe_type: types.Type) -> None:
        super().__init__(dmm, fe_type, _LANES_IR)


_lanes = _Lanes()
_int = types.int64
_bytes = types.CPointer(types.uint8)  # type: ignore[attr-defined]
_int16s = types.CPointer(types.int16)  # type: ignore[attr-defined]
_int32s = types.CPointer(types.int32)  # type: ignore[attr-defined]


def _llvm(result: Any, *arguments: Any) -> Callable[[Callable[..., Any]], Any]:
    """A Numba function whose body ``emit(builder, *values)`` writes as LLVM IR."""

    def wrap(emit: Callable[..., Any]) -> Any:
        def typing(typingctx, *given):
            def codegen(context, builder, signature, values):
                value = emit(builder, *values)
                return context.get_dummy_value() if value is None else value

            return result(*arguments), codegen

        typing.__name__ = emit.__name__
        typing.__signature__ = inspect.signature(emit)  # type: ignore[attr-defined]
        return intrinsic(typing)

    return wrap


@intrinsic
def _pointer(typingctx, array):
    """The address of an array's first element: indexing it costs no bounds, no wraparound and no reference count."""

    def codegen(context, builder, signature, args):
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen


def _const(vector, *values):
    return ir.Constant(vector, list(values) if len(values) > 1 else list(values) * vector.count)


def _pick(*indices):
    return ir.Constant(ir.VectorType(_I32, len(indices)), list(indices))


def _splat(b, value, vector=_LANES_IR):
    if isinstance(value.type, ir.IntType) and value.type.width > vector.element.width:
        value = b.trunc(value, vector.element)
    undefined = ir.Constant(vector, ir.Undefined)
    one = b.insert_element(undefined, value, ir.Constant(_I32, 0))
    return b.shuffle_vector(one, undefined, _pick(*[0] * vector.count))


def _address(b, pointer, index, vector):
    return b.bitcast(b.gep(pointer, [index], inbounds=True), vector.as_pointer())


def _load(b, pointer, index, vector=_LANES_IR):
    return b.load(_address(b, pointer, index, vector), align=vector.element.width // 8)


def _store(b, value, pointer, index):
    b.store(value, _address(b, pointer, index, value.type), align=value.type.element.width // 8)


def _call(b, name, result, *values):
    function_type = ir.FunctionType(result, [v.type for v in values])
    function = b.module.globals.get(name) or ir.Function(b.module, function_type, name)
    return b.call(function, values)


def _min(b, x, y):
    return b.select(b.icmp_signed("<", x, y), x, y)


def _max(b, x, y):
    return b.select(b.icmp_signed(">", x, y), x, y)


def _saturating_sub(b, x, y):
    return _call(b, f"llvm.usub.sat.v{LANES}i16", _LANES_IR, x, y)


@_llvm(_lanes, _int16s, _int, _int, _int, _int)
def _pens_left(b, pen, at_a, ax, at_b, bx):
    """Where two pens begin in each sub-row: the smaller x."""
    return _min(b, b.sub(_splat(b, ax), _load(b, pen, at_a)), b.sub(_splat(b, bx), _load(b, pen, at_b)))


@_llvm(_lanes, _int16s, _int, _int, _int, _int)
def _pens_right(b, pen, at_a, ax, at_b, bx):
    return _max(b, b.add(_splat(b, ax), _load(b, pen, at_a)), b.add(_splat(b, bx), _load(b, pen, at_b)))


@_llvm(_lanes, _int)
def _ramp(b, step):
    """Lane k: floor(step k / 65536), modulo 2**16 as everything in these lanes."""
    wide = ir.VectorType(_I32, LANES)
    k = _const(_LANES_IR, *range(LANES))
    whole = b.mul(_splat(b, b.ashr(step, ir.Constant(_I64, 16))), k)
    fraction = b.mul(b.zext(_splat(b, step), wide), b.zext(k, wide))
    return b.add(whole, b.trunc(b.lshr(fraction, _const(wide, 16)), _LANES_IR))


@_llvm(_lanes, _lanes, _int, _int, _int, _lanes)
def _edge(b, ramp, x, first, count, otherwise):
    """``x + ramp`` in the lanes first..first + count, where a band's edge is the outline, else ``otherwise``."""
    k = _const(_LANES_IR, *range(LANES))
    inside = b.icmp_unsigned("<", b.sub(k, _splat(b, first)), _splat(b, count))
    return b.select(inside, b.add(_splat(b, x), ramp), otherwise)


@_llvm(_lanes, _lanes, _int16s, _int, _int)
def _quantize(b, x, dither, at, shift):
    """Units to sub-columns, never below 0.

    The shift is an argument also so that LLVM can't know the result's range: where it does, it compiles the shifts of
    ``_cover`` to more instructions than one.
    """
    shift = _splat(b, shift)
    x = b.lshr(b.add(x, _load(b, dither, at)), shift)  # dither holds BIAS too
    return _saturating_sub(b, x, b.lshr(_const(_LANES_IR, BIAS), shift))


@_llvm(_lanes, _lanes)
def _next_column(b, x):
    return _saturating_sub(b, x, _const(_LANES_IR, SUBCOLUMNS))


@_llvm(types.void, _int16s, _int, _lanes, _lanes)
def _cover(b, canvas, at, left, right):
    """OR the sub-columns left..right into one column of pixels."""

    def from_(x):
        some = b.icmp_unsigned("<", x, _const(_LANES_IR, SUBCOLUMNS))
        return b.select(some, b.shl(_const(_LANES_IR, -1), x), _const(_LANES_IR, 0))

    interval = b.and_(from_(left), b.not_(from_(right)))
    _store(b, b.or_(_load(b, canvas, at), interval), canvas, at)


@_llvm(_int, _bytes, _int, _int)
def _byte_range(b, data, at, count):
    """The smallest of count <= 16 bytes and, times 256, the largest. Reads 16 bytes."""
    vector = ir.VectorType(_I8, 16)
    values = _load(b, data, at, vector)
    counted = b.icmp_unsigned("<", _const(vector, *range(16)), _splat(b, count, vector))
    least = _call(b, "llvm.vector.reduce.umin.v16i8", _I8, b.select(counted, values, _const(vector, -1)))
    most = _call(b, "llvm.vector.reduce.umax.v16i8", _I8, b.select(counted, values, _const(vector, 0)))
    return b.or_(b.zext(least, _I64), b.shl(b.zext(most, _I64), ir.Constant(_I64, 8)))


@_llvm(types.void, _bytes, _int, types.float32, types.float32, _int32s, _int)
def _place16(b, data, at, scale, offset, positions, to):
    """Sixteen coordinates to units: rint(x scale + offset)."""
    reals, wholes = ir.VectorType(_F32, 16), ir.VectorType(_I32, 16)
    x = b.uitofp(_load(b, data, at, ir.VectorType(_I8, 16)), reals)
    x = b.fadd(b.fmul(x, _splat(b, scale, reals)), _splat(b, offset, reals))
    _store(b, b.fptosi(_call(b, "llvm.rint.v16f32", reals, x), wholes), positions, to)


def _count_row(b, pixels):
    """Eight pixels' bits counted: <8 x i64>, whose quarters hold parts of four pixels' counts in 16 bits each.

    Lane 15 of a pixel is the next pixel row's first and is left out.
    """
    quads = ir.VectorType(_I64, 8)
    total = _const(quads, 0)
    for j in range(4):
        bits = b.bitcast(b.shuffle_vector(pixels[j], pixels[j + 4], _pick(*range(32))), quads)
        bits = b.and_(bits, _const(quads, *[-1, -1, -1, (1 << 48) - 1] * 2))
        count = _call(b, "llvm.ctpop.v8i64", quads, bits)
        total = b.add(total, b.shl(count, _const(quads, 16 * j)))
    return total


@_llvm(types.void, _int16s, _int, _int, _bytes, _int, _int)
def _composite16(b, canvas, at, pitch, out, to, side):
    """Composite eight columns of two pixel rows over the picture, and clear them on the canvas."""
    pixel, rows, offset = ir.VectorType(_I16, 16), ([], []), at
    for _ in range(8):
        for r in (0, 1):
            rows[r].append(_load(b, canvas, b.add(offset, ir.Constant(_I64, SUBROWS * r)), pixel))
        offset = b.add(offset, pitch)
    upper, lower = (_count_row(b, row) for row in rows)
    for _ in range(8):
        # Two lanes early: a store that reached the next rows would stall the next call's loads from them.
        _store(b, _const(ir.VectorType(_I16, 32), 0), canvas, b.sub(at, ir.Constant(_I64, 2)))
        at = b.add(at, pitch)
    pairs = b.add(
        b.shuffle_vector(upper, lower, _pick(*range(0, 16, 2))),
        b.shuffle_vector(upper, lower, _pick(*range(1, 16, 2))),
    )
    counts = b.add(pairs, b.shuffle_vector(pairs, pairs, _pick(1, 0, 3, 2, 5, 4, 7, 6)))
    sixteen = ir.VectorType(_I16, 16)
    counts = b.bitcast(b.shuffle_vector(counts, counts, _pick(0, 2, 4, 6)), sixteen)
    _blend(b, counts, out, to, b.add(to, side))


def _blend(b, counts, out, upper, lower):
    """OVER, as cairo rounds it: alpha + dst (255 - alpha) / 255, for eight pixels at each address."""
    eight, sixteen = ir.VectorType(_I8, 8), counts.type
    # 240 samples are 255: 255/240 = 17/16.
    alpha = b.lshr(b.add(b.mul(counts, _const(sixteen, 17)), _const(sixteen, 8)), _const(sixteen, 4))
    both = b.shuffle_vector(_load(b, out, upper, eight), _load(b, out, lower, eight), _pick(*range(16)))
    rest = b.mul(b.zext(both, sixteen), b.sub(_const(sixteen, 255), alpha))
    rest = b.add(rest, _const(sixteen, 127))
    rest = b.lshr(b.add(rest, b.lshr(rest, _const(sixteen, 8))), _const(sixteen, 8))
    result = b.trunc(b.add(alpha, rest), ir.VectorType(_I8, 16))
    _store(b, b.shuffle_vector(result, result, _pick(*range(8))), out, upper)
    _store(b, b.shuffle_vector(result, result, _pick(*range(8, 16))), out, lower)


# ---- kernels --------------------------------------------------------------------------------------------------------


def _jit(function: Callable[..., Any], **options: Any) -> Any:
    """Compile, and keep the machine code on disk where some cache folder is writable."""
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # Numba found no folder it may write to
        return numba.njit(function, **options)


def _inline(function: Callable[..., Any]) -> Any:
    return numba.njit(function, nogil=True, error_model="numpy", forceinline=True)


class _Recipe(NamedTuple):
    """What a side, a line width and a padding come to, in units."""

    side: int
    x_bits: int  # 2**x_bits units of x are a pixel
    reach: int  # from a point to the pen's top
    reach_x: int
    radius: np.float32
    pen_length: int  # sub-rows that a pen may touch
    pitch: int  # lanes of a column of the canvas
    scale_x: np.float32  # units per coordinate
    scale_y: np.float32
    margin: np.float32  # around the drawing, in coordinates


class _Scratch(NamedTuple):
    """Addresses of what the kernels work on."""

    pen: Any  # int16[PEN_PHASES, LANES + pen_length + LANES]: half widths, NOWHERE around them
    dither: Any  # int16[SUBROWS + LANES]: by sub-row, plus BIAS
    canvas: Any  # int16[FRONT_LANES + side * pitch]: zero between strokes
    xs: Any  # int32[points]: the drawing, in units
    ys: Any
    segments: Any  # int32[FIELDS, BATCH]
    strokes: Any  # int32[strokes, 5]: number of points, least and most x, least and most y


# Fields of a segment from A, its upper end, to B. Sub-rows count from A's pen's top, x from the first column:
# both ends' x; the left and the right edge of the band (first sub-row, number of sub-rows, x at sub-row 0 in 16.16);
# the edges' step per sub-row in 16.16; both pens' places in their table; sub-rows from B's pen's top (never above 0);
# where it lies on the canvas (sub-row, column), and how many columns and sub-rows it touches.
_AX, _BX, _L_FIRST, _L_COUNT, _L_X, _R_FIRST, _R_COUNT, _R_X = range(8)
_STEP, _PEN_A, _PEN_B, _BACK, _ROW, _COLUMN, _COLUMNS, _ROWS = range(8, 16)


@_inline
def _u16(data, at):
    return np.int64(data[at]) | (np.int64(data[at + 1]) << 8)


@_jit
def _first_malformed(buffer, offsets):
    """The index of the first drawing whose lengths don't add up to its extent, or -1."""
    for i in range(len(offsets) - 1):
        at, end = offsets[i], offsets[i + 1]
        if at < 0 or end > len(buffer) or end - at < 2:
            return i
        n_strokes = np.int64(buffer[at]) | (np.int64(buffer[at + 1]) << 8)
        at += 2
        if n_strokes == 0:
            return i
        for _ in range(n_strokes):
            if at + 2 > end:
                return i
            n = np.int64(buffer[at]) | (np.int64(buffer[at + 1]) << 8)
            at += 2 + 2 * n
            if n == 0 or at > end:
                return i
        if at != end:
            return i
    return -1


@_inline
def _measure(data, at, strokes):
    """Fill in ``strokes``. -> (how many, the drawing's greatest x and y)."""
    n_strokes = _u16(data, at)
    at += 2
    far_x, far_y = np.int64(0), np.int64(0)
    for s in range(n_strokes):
        n = _u16(data, at)
        at += 2
        least_x, most_x, least_y, most_y = np.int64(255), np.int64(0), np.int64(255), np.int64(0)
        for k in range(0, n, 16):
            x = _byte_range(data, at + k, min(n - k, 16))
            y = _byte_range(data, at + n + k, min(n - k, 16))
            least_x, most_x = min(least_x, x & 255), max(most_x, x >> 8)
            least_y, most_y = min(least_y, y & 255), max(most_y, y >> 8)
        strokes[5 * s] = np.int32(n)
        strokes[5 * s + 1], strokes[5 * s + 2] = np.int32(least_x), np.int32(most_x)
        strokes[5 * s + 3], strokes[5 * s + 4] = np.int32(least_y), np.int32(most_y)
        far_x, far_y = max(far_x, most_x), max(far_y, most_y)
        at += 2 * n
    return n_strokes, far_x, far_y


@_inline
def _place(recipe, data, at, n_strokes, offset_x, offset_y, xs, ys):
    """The points in units, one stroke after the other; a lone point twice. -> how many."""
    at += 2
    n_points = np.int64(0)
    for _ in range(n_strokes):
        n = _u16(data, at)
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


@_inline
def _prepare(recipe, xs, ys, first, n, segments):
    """The n <= BATCH segments from point ``first`` to the next and so on, in units and lanes.

    Strokes are not told apart: what runs from one to the next is prepared too, and never drawn. One plain loop with
    constant strides, which LLVM vectorises: n is rounded up so that no segment is left to a scalar remainder.
    """
    to_y = np.float32(256.0 / (1 << recipe.x_bits))  # units of y per unit of x
    reach, reach_x = np.int32(recipe.reach), np.int32(recipe.reach_x)
    x_bits, last = np.int32(recipe.x_bits), np.int32(recipe.side - 1)
    stride = np.int32(recipe.pen_length + 2 * LANES)
    half, one, limit = np.float32(0.5), np.float32(65536), np.float32(32767)  # one: in 16.16 fixed point
    for k in range((n + 15) & ~15):
        x0, x1, y0, y1 = xs[first + k], xs[first + k + 1], ys[first + k], ys[first + k + 1]
        ay, by = min(y0, y1), max(y0, y1)
        ax = x0 if y0 <= y1 else x1
        dx, dy = np.int32(x0 + x1 - ax - ax), np.int32(by - ay)
        column = max(
            np.int32(0), min(np.int32(np.int32(min(x0, x1) - reach_x - 2) >> x_bits), np.int32(last - 3))
        )
        last_column = min(last, np.int32(np.int32(max(x0, x1) + reach_x + 2) >> x_bits))
        ax = np.int32(ax - (column << x_bits))

        # Sub-row s is sampled in its middle, y = (s + 1/2) 256/15, so the first at or below y is (15 y + 128) >> 8.
        a_top = np.int32(15 * (ay - reach) + 128)
        b_top = np.int32(a_top + 15 * dy)
        row = np.int32(a_top >> 8)

        # The band's edges, parallel to the segment at one radius. A level one has none: its dy leaves them no sub-row.
        run, rise = np.float32(dx), np.float32(max(dy, np.int32(1)))
        along = run * to_y
        inverse = recipe.radius / np.sqrt(along * along + rise * rise)
        nx, ny = np.rint(np.float32(dy) * inverse / to_y), np.int32(np.rint(along * inverse))
        left, right = np.int32(15 * (ay + ny) + 128), np.int32(15 * (ay - ny) + 128)
        left_end, right_end = np.int32(left + 15 * dy), np.int32(right + 15 * dy)
        left_row, right_row = np.int32(left >> 8), np.int32(right >> 8)
        left_first, right_first = np.int32(left_row - row), np.int32(right_row - row)
        # Fixed point modulo 2**32: only the lanes of the edge itself need to come out right.
        slope = run / rise
        step = np.int32(max(min(slope * np.float32(256 / 15), limit), -limit) * one)
        slope *= np.float32(1 / 15)
        left_x = np.float32(ax) - nx + np.float32(np.int32(256 - (left & 255))) * slope
        right_x = np.float32(ax) + nx + np.float32(np.int32(256 - (right & 255))) * slope

        segments[k + BATCH * _AX] = ax
        segments[k + BATCH * _BX] = np.int32(ax + dx)
        segments[k + BATCH * _L_FIRST] = left_first
        segments[k + BATCH * _L_COUNT] = np.int32(np.int32(left_end >> 8) - left_row)
        segments[k + BATCH * _L_X] = np.int32(np.int32((left_x + half) * one) - step * left_first)
        segments[k + BATCH * _R_FIRST] = right_first
        segments[k + BATCH * _R_COUNT] = np.int32(np.int32(right_end >> 8) - right_row)
        segments[k + BATCH * _R_X] = np.int32(np.int32((right_x + half) * one) - step * right_first)
        segments[k + BATCH * _STEP] = step
        segments[k + BATCH * _PEN_A] = np.int32(((a_top & 255) * PEN_PHASES >> 8) * stride + LANES)
        segments[k + BATCH * _PEN_B] = np.int32(((b_top & 255) * PEN_PHASES >> 8) * stride + LANES)
        segments[k + BATCH * _BACK] = np.int32(row - np.int32(b_top >> 8))
        segments[k + BATCH * _ROW] = row
        segments[k + BATCH * _COLUMN] = column
        segments[k + BATCH * _COLUMNS] = np.int32(last_column - column + 1)
        segments[k + BATCH * _ROWS] = np.int32(np.int32(np.int32(b_top + 30 * reach) >> 8) - row)


@_inline
def _field(segments, k, field):
    return np.int64(segments[k + BATCH * field])


@_inline
def _stamp(recipe, scratch, k):
    """OR segment k onto the canvas: both ends' pens and the band between them."""
    segments = scratch.segments
    ax, bx, step = _field(segments, k, _AX), _field(segments, k, _BX), _field(segments, k, _STEP)
    left_first, left_count = _field(segments, k, _L_FIRST), _field(segments, k, _L_COUNT)
    right_first, right_count = _field(segments, k, _R_FIRST), _field(segments, k, _R_COUNT)
    left_x, right_x = _field(segments, k, _L_X), _field(segments, k, _R_X)
    pen_a, pen_b, back = _field(segments, k, _PEN_A), _field(segments, k, _PEN_B), _field(segments, k, _BACK)
    row, rows, columns = _field(segments, k, _ROW), _field(segments, k, _ROWS), _field(segments, k, _COLUMNS)
    canvas_at = FRONT_LANES + _field(segments, k, _COLUMN) * recipe.pitch + row

    ramp = _ramp(step)
    done = np.int64(0)
    while True:
        a, b = pen_a + min(done, recipe.pen_length), pen_b + max(back + done, -LANES)
        left = _pens_left(scratch.pen, a, ax, b, bx)
        left = _edge(ramp, left_x >> 16, left_first - done, left_count, left)
        right = _pens_right(scratch.pen, a, ax, b, bx)
        right = _edge(ramp, right_x >> 16, right_first - done, right_count, right)
        phase = (row + done) % SUBROWS
        left = _quantize(left, scratch.dither, phase, recipe.x_bits - 4)
        right = _quantize(right, scratch.dither, phase, recipe.x_bits - 4)
        to = canvas_at + done
        for _ in range(4):  # always, unrolled: most segments cross three or four columns
            _cover(scratch.canvas, to, left, right)
            left, right = _next_column(left), _next_column(right)
            to += recipe.pitch
        for _ in range(4, columns):
            _cover(scratch.canvas, to, left, right)
            left, right = _next_column(left), _next_column(right)
            to += recipe.pitch
        done += LANES
        if done >= rows:
            break
        left_x += LANES * step
        right_x += LANES * step


@_inline
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
            _composite16(canvas, at, recipe.pitch, out, pixel, side)
            at += 2 * SUBROWS
            pixel += 2 * side
        column += 8
        if column > last:
            break
        column = min(column, side - 8)


@_inline
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
                _prepare(recipe, scratch.xs, scratch.ys, k, min(n_points - k, BATCH), scratch.segments)
                batch, prepared = k, k + BATCH
            _stamp(recipe, scratch, k - batch)
        first += n
        left, right = _pixels(
            recipe, scratch.strokes, 5 * s + 1, recipe.scale_x, offset_x, recipe.reach_x, recipe.x_bits
        )
        top, bottom = _pixels(recipe, scratch.strokes, 5 * s + 3, recipe.scale_y, offset_y, recipe.reach, 8)
        _composite(recipe, scratch.canvas, out, to, top, bottom, left, right)


@_inline
def _pixels(recipe, strokes, at, scale, offset, reach, bits):
    """The first and the last pixel that a stroke may touch, from its least and its greatest coordinate."""
    least, most = np.float32(strokes[at]) * scale + offset, np.float32(strokes[at + 1]) * scale + offset
    first, last = (np.int64(least) - reach - 3) >> bits, (np.int64(most) + reach + 3) >> bits
    return max(first, np.int64(0)), min(last, np.int64(recipe.side - 1))


@_jit
def _draw_all(recipe, pen, dither, canvas, points, segments, strokes, buffer, offsets, out):
    """Drawings 0..N, each well-formed and followed by SLACK_BYTES readable bytes, onto ``out[N, side, side]``."""
    scratch = _Scratch(
        _pointer(pen),
        _pointer(dither),
        _pointer(canvas),
        _pointer(points[0]),
        _pointer(points[1]),
        _pointer(segments),
        _pointer(strokes),
    )
    data, pictures, pixels = _pointer(buffer), _pointer(out), recipe.side * recipe.side
    for i in range(len(offsets) - 1):
        out[i] = 0
        _draw(recipe, scratch, data, offsets[i], pictures, i * pixels)


# ---- tables ---------------------------------------------------------------------------------------------------------


def _pen_polygon(radius: float) -> npt.NDArray[np.float64]:
    """cairo's pen for a circle of this radius: float[vertices, 2], all in pixels. Empty where it draws nothing."""
    if 4 * radius <= CAIRO_TOLERANCE:
        return np.empty((0, 2))
    vertices = 4
    if radius > CAIRO_TOLERANCE:
        vertices = math.ceil(2 * math.pi / math.acos(1 - CAIRO_TOLERANCE / radius))
        vertices = max(vertices + vertices % 2, 4)
    angle = 2 * np.pi * np.arange(vertices) / vertices
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _pen_table(polygon: npt.NDArray[np.int64], reach: int, length: int) -> npt.NDArray[np.int16]:
    """Half widths of a pen in each sub-row, for each phase of a sub-row that its top may have.

    ``polygon``: the pen's vertices in units, by rising angle; it is its own mirror image.
    """
    table = np.full((PEN_PHASES, LANES + length + LANES), -NOWHERE, np.int16)
    for phase in range(PEN_PHASES):
        start = 256 * (phase + 0.5) / PEN_PHASES  # 15 y + 128 of the top, modulo 256
        for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            if y1 <= y0:  # the left side
                continue
            rows = np.arange((15 * (y0 + reach) + start) // 256, (15 * (y1 + reach) + start) // 256)
            y = ((rows + 0.5) * 256 + 128 - start) / 15 - reach
            table[phase, LANES + rows.astype(int)] = np.floor(x0 + (y - y0) * (x1 - x0) / (y1 - y0) + 0.5)
    return table


@lru_cache(maxsize=16)
def _tables(
    side: int, line_width: float, padding: float
) -> tuple[_Recipe, npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """What the kernels need to know of a recipe: its numbers, the pen's table and the dither's."""
    scale = side / (256 + 2 * padding + line_width)
    radius = line_width / 2 * scale
    x_bits = next(bits for bits in (8, 7, 6, 5, 4) if side << bits < NOWHERE)
    polygon = np.rint(_pen_polygon(radius) * (1 << x_bits, 256)).astype(np.int64)
    reach_x, reach = (int(v) for v in polygon.max(axis=0, initial=0))
    length = 2 * SUBROWS * reach // 256 + 2
    recipe = _Recipe(
        side,
        x_bits,
        reach,
        reach_x,
        radius=np.float32(256 * radius if len(polygon) else 0),
        pen_length=length,
        pitch=SUBROWS * side + LANES + 4,
        scale_x=np.float32(scale * (1 << x_bits)),
        scale_y=np.float32(scale * 256),
        margin=np.float32((line_width + 2 * padding) / 2),
    )
    # Steps of 7/15 spread any few neighbours evenly over a sub-column.
    order = np.arange(SUBROWS) * 7 % SUBROWS
    dither = BIAS + np.rint((order + 0.5) * (1 << x_bits) / (SUBCOLUMNS * SUBROWS))
    return (
        recipe,
        _pen_table(polygon, reach, length).ravel(),
        np.resize(dither, SUBROWS + LANES).astype(np.int16),
    )


# ---- in and out -----------------------------------------------------------------------------------------------------


def rasterize_packed(
    buffer: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.integer],
    *,
    side: int = 28,
    line_width: float = 16.0,
    padding: float = 16.0,
    out: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8]:
    """Rasterise packed drawings (see ``strokes.py``), as they lie in an Arrow binary column.

    Drawing i is ``buffer[offsets[i]:offsets[i + 1]]``; offsets are int32 or int64 [N + 1] and may start anywhere. White
    ink (255) on black, into ``out`` where given. -> uint8[N, side, side]. On one thread, without the GIL.

    Raises ValueError naming the first drawing that is empty or whose lengths don't add up to its extent.
    """
    _check_recipe(side, line_width, padding)
    check_packed(buffer, offsets)
    n = len(offsets) - 1
    if out is None:
        out = np.empty((n, side, side), np.uint8)
    elif (
        out.shape != (n, side, side)
        or out.dtype != np.uint8
        or not out.flags.c_contiguous
        or not out.flags.writeable
    ):
        raise ValueError(f"out must be a writable, C-contiguous uint8[{n}, {side}, {side}]")
    # Read-only, as Arrow's buffers are: the kernels are compiled for one type of array.
    buffer, offsets = _read_only(buffer, np.uint8), _read_only(offsets, np.int64)
    _draw_checked(_tables(side, float(line_width), float(padding)), buffer, offsets, out)
    return out


def check_packed(buffer: npt.NDArray[np.uint8], offsets: npt.NDArray[np.integer]) -> None:
    """Raise ValueError where these aren't packed drawings, naming the first that is malformed."""
    if buffer.dtype != np.uint8 or buffer.ndim != 1:
        raise ValueError(f"buffer must be uint8[bytes], not {buffer.dtype}{list(buffer.shape)}")
    if offsets.ndim != 1 or len(offsets) == 0 or offsets.dtype.kind not in "iu":
        raise ValueError(f"offsets must be integers [N + 1], not {offsets.dtype}{list(offsets.shape)}")
    bad = _first_malformed(_read_only(buffer, np.uint8), _read_only(offsets, np.int64))
    if bad >= 0:
        extent = offsets[bad + 1] - offsets[bad]
        raise ValueError(f"drawing {bad} is malformed: its lengths don't add up to its {extent} bytes")


def rasterize(
    strokes: Sequence[Sequence[Sequence[int]]],
    *,
    side: int = 28,
    line_width: float = 16.0,
    padding: float = 16.0,
) -> npt.NDArray[np.uint8]:
    """Rasterise one drawing, ``[(x, y), ...]`` of integers in 0..255 -> uint8[side, side]."""
    packed = np.frombuffer(pack_strokes(strokes), np.uint8)
    offsets = np.array([0, len(packed)])
    picture: npt.NDArray[np.uint8] = rasterize_packed(
        packed, offsets, side=side, line_width=line_width, padding=padding
    )[0]
    return picture


def _check_recipe(side: int, line_width: float, padding: float) -> None:
    if not MIN_SIDE <= side <= MAX_SIDE:
        raise ValueError(f"side = {side}: must be {MIN_SIDE}..{MAX_SIDE}")
    if not (line_width > 0 and math.isfinite(line_width)):
        raise ValueError(f"line_width = {line_width}: must be positive")
    if not (padding >= 0 and math.isfinite(padding)):
        raise ValueError(f"padding = {padding}: must be 0 or more, or ink would fall outside the picture")


def _read_only(array: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    view = np.ascontiguousarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view


def _draw_checked(tables: Any, buffer: Any, offsets: Any, out: npt.NDArray[np.uint8]) -> None:
    """Allocate what the kernels need, and let them read only where SLACK_BYTES follow: the last drawings in a copy."""
    if len(offsets) == 1:
        return
    recipe, pen, dither = tables
    longest = int(np.diff(offsets).max())
    n_points = longest // 2 + 32  # two bytes a point; written 16 and read 16 + 1 at a time
    canvas = np.zeros(FRONT_LANES + recipe.side * recipe.pitch, np.int16)
    points = np.zeros((2, n_points), np.int32)
    segments = np.empty(FIELDS * BATCH, np.int32)
    strokes = np.empty(5 * (longest // 4 + 1), np.int32)
    scratch = (pen, dither, canvas, points, segments, strokes)
    direct = int(np.searchsorted(offsets[1:], len(buffer) - SLACK_BYTES, side="right"))
    _draw_all(recipe, *scratch, buffer, offsets[: direct + 1], out[:direct])
    rest = offsets[direct:]
    copy = np.zeros(int(rest[-1] - rest[0]) + SLACK_BYTES, np.uint8)
    copy[:-SLACK_BYTES] = buffer[rest[0] : rest[-1]]
    _draw_all(
        recipe, *scratch, _read_only(copy, np.uint8), _read_only(rest - rest[0], np.int64), out[direct:]
    )
