"""Random changes of packed drawings before they are rasterised: another hand drawing the same thing.

Strokes are turned, sheared, stretched, bent, nudged one by one, left out or left unfinished, and the result is aligned
and scaled as official simplified drawings are (see simplify.py): top-left at 0, the larger side 255. Changing strokes
instead of pixels keeps every line as thick and as sharp as the rasteriser draws it, and costs a sixth of it.

What happens to a drawing is a pure function of (settings, seed, epoch, its key_id): random number k of a drawing is the
k-th of its own counter-based SplitMix64 sequence, so neither ranks nor windows nor the order of drawings matter, and
switching one change on or off leaves the others as they were.
"""

# Numba infers the kernels' types: mypy checks only what is annotated here.
# mypy: allow-untyped-defs, no-check-untyped-defs

from dataclasses import astuple, dataclass, fields
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]  # Numba's own dependency
from numba.core import types
from numpy.typing import NDArray

from doodle_dist.data.raster import (
    _F32,
    _I8,
    _I32,
    SLACK_BYTES,
    _byte_range,
    _bytes,
    _call,
    _first_malformed,
    _inline,
    _int,
    _jit,
    _llvm,
    _load,
    _pointer,
    _read_only,
    _splat,
    _store,
    _u16,
)
from doodle_dist.data.split import splitmix64


@dataclass(frozen=True)
class StrokeAugment:
    """How far drawings are changed; all zero (the default) changes nothing.

    Every change is uniform between minus and plus what is given. Lengths are in halves of the drawing's larger side, so
    0.1 of a drawing of 0..255 is 12.75. Raises ValueError naming the setting, its value and what is allowed.
    """

    probability: float = 1.0  # share of drawings that are changed at all
    rotate_deg: float = 0.0  # either way
    aspect_log: float = 0.0  # |log| of how much wider for its height: 0.2 is 0.82 to 1.22 times
    shear: float = 0.0  # x moves by this share of y
    bend: float = 0.0  # of a smooth warp, quadratic in place, at the drawing's border
    stroke_shift: float = 0.0  # of every stroke by itself, along each axis
    stroke_scale: float = 0.0  # of every stroke by itself about its middle: 0.1 is 0.9 to 1.1 times
    drop_stroke_probability: float = 0.0  # for every stroke, but never the last one left
    drop_stroke_share: float = (
        0.25  # strokes left out have together at most this share of the strokes' extents
    )
    drop_point_probability: float = 0.0  # for every point between a stroke's ends
    unfinished_probability: float = 0.0  # share of drawings whose end is missing
    unfinished_share: float = 0.3  # at most this share of the points is missing then
    flip_probability: float = 0.0  # left for right

    def __post_init__(self) -> None:
        for field, value in zip(fields(self), astuple(self), strict=True):
            highest = _HIGHEST.get(field.name, 1.0)
            if not 0 <= value <= highest:
                raise ValueError(f"{field.name} = {value}: must be 0..{highest:g}")

    @property
    def changes_nothing(self) -> bool:
        """Whether every drawing stays as it is, byte for byte."""
        sizes = [
            self.rotate_deg,
            self.aspect_log,
            self.shear,
            self.bend,
            self.stroke_shift,
            self.stroke_scale,
            self.flip_probability,
            self.drop_stroke_probability * self.drop_stroke_share,
            self.drop_point_probability,
            self.unfinished_probability * self.unfinished_share,
        ]
        return self.probability == 0 or not any(sizes)


# Above these a drawing folds over itself or little of it is left. Config repeats them; a test holds both together.
_HIGHEST = {
    "rotate_deg": 180.0,
    "bend": 0.2,
    "stroke_shift": 0.5,
    "drop_stroke_share": 0.9,
    "unfinished_share": 0.9,
}

_PURPOSE = 4  # split.py's hashes of a key_id have 1, 2 and 3


