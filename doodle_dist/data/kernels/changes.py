"""Random changes of packed drawings: the numbers they go by, and what is done to strokes and points.

Strokes are short, eight points as a rule: they are changed sixteen points at a time, in one LLVM vector, and what is
written beyond a stroke's end is overwritten by the next.
"""

# Numba infers the kernels' types, and its arithmetic is not Python's: mypy checks only what is annotated here.
# mypy: allow-untyped-defs, no-check-untyped-defs

from functools import partial
from typing import NamedTuple

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]  # Numba's own dependency
from numba.core import types

from doodle_dist.data.kernels.hashes import GOLDEN, mix
from doodle_dist.data.kernels.jit import inline, jit
from doodle_dist.data.kernels.llvm import BYTES, F32, I8, I32, INT, call, llvm, load, pointer, splat, store
from doodle_dist.data.kernels.packed import byte_range, u16

POINTS_AT_ONCE = 16

# Which numbers of a drawing's sequence are for what; each is split into four of 16 bits. Strokes have one each, every
# four points share one, far behind.
_WHOLE, _SHAPE, _BEND, _STROKES, _POINTS = 0, 1, 2, 16, 1 << 32

# Fields of a stroke: where its points begin in the buffer, how many there are, how many are kept, twice its middle, its
# extent.
_AT, _N, _KEPT, _TWICE_X, _TWICE_Y, _EXTENT, STROKE_FIELDS = range(7)

# Points nearer than this to each other, in coordinates of 0..255, are one place: what is left of rounding.
_ONE_PLACE = np.float32(0.01)

_BYTES = ir.VectorType(I8, POINTS_AT_ONCE)
_WHOLES = ir.VectorType(I32, POINTS_AT_ONCE)
_REALS = ir.VectorType(F32, POINTS_AT_ONCE)
_float32s = types.CPointer(types.float32)  # type: ignore[attr-defined]
_real = types.float32


class Settings(NamedTuple):
    """A StrokeAugment as the kernel takes it: float32, and the rotation in radians."""

    probability: np.float32
    rotate: np.float32
    aspect_log: np.float32
    shear: np.float32
    bend: np.float32
    stroke_shift: np.float32
    stroke_scale: np.float32
    drop_stroke_probability: np.float32
    drop_stroke_share: np.float32
    drop_point_probability: np.float32
    unfinished_probability: np.float32
    unfinished_share: np.float32
    flip_probability: np.float32


def _load_reals(b, values, at):
    return b.bitcast(load(b, values, at, _WHOLES), _REALS)


def _store_reals(b, x, values, at):
    store(b, b.bitcast(x, _WHOLES), values, at)


@llvm(types.void, BYTES, INT, _float32s, INT)
def _widen16(b, data, at, values, to):
    """Sixteen bytes to reals."""
    _store_reals(b, b.uitofp(load(b, data, at, _BYTES), _REALS), values, to)


@llvm(types.void, _float32s, _float32s, INT, *[_real] * 12)
def _move16(b, xs, ys, at, x0, y0, m00, m01, m10, m11, shift_x, shift_y, bend_0, bend_1, bend_2, bend_3):
    """Sixteen points: (u, v) is the matrix about (x0, y0) and the shift; then the bend's quadratic terms are added."""

    def times(factor, vector):
        return b.fmul(splat(b, factor, _REALS), vector)

    x = b.fsub(_load_reals(b, xs, at), splat(b, x0, _REALS))
    y = b.fsub(_load_reals(b, ys, at), splat(b, y0, _REALS))
    u = b.fadd(b.fadd(times(m00, x), times(m01, y)), splat(b, shift_x, _REALS))
    v = b.fadd(b.fadd(times(m10, x), times(m11, y)), splat(b, shift_y, _REALS))
    _store_reals(b, b.fadd(u, b.fmul(v, b.fadd(times(bend_0, v), times(bend_1, u)))), xs, at)
    _store_reals(b, b.fadd(v, b.fmul(u, b.fadd(times(bend_2, u), times(bend_3, v)))), ys, at)


@llvm(types.void, _float32s, INT, _real, _real, BYTES, INT)
def _fit16(b, values, at, least, scale, out, to):
    """Sixteen reals to bytes: rint((x - least) scale)."""
    x = b.fsub(_load_reals(b, values, at), splat(b, least, _REALS))
    x = call(b, "llvm.rint.v16f32", _REALS, b.fmul(x, splat(b, scale, _REALS)))
    store(b, b.trunc(b.fptosi(x, _WHOLES), _BYTES), out, to)


# Where the order of operands can't matter, LLVM may take several at a time.
_fast_inline = partial(inline, fastmath={"nnan", "nsz"})


@inline
def _number(state, k):
    """Number k of a drawing's sequence: 64 random bits."""
    return mix(state + np.uint64(k) * GOLDEN)


