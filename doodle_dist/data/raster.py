"""Rasterise Quick, Draw! drawings as Google's own 28x28 bitmaps were made."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
import numpy.typing as npt

from doodle_dist.data.strokes import pack_strokes


def rasterize_packed(
    buffer: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.integer],
    *,
    side: int = 28,
    line_width: float = 16.0,
    padding: float = 16.0,
    out: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8]:
    """Rasterise packed drawings: drawing i lies in ``buffer[offsets[i]:offsets[i + 1]]``. -> uint8[N, side, side]."""
    buffer = np.ascontiguousarray(buffer, dtype=np.uint8)
    offsets = np.ascontiguousarray(offsets, dtype=np.int64)
    n = len(offsets) - 1
    if n < 0:
        raise ValueError("offsets are empty: N drawings have N + 1")
    if out is None:
        out = np.empty((n, side, side), np.uint8)
    elif out.shape != (n, side, side) or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(f"out must be a C-contiguous uint8[{n}, {side}, {side}]")
    bad = _first_malformed(buffer, offsets)
    if bad >= 0:
        raise ValueError(f"drawing {bad} is malformed: its lengths don't add up to its extent")
    _raster_all(buffer, offsets, np.float32(line_width), np.float32(padding), out)
    return out


def rasterize(
    strokes: Sequence[Sequence[Sequence[int]]],
    *,
    side: int = 28,
    line_width: float = 16.0,
    padding: float = 16.0,
) -> npt.NDArray[np.uint8]:
    """Rasterise one drawing, ``[(x, y), ...]`` in 0..255 -> uint8[side, side]."""
    packed = np.frombuffer(pack_strokes(strokes), np.uint8)
    offsets = np.array([0, len(packed)], np.int64)
    return rasterize_packed(packed, offsets, side=side, line_width=line_width, padding=padding)[0]


@numba.njit(nogil=True, cache=True)
def _first_malformed(buffer, offsets):  # type: ignore[no-untyped-def]
    for i in range(len(offsets) - 1):
        at, end = offsets[i], offsets[i + 1]
        if at < 0 or end > len(buffer) or end - at < 2:
            return i
        n_strokes = buffer[at] | (np.int64(buffer[at + 1]) << 8)
        at += 2
        if n_strokes == 0:
            return i
        for _ in range(n_strokes):
            if at + 2 > end:
                return i
            n = buffer[at] | (np.int64(buffer[at + 1]) << 8)
            at += 2 + 2 * n
            if n == 0 or at > end:
                return i
        if at != end:
            return i
    return -1


@numba.njit(nogil=True, cache=True)
def _raster_all(buffer, offsets, line_width, padding, out):  # type: ignore[no-untyped-def]
    side = out.shape[1]
    scale = np.float32(side) / (np.float32(256) + 2 * padding + line_width)
    radius = np.float32(0.5) * line_width * scale
    best = np.empty((side, side), np.float32)
    for i in range(len(offsets) - 1):
        out[i] = 0
        at = offsets[i]
        n_strokes = buffer[at] | (np.int64(buffer[at + 1]) << 8)
        p = at + 2
        max_x = max_y = 0
        for _ in range(n_strokes):
            n = buffer[p] | (np.int64(buffer[p + 1]) << 8)
            p += 2
            for k in range(n):
                max_x = max(max_x, buffer[p + k])
                max_y = max(max_y, buffer[p + n + k])
            p += 2 * n
        margin = np.float32(0.5) * (line_width + 2 * padding)
        ox = margin + np.float32(0.5) * np.float32(256 - max_x)
        oy = margin + np.float32(0.5) * np.float32(256 - max_y)
        p = at + 2
        for _ in range(n_strokes):
            n = buffer[p] | (np.int64(buffer[p + 1]) << 8)
            p += 2
            best[:] = 0
            for k in range(max(n - 1, 1)):
                j = min(k + 1, n - 1)
                _capsule(
                    (buffer[p + k] + ox) * scale,
                    (buffer[p + n + k] + oy) * scale,
                    (buffer[p + j] + ox) * scale,
                    (buffer[p + n + j] + oy) * scale,
                    radius,
                    best,
                )
            for r in range(side):
                for c in range(side):
                    a = np.uint32(best[r, c] * np.float32(255) + np.float32(0.5))
                    out[i, r, c] = a + (np.uint32(out[i, r, c]) * (255 - a) + 127) // 255
            p += 2 * n


@numba.njit(nogil=True, cache=True)
def _capsule(ax, ay, bx, by, radius, best):  # type: ignore[no-untyped-def]
    side = len(best)
    reach = radius + np.float32(1)
    top, bottom = max(0, int(min(ay, by) - reach)), min(side, int(max(ay, by) + reach) + 1)
    left, right = max(0, int(min(ax, bx) - reach)), min(side, int(max(ax, bx) + reach) + 1)
    dx, dy = bx - ax, by - ay
    length2 = dx * dx + dy * dy
    inverse = np.float32(1) / length2 if length2 > 0 else np.float32(0)
    for r in range(top, bottom):
        for c in range(left, right):
            px, py = c + np.float32(0.5) - ax, r + np.float32(0.5) - ay
            t = min(max((px * dx + py * dy) * inverse, np.float32(0)), np.float32(1))
            ex, ey = px - t * dx, py - t * dy
            cover = radius + np.float32(0.5) - np.sqrt(ex * ex + ey * ey)
            best[r, c] = max(best[r, c], min(max(cover, np.float32(0)), np.float32(1)))