def augment_packed(
    buffer: NDArray[np.uint8],
    offsets: NDArray[Any],
    key_ids: NDArray[np.uint64],
    config: StrokeAugment,
    seed: int,
    epoch: int,
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Change packed drawings (layout in strokes.py), as they lie in an Arrow binary column.

    Drawing i is ``buffer[offsets[i]:offsets[i + 1]]`` with the key ``key_ids[i]``; offsets [N + 1] may start anywhere.
    -> a new buffer and its int64 offsets [N + 1], or what was given where the config changes nothing. A drawing all of
    whose points left are one place is that place, (0, 0). On one thread, without the GIL.

    Raises ValueError naming the first drawing that is empty or whose lengths don't add up to its extent.
    """
    if len(offsets) != len(key_ids) + 1:
        raise ValueError(f"{len(key_ids)} key_ids, but offsets of {len(offsets) - 1} drawings")
    if config.changes_nothing or not len(key_ids):
        return buffer, offsets
    buffer, offsets = _read_only(buffer, np.uint8), _read_only(offsets, np.int64)
    bad = _first_malformed(buffer, offsets)
    if bad >= 0:
        extent = offsets[bad + 1] - offsets[bad]
        raise ValueError(f"drawing {bad} is malformed: its lengths don't add up to its {extent} bytes")
    out = np.empty(int(offsets[-1] - offsets[0]) + _LANES, np.uint8)
    out_offsets = np.zeros(len(offsets), np.int64)
    _augment_checked(
        _settings(config),
        _stream(seed, epoch),
        buffer,
        offsets,
        _read_only(key_ids, np.uint64),
        out,
        out_offsets,
    )
    return out[: out_offsets[-1]], out_offsets


class _Settings(NamedTuple):
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


def _settings(config: StrokeAugment) -> _Settings:
    values = dict(zip((field.name for field in fields(config)), astuple(config), strict=True))
    values["rotate"] = np.deg2rad(values.pop("rotate_deg"))
    return _Settings(**{name: np.float32(value) for name, value in values.items()})


def _stream(seed: int, epoch: int) -> np.uint64:
    mixed = splitmix64(np.array([_PURPOSE], np.uint64))
    for part in (seed, epoch):
        mixed = splitmix64(mixed ^ np.array([part], np.uint64))
    return np.uint64(mixed[0])


# --- kernels ------------------------------------------------------------------------------------------
# Strokes are short, eight points as a rule: they are changed _LANES points at a time, in one LLVM vector (as raster.py
# does, and why it says), and what is written beyond a stroke's end is overwritten by the next.

_LANES = 16
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

# Which numbers of a drawing's sequence are for what; each is split into four of 16 bits. Strokes have one each, every
# four points share one, far behind.
_WHOLE, _SHAPE, _BEND, _STROKES, _POINTS = 0, 1, 2, 16, 1 << 32

# Fields of a stroke: where its points begin in the buffer, how many there are, how many are kept, twice its middle, its
# extent.
_AT, _N, _KEPT, _TWICE_X, _TWICE_Y, _EXTENT, _FIELDS = range(7)

# Points nearer than this to each other, in coordinates of 0..255, are one place: what is left of rounding.
_ONE_PLACE = np.float32(0.01)


_BYTES = ir.VectorType(_I8, _LANES)
_WHOLES = ir.VectorType(_I32, _LANES)
_REALS = ir.VectorType(_F32, _LANES)
_float32s = types.CPointer(types.float32)  # type: ignore[attr-defined]
_real = types.float32


def _load_reals(b, values, at):
    return b.bitcast(_load(b, values, at, _WHOLES), _REALS)


def _store_reals(b, x, values, at):
    _store(b, b.bitcast(x, _WHOLES), values, at)


@_llvm(types.void, _bytes, _int, _float32s, _int)
def _widen16(b, data, at, values, to):
    """Sixteen bytes to reals."""
    _store_reals(b, b.uitofp(_load(b, data, at, _BYTES), _REALS), values, to)


@_llvm(types.void, _float32s, _float32s, _int, *[_real] * 12)
def _move16(b, xs, ys, at, x0, y0, m00, m01, m10, m11, shift_x, shift_y, bend_0, bend_1, bend_2, bend_3):
    """Sixteen points: (u, v) is the matrix about (x0, y0) and the shift; then the bend's quadratic terms are added."""

    def times(factor, vector):
        return b.fmul(_splat(b, factor, _REALS), vector)

    x = b.fsub(_load_reals(b, xs, at), _splat(b, x0, _REALS))
    y = b.fsub(_load_reals(b, ys, at), _splat(b, y0, _REALS))
    u = b.fadd(b.fadd(times(m00, x), times(m01, y)), _splat(b, shift_x, _REALS))
    v = b.fadd(b.fadd(times(m10, x), times(m11, y)), _splat(b, shift_y, _REALS))
    _store_reals(b, b.fadd(u, b.fmul(v, b.fadd(times(bend_0, v), times(bend_1, u)))), xs, at)
    _store_reals(b, b.fadd(v, b.fmul(u, b.fadd(times(bend_2, u), times(bend_3, v)))), ys, at)


@_llvm(types.void, _float32s, _int, _real, _real, _bytes, _int)
def _fit16(b, values, at, least, scale, out, to):
    """Sixteen reals to bytes: rint((x - least) scale)."""
    x = b.fsub(_load_reals(b, values, at), _splat(b, least, _REALS))
    x = _call(b, "llvm.rint.v16f32", _REALS, b.fmul(x, _splat(b, scale, _REALS)))
    _store(b, b.trunc(b.fptosi(x, _WHOLES), _BYTES), out, to)


# Where the order of operands can't matter, LLVM may take several at a time.
_fast_inline = numba.njit(nogil=True, error_model="numpy", forceinline=True, fastmath={"nnan", "nsz"})


@_inline
def _mix(x):
    """split.splitmix64 of one number."""
    z = x + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@_inline
def _number(state, k):
    """Number k of a drawing's sequence: 64 random bits."""
    return _mix(state + np.uint64(k) * _GOLDEN)


@_inline
def _unit(bits, quarter):
    """A quarter of 64 random bits, uniform in [0, 1): the middles of 65,536 equal parts."""
    part = np.int32((bits >> np.uint64(16 * quarter)) & np.uint64(0xFFFF))
    return (np.float32(part) + np.float32(0.5)) * np.float32(2.0**-16)


@_inline
def _signed(bits, quarter, most):
    return (_unit(bits, quarter) * np.float32(2) - np.float32(1)) * most


@_inline
def _put_u16(data, at, value):
    data[at], data[at + 1] = np.uint8(value & 255), np.uint8(value >> 8)


@_inline
def _measure(data, at, strokes):
    """Fill in ``strokes``. -> (how many, the sum of their extents, the drawing's box)."""
    n_strokes = _u16(data, at)
    at += 2
    extents = np.int64(0)
    box_left, box_right, box_top, box_bottom = np.int64(255), np.int64(0), np.int64(255), np.int64(0)
    for s in range(n_strokes):
        n = _u16(data, at)
        at += 2
        left, right, top, bottom = np.int64(255), np.int64(0), np.int64(255), np.int64(0)
        for k in range(0, n, _LANES):
            x = _byte_range(data, at + k, min(n - k, _LANES))
            y = _byte_range(data, at + n + k, min(n - k, _LANES))
            left, right = min(left, x & 255), max(right, x >> 8)
            top, bottom = min(top, y & 255), max(bottom, y >> 8)
        # How much of the drawing a stroke is: half its box's circumference; a dot is something, too.
        extent = right - left + bottom - top + 1
        extents += extent
        field = s * _FIELDS
        strokes[field + _AT], strokes[field + _N], strokes[field + _KEPT] = at, n, n
        strokes[field + _TWICE_X], strokes[field + _TWICE_Y] = left + right, top + bottom
        strokes[field + _EXTENT] = extent
        box_left, box_right = min(box_left, left), max(box_right, right)
        box_top, box_bottom = min(box_top, top), max(box_bottom, bottom)
        at += 2 * n
    return n_strokes, extents, box_left, box_right, box_top, box_bottom


@_inline
def _leave_out(settings, state, strokes, n_strokes, extents):
    """Keep no point of the strokes that are left out."""
    budget = np.float32(extents) * settings.drop_stroke_share
    left = n_strokes
    for s in range(n_strokes):
        extent = np.float32(strokes[s * _FIELDS + _EXTENT])
        unlucky = _unit(_number(state, _STROKES + s), 0) < settings.drop_stroke_probability
        # One condition, since a branch for each is mispredicted more often.
        if unlucky & (extent <= budget) & (left > 1):
            budget -= extent
            left -= 1
            strokes[s * _FIELDS + _KEPT] = 0


@_inline
def _leave_unfinished(share, strokes, n_strokes):
    """Keep fewer points of the last strokes, or none, as if their author had stopped before the end."""
    points = np.int64(0)
    for s in range(n_strokes):
        points += strokes[s * _FIELDS + _KEPT]
    room = max(points - np.int64(np.float32(points) * share), np.int64(1))
    first = True
    for s in range(n_strokes):
        n = strokes[s * _FIELDS + _KEPT]
        if n > 0:
            kept = min(n, room)
            # One point of a longer stroke would be a dot that nobody drew; the first stroke begins all the same.
            if kept < min(n, 2):
                kept = min(n, np.int64(2)) if first else np.int64(0)
            strokes[s * _FIELDS + _KEPT] = kept
            room = max(room - n, np.int64(0))
            first = False


@_inline
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


@_inline
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

    # Rotation · shear · stretch, by rows (a, b), (c, d).
    angle = _signed(shape, 0, settings.rotate)
    cos, sin = np.cos(angle), np.sin(angle)
    stretch = np.exp(half_unit * _signed(shape, 1, settings.aspect_log))
    wide = -stretch if _unit(whole, 3) < settings.flip_probability else stretch
    high = one / stretch
    shear = _signed(shape, 2, settings.shear)
    a, b = cos * wide, (cos * shear - sin) * high
    c, d = sin * wide, (sin * shear + cos) * high
    bend = settings.bend / max(half, half_unit)
    bends = (_signed(bits, 0, bend), _signed(bits, 1, bend), _signed(bits, 2, bend), _signed(bits, 3, bend))
    reach = half * settings.stroke_shift

    done, serial, n_kept = np.int64(0), np.int64(0), np.int64(0)
    for s in range(n_strokes):
        field = s * _FIELDS
        n, total = strokes[field + _KEPT], strokes[field + _N]
        if n > 0:
            at = strokes[field + _AT]
            for k in range(0, n, _LANES):
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
            for k in range(done, done + n, _LANES):
                _move16(xs, ys, k, x0, y0, m[0], m[1], m[2], m[3], shift_x, shift_y, *bends)
            strokes[n_kept * _FIELDS + _KEPT] = n  # n_kept <= s: what was there is done with
            n_kept += 1
            done += n
        serial += (total + 3) // 4 * 4

    left_x, right_x = _range(xs, done)
    top_y, bottom_y = _range(ys, done)
    side = max(right_x - left_x, bottom_y - top_y)
    fit = np.float32(255) / side if side > _ONE_PLACE else np.float32(0)
    _put_u16(out, to, n_kept)
    to += 2
    first = np.int64(0)
    for s in range(n_kept):
        n = strokes[s * _FIELDS + _KEPT]
        _put_u16(out, to, n)
        # From the end, since the last vector of x runs over into y.
        for k in range((n - 1) // _LANES * _LANES, -1, -_LANES):
            _fit16(xs, first + k, left_x, fit, out, to + 2 + k)
            _fit16(ys, first + k, top_y, fit, out, to + 2 + n + k)
        to += 2 + 2 * n
        first += n
    return to


@_jit
def _augment_all(settings, stream, buffer, offsets, key_ids, xs, ys, strokes, out, out_offsets):
    """Well-formed drawings 0..N, each followed by SLACK_BYTES readable bytes. ``out_offsets[0]`` is where they go."""
    data, result = _pointer(buffer), _pointer(out)
    points_x, points_y, measured = _pointer(xs), _pointer(ys), _pointer(strokes)
    to = out_offsets[0]
    for i in range(len(key_ids)):
        at, end = offsets[i], offsets[i + 1]
        state = _mix(stream ^ _mix(key_ids[i]))
        if _unit(_number(state, _WHOLE), 0) < settings.probability:
            to = _augment(settings, state, data, at, measured, points_x, points_y, result, to)
        else:
            for k in range(end - at):
                result[to + k] = data[at + k]
            to += end - at
        out_offsets[i + 1] = to


def _augment_checked(
    settings: _Settings,
    stream: np.uint64,
    buffer: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    key_ids: NDArray[np.uint64],
    out: NDArray[np.uint8],
    out_offsets: NDArray[np.int64],
) -> None:
    """Allocate what the kernel needs, and let it read only where SLACK_BYTES follow: the last drawings in a copy."""
    longest = int(np.diff(offsets).max())
    xs, ys = np.zeros((2, longest // 2 + 2 * _LANES), np.float32)
    strokes = np.empty(_FIELDS * (longest // 4 + 1), np.int64)
    direct = int(np.searchsorted(offsets[1:], len(buffer) - SLACK_BYTES, side="right"))
    scratch = (xs, ys, strokes, out)
    _augment_all(settings, stream, buffer, offsets[: direct + 1], key_ids[:direct], *scratch, out_offsets)
    rest = offsets[direct:]
    copy = np.zeros(int(rest[-1] - rest[0]) + SLACK_BYTES, np.uint8)
    copy[:-SLACK_BYTES] = buffer[rest[0] : rest[-1]]
    copied = _read_only(copy, np.uint8), _read_only(rest - rest[0], np.int64)
    _augment_all(settings, stream, *copied, key_ids[direct:], *scratch, out_offsets[direct:])