@inline
def _unit(bits, quarter):
    """A quarter of 64 random bits, uniform in [0, 1): the middles of 65,536 equal parts."""
    part = np.int32((bits >> np.uint64(16 * quarter)) & np.uint64(0xFFFF))
    return (np.float32(part) + np.float32(0.5)) * np.float32(2.0**-16)


@inline
def _signed(bits, quarter, most):
    return (_unit(bits, quarter) * np.float32(2) - np.float32(1)) * most


@inline
def _put_u16(data, at, value):
    data[at], data[at + 1] = np.uint8(value & 255), np.uint8(value >> 8)


@inline
def _measure(data, at, strokes):
    """Fill in ``strokes``. -> (how many, the sum of their extents, the drawing's box)."""
    n_strokes = u16(data, at)
    at += 2
    extents = np.int64(0)
    box_left, box_right, box_top, box_bottom = np.int64(255), np.int64(0), np.int64(255), np.int64(0)
    for s in range(n_strokes):
        n = u16(data, at)
        at += 2
        left, right, top, bottom = np.int64(255), np.int64(0), np.int64(255), np.int64(0)
        for k in range(0, n, POINTS_AT_ONCE):
            x = byte_range(data, at + k, min(n - k, POINTS_AT_ONCE))
            y = byte_range(data, at + n + k, min(n - k, POINTS_AT_ONCE))
            left, right = min(left, x & 255), max(right, x >> 8)
            top, bottom = min(top, y & 255), max(bottom, y >> 8)
        # How much of the drawing a stroke is: half its box's circumference; a dot is something, too.
        extent = right - left + bottom - top + 1
        extents += extent
        field = s * STROKE_FIELDS
        strokes[field + _AT], strokes[field + _N], strokes[field + _KEPT] = at, n, n
        strokes[field + _TWICE_X], strokes[field + _TWICE_Y] = left + right, top + bottom
        strokes[field + _EXTENT] = extent
        box_left, box_right = min(box_left, left), max(box_right, right)
        box_top, box_bottom = min(box_top, top), max(box_bottom, bottom)
        at += 2 * n
    return n_strokes, extents, box_left, box_right, box_top, box_bottom


@inline
def _leave_out(settings, state, strokes, n_strokes, extents):
    """Keep no point of the strokes that are left out."""
    budget = np.float32(extents) * settings.drop_stroke_share
    left = n_strokes
    for s in range(n_strokes):
        extent = np.float32(strokes[s * STROKE_FIELDS + _EXTENT])
        unlucky = _unit(_number(state, _STROKES + s), 0) < settings.drop_stroke_probability
        # One condition, since a branch for each is mispredicted more often.
        if unlucky & (extent <= budget) & (left > 1):
            budget -= extent
            left -= 1
            strokes[s * STROKE_FIELDS + _KEPT] = 0


@inline
def _leave_unfinished(share, strokes, n_strokes):
    """Keep fewer points of the last strokes, or none, as if their author had stopped before the end."""
    points = np.int64(0)
    for s in range(n_strokes):
        points += strokes[s * STROKE_FIELDS + _KEPT]
    room = max(points - np.int64(np.float32(points) * share), np.int64(1))
    first = True
    for s in range(n_strokes):
        n = strokes[s * STROKE_FIELDS + _KEPT]
        if n > 0:
            kept = min(n, room)
            # One point of a longer stroke would be a dot that nobody drew; the first stroke begins all the same.
            if kept < min(n, 2):
                kept = min(n, np.int64(2)) if first else np.int64(0)
            strokes[s * STROKE_FIELDS + _KEPT] = kept
            room = max(room - n, np.int64(0))
            first = False


@inline
def _thin(state, probability, serial, n, xs, ys, to):
    """Take out some of a stroke's n points between its ends. -> how many are left."""
    left, bits = np.int64(0), np.uint64(0)
    limit = np.uint64(probability * np.float32(65536))
    for k in range(n):
        xs[to + left], ys[to + left] = xs[to + k], ys[to + k]
        if k & 3 == 0:
            bits = _number(state, _POINTS + ((serial + k) >> 2))
        gone = (bits & np.uint64(0xFFFF) < limit) & (k > 0) & (k < n - 1)
        bits >>= np.uint64(16)
        left += np.int64(1) - np.int64(gone)
    return left


@_fast_inline
def _range(values, n):
    """The least and the greatest of n values."""
    least, most = values[0], values[0]
    for k in range(n):
        least, most = min(least, values[k]), max(most, values[k])
    return least, most


@inline
def _matrix(settings, shape, flip):
    """Rotation · shear · stretch, mirrored or not, by rows (a, b), (c, d)."""
    angle = _signed(shape, 0, settings.rotate)
    cos, sin = np.cos(angle), np.sin(angle)
    stretch = np.exp(np.float32(0.5) * _signed(shape, 1, settings.aspect_log))
    wide = -stretch if flip else stretch
    high = np.float32(1) / stretch
    shear = _signed(shape, 2, settings.shear)
    return cos * wide, (cos * shear - sin) * high, sin * wide, (sin * shear + cos) * high


