"""Packed drawings (see strokes.py) as kernels read them: checked once, then without bounds.

Kernels read bytes 16 at a time and so beyond a drawing's end: what they are given is followed by SLACK_BYTES that may
be read.
"""

# Numba infers the kernels' types, and its arithmetic is not Python's: mypy checks only what is annotated here.
# mypy: allow-untyped-defs, no-check-untyped-defs

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]  # Numba's own dependency

from doodle_dist.data.kernels.jit import inline, jit
from doodle_dist.data.kernels.llvm import BYTES, I8, I64, INT, call, const, llvm, load, splat

SLACK_BYTES = 16


def check_packed(buffer: npt.NDArray[np.uint8], offsets: npt.NDArray[np.integer]) -> None:
    """Raise ValueError where these aren't packed drawings, naming the first that is malformed."""
    if buffer.dtype != np.uint8 or buffer.ndim != 1:
        raise ValueError(f"buffer must be uint8[bytes], not {buffer.dtype}{list(buffer.shape)}")
    if offsets.ndim != 1 or len(offsets) == 0 or offsets.dtype.kind not in "iu":
        raise ValueError(f"offsets must be integers [N + 1], not {offsets.dtype}{list(offsets.shape)}")
    bad = first_malformed(read_only(buffer, np.uint8), read_only(offsets, np.int64))
    if bad >= 0:
        extent = offsets[bad + 1] - offsets[bad]
        raise ValueError(f"drawing {bad} is malformed: its lengths don't add up to its {extent} bytes")


def read_only(array: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    view = np.ascontiguousarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view


def in_readable_parts(
    buffer: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]
) -> Iterator[tuple[slice, npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
    """Checked drawings in two parts, each followed by SLACK_BYTES: most where they lie, the last ones in a copy.

    -> which drawings, their buffer, their offsets.
    """
    direct = int(np.searchsorted(offsets[1:], len(buffer) - SLACK_BYTES, side="right"))
    yield slice(0, direct), buffer, offsets[: direct + 1]
    rest = offsets[direct:]
    copy = np.zeros(int(rest[-1] - rest[0]) + SLACK_BYTES, np.uint8)
    copy[:-SLACK_BYTES] = buffer[rest[0] : rest[-1]]
    yield slice(direct, None), read_only(copy, np.uint8), read_only(rest - rest[0], np.int64)


@jit
def first_malformed(buffer, offsets):
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


@inline
def u16(data, at):
    return np.int64(data[at]) | (np.int64(data[at + 1]) << 8)


@llvm(INT, BYTES, INT, INT)
def byte_range(b, data, at, count):
    """The smallest of count <= 16 bytes and, times 256, the largest. Reads 16 bytes."""
    vector = ir.VectorType(I8, 16)
    values = load(b, data, at, vector)
    counted = b.icmp_unsigned("<", const(vector, *range(16)), splat(b, count, vector))
    least = call(b, "llvm.vector.reduce.umin.v16i8", I8, b.select(counted, values, const(vector, -1)))
    most = call(b, "llvm.vector.reduce.umax.v16i8", I8, b.select(counted, values, const(vector, 0)))
    return b.or_(b.zext(least, I64), b.shl(b.zext(most, I64), ir.Constant(I64, 8)))
