"""Sub-rows of pixels as lanes of one vector: what a segment covers, and how it is composited.

A sub-row of a pixel is one int16 whose 16 bits are sub-columns, so that a union is an OR and coverage a bit count.
Each of a pixel's 15 sub-rows has its sub-columns at another offset (a dither), which makes 16 of them as good as 240
for an upright edge, and nearly so for others. The convex hull of a segment's two pens meets a sub-row in one interval,
and 64 sub-rows (more than four pixels, most segments whole) are one LLVM vector: intervals are computed for all of them
at once and ORed into the columns of pixels that the segment crosses. LLVM makes two 512-bit registers of that vector,
or what else the machine has.

Where an interval begins and ends in a column is kept in bytes, since few machines shift lanes each by its own count,
and x86 looks up bytes instead. A lane's two bytes come together only where they are ORed into the canvas.
"""

# Numba infers the kernels' types, and its arithmetic is not Python's: mypy checks only what is annotated here.
# mypy: allow-untyped-defs, no-check-untyped-defs, allow-subclassing-any

from functools import partial

from llvmlite import ir  # type: ignore[import-untyped]  # Numba's own dependency
from numba.core import types
from numba.extending import models, register_model

from doodle_dist.data.kernels.llvm import (
    BYTES,
    I8,
    I16,
    I32,
    I64,
    INT,
    INT16S,
    bytes_looked_up,
    call,
    const,
    llvm,
    load,
    maximum,
    minimum,
    pick,
    splat,
    store,
)
from doodle_dist.data.kernels.recipe import BIAS, LANES, SUBCOLUMNS, SUBROWS

FRONT_LANES = 16  # of the canvas, before its first column: a composite clears two lanes before its rows
FAR_COLUMNS = 15  # columns whose sub-columns a byte tells apart

_LANES_IR, _PLACES_IR = ir.VectorType(I16, LANES), ir.VectorType(I8, LANES)


class _Vector(types.Type):
    """A vector of LLVM's as a value of Numba's."""

    def __init__(self, of: ir.VectorType) -> None:
        super().__init__(name=str(of))
        self.of = of


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: object, fe_type: _Vector) -> None:
        super().__init__(dmm, fe_type, fe_type.of)


_lanes, _places = _Vector(_LANES_IR), _Vector(_PLACES_IR)
_splat = partial(splat, vector=_LANES_IR)
_load = partial(load, vector=_LANES_IR)


def _saturating_sub(b, x, y):
    return call(b, f"llvm.usub.sat.v{LANES}i{x.type.element.width}", x.type, x, y)


@llvm(_lanes, INT16S, INT, INT, INT, INT)
def pens_left(b, pen, at_a, ax, at_b, bx):
    """Where two pens begin in each sub-row: the smaller x."""
    return minimum(b, b.sub(_splat(b, ax), _load(b, pen, at_a)), b.sub(_splat(b, bx), _load(b, pen, at_b)))


@llvm(_lanes, INT16S, INT, INT, INT, INT)
def pens_right(b, pen, at_a, ax, at_b, bx):
    return maximum(b, b.add(_splat(b, ax), _load(b, pen, at_a)), b.add(_splat(b, bx), _load(b, pen, at_b)))


@llvm(_lanes, INT)
def ramp_of(b, step):
    """Lane k: floor(step k / 65536), modulo 2**16 as everything in these lanes."""
    wide = ir.VectorType(I32, LANES)
    k = const(_LANES_IR, *range(LANES))
    whole = b.mul(_splat(b, b.ashr(step, ir.Constant(I64, 16))), k)
    fraction = b.mul(b.zext(_splat(b, step), wide), b.zext(k, wide))
    return b.add(whole, b.trunc(b.lshr(fraction, const(wide, 16)), _LANES_IR))


def _edge(b, ramp, x, first, count, otherwise):
    """``x + ramp`` in the lanes first..first + count, where a band's edge is the outline, else ``otherwise``."""
    k = const(_LANES_IR, *range(LANES))
    inside = b.icmp_unsigned("<", b.sub(k, _splat(b, first)), _splat(b, count))
    return b.select(inside, b.add(_splat(b, x), ramp), otherwise)