@inline
def _write_fitted(strokes, n_kept, xs, ys, n_points, out, to):
    """The strokes that are left onto ``out[to:]``, top-left at 0 and the larger side 255. -> where they end."""
    left_x, right_x = _range(xs, n_points)
    top_y, bottom_y = _range(ys, n_points)
    side = max(right_x - left_x, bottom_y - top_y)
    fit = np.float32(255) / side if side > _ONE_PLACE else np.float32(0)
    _put_u16(out, to, n_kept)
    to += 2
    first = np.int64(0)
    for s in range(n_kept):
        n = strokes[s * STROKE_FIELDS + _KEPT]
        _put_u16(out, to, n)
        # From the end, since the last vector of x runs over into y.
        for k in range((n - 1) // POINTS_AT_ONCE * POINTS_AT_ONCE, -1, -POINTS_AT_ONCE):
            _fit16(xs, first + k, left_x, fit, out, to + 2 + k)
            _fit16(ys, first + k, top_y, fit, out, to + 2 + n + k)
        to += 2 + 2 * n
        first += n
    return to


@inline
def _augment(settings, state, data, at, strokes, xs, ys, out, to):
    """One drawing onto ``out[to:]``. -> where it ends."""
    half_unit, one = np.float32(0.5), np.float32(1)
    n_strokes, extents, left, right, top, bottom = _measure(data, at, strokes)
    middle_x, middle_y = np.float32(left + right) * half_unit, np.float32(top + bottom) * half_unit
    half = np.float32(max(right - left, bottom - top)) * half_unit

    whole, shape, bits = _number(state, _WHOLE), _number(state, _SHAPE), _number(state, _BEND)
    if settings.drop_stroke_probability > 0:
        _leave_out(settings, state, strokes, n_strokes, extents)
    if _unit(whole, 1) < settings.unfinished_probability:
        _leave_unfinished(settings.unfinished_share * _unit(whole, 2), strokes, n_strokes)

    a, b, c, d = _matrix(settings, shape, _unit(whole, 3) < settings.flip_probability)
    bend = settings.bend / max(half, half_unit)
    bends = (_signed(bits, 0, bend), _signed(bits, 1, bend), _signed(bits, 2, bend), _signed(bits, 3, bend))
    reach = half * settings.stroke_shift

    done, serial, n_kept = np.int64(0), np.int64(0), np.int64(0)
    for s in range(n_strokes):
        field = s * STROKE_FIELDS
        n, total = strokes[field + _KEPT], strokes[field + _N]
        if n > 0:
            at = strokes[field + _AT]
            for k in range(0, n, POINTS_AT_ONCE):
                _widen16(data, at + k, xs, done + k)
                _widen16(data, at + total + k, ys, done + k)
            if settings.drop_point_probability > 0:
                n = _thin(state, settings.drop_point_probability, serial, n, xs, ys, done)
            own = _number(state, _STROKES + s)
            scale = one + _signed(own, 1, settings.stroke_scale)
            # A stroke changes about its own middle, which the drawing's matrix has moved.
            x0 = np.float32(strokes[field + _TWICE_X]) * half_unit
            y0 = np.float32(strokes[field + _TWICE_Y]) * half_unit
            dx, dy = x0 - middle_x, y0 - middle_y
            shift_x = a * dx + b * dy + _signed(own, 2, reach)
            shift_y = c * dx + d * dy + _signed(own, 3, reach)
            m = (a * scale, b * scale, c * scale, d * scale)
            for k in range(done, done + n, POINTS_AT_ONCE):
                _move16(xs, ys, k, x0, y0, m[0], m[1], m[2], m[3], shift_x, shift_y, *bends)
            strokes[n_kept * STROKE_FIELDS + _KEPT] = n  # n_kept <= s: what was there is done with
            n_kept += 1
            done += n
        serial += (total + 3) // 4 * 4
    return _write_fitted(strokes, n_kept, xs, ys, done, out, to)


@jit
def augment_all(settings, stream, buffer, offsets, key_ids, xs, ys, strokes, out, out_offsets):
    """Well-formed drawings 0..N, each followed by SLACK_BYTES readable bytes. ``out_offsets[0]`` is where they go."""
    data, result = pointer(buffer), pointer(out)
    points_x, points_y, measured = pointer(xs), pointer(ys), pointer(strokes)
    to = out_offsets[0]
    for i in range(len(key_ids)):
        at, end = offsets[i], offsets[i + 1]
        state = mix(stream ^ mix(key_ids[i]))
        if _unit(_number(state, _WHOLE), 0) < settings.probability:
            to = _augment(settings, state, data, at, measured, points_x, points_y, result, to)
        else:
            for k in range(end - at):
                result[to + k] = data[at + k]
            to += end - at
        out_offsets[i + 1] = to
