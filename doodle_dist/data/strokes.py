"""One drawing's strokes, packed and unpacked.

The layout is that of the official binary format's strokes, little-endian: ``n_strokes u16``, then per stroke
``n_points u16``, ``x u8[n_points]``, ``y u8[n_points]``. It is what prepared shards keep and what the rasteriser reads.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_STROKES = 65_535
MAX_POINTS = 65_535

_U16 = struct.Struct("<H")
_pack_u16 = _U16.pack


def pack_strokes(strokes: Sequence[Sequence[Sequence[int]]]) -> bytes:
    """Pack ``[(x, y), ...]`` strokes of integers in 0..255; simplified ndjson's ``drawing`` fits as parsed.

    A stroke may carry more than its x and y (raw drawings carry times): only two sequences are accepted here, so that
    nobody packs raw coordinates by mistake. Raises ValueError with a short reason.
    """
    try:
        parts = [_pack_u16(len(strokes))]
        for x, y in strokes:
            n = len(x)
            if not (n == len(y) and n and type(x) is list and type(y) is list):
                raise TypeError
            parts += _pack_u16(n), _checked_bytes(x), _checked_bytes(y)
        if len(parts) == 1:
            raise TypeError
    except (TypeError, ValueError, struct.error):
        return _pack_slowly(strokes)
    return b"".join(parts)


def _checked_bytes(axis: list[Any]) -> bytes:
    # bytes(list) refuses, at C speed, what isn't an integer in 0..255; all but True and False, which become 1 and 0.
    packed = bytes(axis)
    if (0 in packed or 1 in packed) and bool in map(type, axis):
        raise TypeError
    return packed


def _pack_slowly(strokes: Any) -> bytes:
    """Pack what the fast path doesn't know (tuples, arrays), or say what is wrong with it."""
    if not _is_list(strokes):
        raise ValueError("strokes are not a list")
    if len(strokes) == 0:
        raise ValueError("empty drawing")
    if len(strokes) > MAX_STROKES:
        raise ValueError(f"{len(strokes)} strokes, at most {MAX_STROKES} fit")
    parts = [_pack_u16(len(strokes))]
    for stroke in strokes:
        parts.extend(_pack_stroke(stroke))
    return b"".join(parts)


def _is_list(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview))


def _pack_stroke(stroke: Any) -> tuple[bytes, bytes, bytes]:
    if not _is_list(stroke):
        raise ValueError("a stroke is not a pair of x and y")
    if len(stroke) != 2:
        raise ValueError(f"a stroke has {len(stroke)} sequences, not x and y")
    x, y = (_pack_axis(axis) for axis in stroke)
    if len(x) != len(y):
        raise ValueError(f"x and y differ in length ({len(x)} and {len(y)})")
    if not x:
        raise ValueError("empty stroke")
    if len(x) > MAX_POINTS:
        raise ValueError(f"{len(x)} points in a stroke, at most {MAX_POINTS} fit")
    return _pack_u16(len(x)), x, y


def _pack_axis(axis: Any) -> bytes:
    if not _is_list(axis):
        raise ValueError("x or y is not a list")
    values = axis.tolist() if isinstance(axis, np.ndarray) else list(axis)
    for value in values:
        if isinstance(value, np.integer):
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError("coordinate is not a number")
        if not isinstance(value, int):
            raise ValueError(f"coordinate {value} is not an integer")
    for value in values:
        if not 0 <= value <= 255:
            raise ValueError(f"coordinate {value} outside 0..255")
    return bytes(values)


def unpack_strokes(
    packed: bytes | bytearray | memoryview,
) -> list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
    """The ``(x, y)`` uint8 arrays of each stroke: views of ``packed``. Raises ValueError where lengths don't add up."""
    data = np.frombuffer(packed, np.uint8)
    if len(data) < 2:
        raise ValueError("packed drawing is shorter than its header")
    (n_strokes,) = _U16.unpack_from(packed, 0)
    if n_strokes == 0:
        raise ValueError("empty drawing")
    strokes: list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]] = []
    at = 2
    for _ in range(n_strokes):
        if at + 2 > len(data):
            raise ValueError(f"packed drawing ends inside stroke {len(strokes)}")
        (n,) = _U16.unpack_from(packed, at)
        at += 2
        if n == 0:
            raise ValueError("empty stroke")
        if at + 2 * n > len(data):
            raise ValueError(f"packed drawing ends inside stroke {len(strokes)}")
        strokes.append((data[at : at + n], data[at + n : at + 2 * n]))
        at += 2 * n
    if at != len(data):
        raise ValueError(f"packed drawing has {len(data) - at} bytes after its last stroke")
    return strokes