@llvm(_lanes, _lanes, INT, INT, INT, _lanes)
def edge_left(b, ramp, x, first, count, pens):
    """Where pens and band begin: by an edge's rounding the pens may stick out."""
    return minimum(b, _edge(b, ramp, x, first, count, pens), pens)


@llvm(_lanes, _lanes, INT, INT, INT, _lanes)
def edge_right(b, ramp, x, first, count, pens):
    return maximum(b, _edge(b, ramp, x, first, count, pens), pens)


@llvm(_lanes, _lanes, INT16S, INT, INT)
def quantize(b, x, dither, at, shift):
    """Units to sub-columns, never below 0."""
    shift = _splat(b, shift)
    x = b.lshr(b.add(x, _load(b, dither, at)), shift)  # dither holds BIAS too
    return _saturating_sub(b, x, b.lshr(const(_LANES_IR, BIAS), shift))


@llvm(_lanes, _lanes)
def far_columns_on(b, x):
    return _saturating_sub(b, x, const(_LANES_IR, FAR_COLUMNS * SUBCOLUMNS))


# The order of sub-rows in bytes: the one in which two registers of 16-bit lanes pack into one of bytes, and unpack.
_REGISTER = bytes_looked_up() or 16
_ORDER = [
    block + half + eight + row
    for block in range(0, LANES, _REGISTER)
    for eight in range(0, _REGISTER // 2, 8)
    for half in (0, _REGISTER // 2)
    for row in range(8)
]


@llvm(_places, _lanes)
def narrow(b, x):
    """Sub-columns as bytes, in `_ORDER`; what is beyond the FAR_COLUMNS first is 255."""
    few = b.select(b.icmp_unsigned("<", x, const(_LANES_IR, 255)), x, const(_LANES_IR, 255))
    few = b.trunc(few, _PLACES_IR)
    return b.shuffle_vector(few, few, pick(*_ORDER))


@llvm(_places, _places)
def next_column(b, x):
    return _saturating_sub(b, x, const(_PLACES_IR, SUBCOLUMNS))


def from_by_shift(b, x):
    """The sub-columns from ``x`` on of a pixel, none from 16 on: its left eight and its right eight, by shifts."""
    halves = []
    for place in (x, _saturating_sub(b, x, const(_PLACES_IR, 8))):
        some = b.icmp_unsigned("<", place, const(_PLACES_IR, 8))
        halves.append(b.select(some, b.shl(const(_PLACES_IR, -1), place), const(_PLACES_IR, 0)))
    return halves


def from_by_table(b, x):
    """The same on x86, which can't shift bytes each by its own count: by look-ups in two tables.

    ``vpshufb`` takes a byte's lower four bits for the place in the table, and gives 0 where its highest is set: so
    112 is added, which does that to 16 and more.
    """
    at = call(b, f"llvm.uadd.sat.v{LANES}i8", _PLACES_IR, x, const(_PLACES_IR, 112))
    masks = [(0xFFFF << k) & 0xFFFF for k in range(SUBCOLUMNS)]
    return [_look_up(b, [mask & 0xFF for mask in masks], at), _look_up(b, [mask >> 8 for mask in masks], at)]


def _look_up(b, table, places):
    """Each place in a table of 16 bytes."""
    name = {32: "llvm.x86.avx2.pshuf.b", 64: "llvm.x86.avx512.pshuf.b.512"}[_REGISTER]
    register = ir.VectorType(I8, _REGISTER)
    found = [
        call(b, name, register, const(register, *table * (_REGISTER // 16)), part)
        for part in _registers(b, places)
    ]
    return found[0] if len(found) == 1 else b.shuffle_vector(*found, pick(*range(LANES)))


def _registers(b, places):
    return [
        b.shuffle_vector(places, places, pick(*range(first, first + _REGISTER)))
        for first in range(0, LANES, _REGISTER)
    ]


_from = from_by_table if bytes_looked_up() else from_by_shift


@llvm(types.void, INT16S, INT, _places, _places)
def cover(b, canvas, at, left, right):
    """OR the sub-columns left..right into one column of pixels."""
    halves = [b.and_(begin, b.not_(end)) for begin, end in zip(_from(b, left), _from(b, right), strict=True)]
    lanes = ir.VectorType(I16, _REGISTER // 2)
    for low, high in zip(*(_registers(b, half) for half in halves), strict=True):
        for first in (0, 8):  # of each sixteen bytes, which is what one instruction interleaves
            order = [k for lane in range(0, _REGISTER, 16) for k in range(lane + first, lane + first + 8)]
            both = pick(*(place for k in order for place in (k, _REGISTER + k)))
            interval = b.bitcast(b.shuffle_vector(low, high, both), lanes)
            store(b, b.or_(load(b, canvas, at, lanes), interval), canvas, at)
            at = b.add(at, ir.Constant(I64, lanes.count))


def _count_row(b, pixels):
    """Eight pixels' bits counted: <8 x i64>, whose quarters hold parts of four pixels' counts in 16 bits each.

    Lane 15 of a pixel is the next pixel row's first and is left out.
    """
    quads = ir.VectorType(I64, 8)
    total = const(quads, 0)
    for j in range(4):
        bits = b.bitcast(b.shuffle_vector(pixels[j], pixels[j + 4], pick(*range(32))), quads)
        bits = b.and_(bits, const(quads, *[-1, -1, -1, (1 << 48) - 1] * 2))
        count = call(b, "llvm.ctpop.v8i64", quads, bits)
        total = b.add(total, b.shl(count, const(quads, 16 * j)))
    return total


@llvm(types.void, INT16S, INT, INT, BYTES, INT, INT)
def composite16(b, canvas, at, pitch, out, to, side):
    """Composite eight columns of two pixel rows over the picture, and clear them on the canvas."""
    pixel, rows, offset = ir.VectorType(I16, 16), ([], []), at
    for _ in range(8):
        for r in (0, 1):
            rows[r].append(load(b, canvas, b.add(offset, ir.Constant(I64, SUBROWS * r)), pixel))
        offset = b.add(offset, pitch)
    upper, lower = (_count_row(b, row) for row in rows)
    for _ in range(8):
        # Two lanes early: a store that reached the next rows would stall the next call's loads from them.
        store(b, const(ir.VectorType(I16, 32), 0), canvas, b.sub(at, ir.Constant(I64, 2)))
        at = b.add(at, pitch)
    pairs = b.add(
        b.shuffle_vector(upper, lower, pick(*range(0, 16, 2))),
        b.shuffle_vector(upper, lower, pick(*range(1, 16, 2))),
    )
    counts = b.add(pairs, b.shuffle_vector(pairs, pairs, pick(1, 0, 3, 2, 5, 4, 7, 6)))
    sixteen = ir.VectorType(I16, 16)
    counts = b.bitcast(b.shuffle_vector(counts, counts, pick(0, 2, 4, 6)), sixteen)
    _blend(b, counts, out, to, b.add(to, side))


def _blend(b, counts, out, upper, lower):
    """OVER, as cairo rounds it: alpha + dst (255 - alpha) / 255, for eight pixels at each address."""
    eight, sixteen = ir.VectorType(I8, 8), counts.type
    # 240 samples are 255: 255/240 = 17/16.
    alpha = b.lshr(b.add(b.mul(counts, const(sixteen, 17)), const(sixteen, 8)), const(sixteen, 4))
    both = b.shuffle_vector(load(b, out, upper, eight), load(b, out, lower, eight), pick(*range(16)))
    rest = b.mul(b.zext(both, sixteen), b.sub(const(sixteen, 255), alpha))
    rest = b.add(rest, const(sixteen, 127))
    rest = b.lshr(b.add(rest, b.lshr(rest, const(sixteen, 8))), const(sixteen, 8))
    result = b.trunc(b.add(alpha, rest), ir.VectorType(I8, 16))
    store(b, b.shuffle_vector(result, result, pick(*range(8))), out, upper)
    store(b, b.shuffle_vector(result, result, pick(*range(8, 16))), out, lower)
