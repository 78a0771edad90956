"""Made-up drawings with the statistics of real ones, as files of the official binary format.

Each is a real drawing of its category, squeezed, sheared and shifted a little as a whole and jittered point by point,
so that strokes, points and bytes are distributed as in the real ones. key_ids are a bijection of the drawing's number:
no two are the same, and which there are is known without a list.
"""

from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray

from doodle_dist.data import storage
from doodle_dist.data.binary import HEADER_BYTES
from doodle_dist.data.categories import Categories
from doodle_dist.data.ndjson import read_chunk
from doodle_dist.data.records import Chunk, category_of
from doodle_dist.data.schema import binary_buffers
from doodle_dist.data.split import splitmix64

_SQUEEZE, _SHEAR, _JITTER = 0.1, 0.08, 2  # shares of the drawing's size; coordinates of 0..255
_KEYS = np.uint64(0x646F6F646C65)  # where the counting begins, so that key_ids are not those of other numbers


@dataclass(frozen=True)
class RealDrawings:
    """Real drawings of one category: packed strokes as an Arrow binary column holds them, and where they are from."""

    category: str
    buffer: NDArray[np.uint8]
    offsets: NDArray[np.int32]
    countries: NDArray[np.uint8]  # [N, 2]
    recognized: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True)
class Statistics:
    """Means over drawings. ``bytes`` are those of the packed strokes."""

    drawings: int
    strokes: float
    points: float
    bytes: float


def real_drawings(folder: Path, categories: int) -> list[RealDrawings]:
    """The real drawings below ``folder`` (simplified ndjson), of its first ``categories`` by name.

    Raises ValueError where there are fewer.
    """
    files = sorted(file for file in folder.glob("*.ndjson") if file.stat().st_size)
    if len(files) < categories:
        raise ValueError(
            f"--real {folder} has drawings of {len(files)} categories (*.ndjson), and {categories} were asked for"
        )
    return [_real(str(file)) for file in files[:categories]]


def _real(uri: str) -> RealDrawings:
    name = category_of(uri)
    chunk = Chunk(uri, 0, storage.size(uri), "ndjson")
    (batch,) = read_chunk(chunk, Categories((name,)))
    buffer, offsets = binary_buffers(batch.strokes)
    codes = [code if len(code) == 2 else "  " for code in batch.countrycode.to_pylist()]
    return RealDrawings(
        name,
        buffer,
        offsets,
        np.frombuffer("".join(codes).encode(), np.uint8).reshape(-1, 2),
        batch.recognized.astype(np.uint8),
    )


def statistics_of(drawings: list[RealDrawings]) -> Statistics:
    """Means over drawings, every category counting alike, as in what is made up from them."""
    means = [
        np.array([*_count(one.buffer, one.offsets), one.offsets[-1] - one.offsets[0]]) / len(one)
        for one in drawings
    ]
    strokes, points, size = np.mean(means, axis=0)
    return Statistics(sum(map(len, drawings)), float(strokes), float(points), float(size))


def key_ids(first: int, count: int) -> NDArray[np.uint64]:
    """The key_ids of the drawings numbered ``first`` on."""
    return splitmix64(np.arange(first, first + count, dtype=np.uint64) + _KEYS)


def write_category(real: RealDrawings, first: int, count: int, file: Path) -> Statistics:
    """Make up drawings ``first`` to ``first + count`` from the real ones and write them; what they are like."""
    keys = key_ids(first, count)
    picks = (splitmix64(keys) % np.uint64(len(real))).astype(np.int64)
    lengths = np.diff(real.offsets)[picks]
    ends = np.cumsum(lengths + HEADER_BYTES)
    out = np.empty(int(ends[-1]), np.uint8)
    strokes, points = _write(
        real.buffer, real.offsets, real.countries, real.recognized, keys, picks, ends - lengths, out
    )
    partial = file.with_name(f".{file.name}.part")
    partial.write_bytes(out.data)
    partial.replace(file)
    return Statistics(count, strokes / count, points / count, float(lengths.mean()))


@numba.njit(cache=True)
def _count(buffer, offsets):  # type: ignore[no-untyped-def]
    """(strokes, points) of all drawings."""
    strokes, points = 0, 0
    for i in range(len(offsets) - 1):
        at = offsets[i]
        n = int(buffer[at]) + 256 * int(buffer[at + 1])
        strokes += n
        points += (offsets[i + 1] - at - 2 - 2 * n) // 2
    return strokes, points


@numba.njit(cache=True)
def _next(state):  # type: ignore[no-untyped-def]
    # xorshift64 (Marsaglia 2003)
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    return state ^ (state << np.uint64(17))


@numba.njit(cache=True)
def _unit(state):  # type: ignore[no-untyped-def]
    return np.float32(state >> np.uint64(40)) / np.float32(1 << 24)


@numba.njit(cache=True)
def _jitter(state):  # type: ignore[no-untyped-def]
    return np.float32(np.int64((state >> np.uint64(33)) % np.uint64(2 * _JITTER + 1)) - _JITTER)


@numba.njit(cache=True)
def _coordinate(value):  # type: ignore[no-untyped-def]
    return np.uint8(min(max(value + np.float32(0.5), np.float32(0)), np.float32(255)))


@numba.njit(cache=True)
def _write(buffer, offsets, countries, recognized, keys, picks, starts, out):  # type: ignore[no-untyped-def]
    """The records one after the other, the strokes of each from ``starts`` on. (strokes, points) of all."""
    strokes, points = 0, 0
    for i in range(len(keys)):
        key, source, to = keys[i], picks[i], starts[i]
        at = to - HEADER_BYTES
        for k in range(8):
            out[at + k] = np.uint8((key >> np.uint64(8 * k)) & np.uint64(255))
        out[at + 8], out[at + 9] = countries[source, 0], countries[source, 1]
        out[at + 10] = recognized[source]
        for k in range(4):
            out[at + 11 + k] = 0
        state = _next(key | np.uint64(1))
        width = np.float32(1) - np.float32(_SQUEEZE) * _unit(state)
        state = _next(state)
        height = np.float32(1) - np.float32(_SQUEEZE) * _unit(state)
        state = _next(state)
        shear = np.float32(_SHEAR) * (_unit(state) - np.float32(0.5))
        at = offsets[source]
        n_strokes = int(buffer[at]) + 256 * int(buffer[at + 1])
        out[to], out[to + 1] = buffer[at], buffer[at + 1]
        at, to = at + 2, to + 2
        for _ in range(n_strokes):
            n = int(buffer[at]) + 256 * int(buffer[at + 1])
            out[to], out[to + 1] = buffer[at], buffer[at + 1]
            at, to = at + 2, to + 2
            for k in range(n):
                x, y = np.float32(buffer[at + k]), np.float32(buffer[at + n + k])
                state = _next(state)
                out[to + k] = _coordinate(x * width + shear * (y - np.float32(128)) + _jitter(state))
                state = _next(state)
                out[to + n + k] = _coordinate(y * height + _jitter(state))
            at, to = at + 2 * n, to + 2 * n
            points += n
        strokes += n_strokes
    return strokes, points
