"""Made-up drawings with the statistics of real ones, as files of the official binary format or as simplified ndjson.

Each is a real drawing of its category, squeezed, sheared and shifted a little as a whole and jittered point by point,
so that strokes, points and bytes are distributed as in the real ones. key_ids are a bijection of the drawing's number,
of 16 digits as the real ones are: no two are the same, and which there are is known without a list.
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
_READ_BYTES = 4 << 20  # of each file, some 9,000 drawings: as many as a category's statistics need
_KEY_BITS = 53
_KEY_MASK = np.uint64((1 << _KEY_BITS) - 1)


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
    chunk = Chunk(uri, 0, min(storage.size(uri), _READ_BYTES), "ndjson")
    batch = next(read_chunk(chunk, Categories((name,))))
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
    """The key_ids of the drawings numbered ``first`` on: uint64 [count] below 2^53.

    Odd factors and shifted exclusive ors are bijections of 53 bits, as in SplitMix64's of 64.
    """
    key = np.arange(first + 1, first + count + 1, dtype=np.uint64)
    for factor, shift in ((0x9E3779B97F4A7C15, 27), (0xBF58476D1CE4E5B9, 31), (0x94D049BB133111EB, 29)):
        key = (key * np.uint64(factor)) & _KEY_MASK
        key ^= key >> np.uint64(shift)
    return key


def write_category(real: RealDrawings, first: int, count: int, file: Path) -> Statistics:
    """Make up drawings ``first`` to ``first + count`` from the real ones and write them; what they are like.

    The file's name says how: ``.bin`` or ``.ndjson``.
    """
    keys = key_ids(first, count)
    picks = (splitmix64(keys) % np.uint64(len(real))).astype(np.int64)
    lengths = np.diff(real.offsets)[picks]
    ends = np.cumsum(lengths + HEADER_BYTES)
    out = np.empty(int(ends[-1]), np.uint8)
    strokes, points = _write(
        real.buffer, real.offsets, real.countries, real.recognized, keys, picks, ends - lengths, out
    )
    written = out.data
    if file.suffix == ".ndjson":
        written = _as_ndjson(out, ends - lengths, real.category, points, strokes)
    partial = file.with_name(f".{file.name}.part")
    partial.write_bytes(written)
    partial.replace(file)
    return Statistics(count, strokes / count, points / count, float(lengths.mean()))


_STAMP = b'","timestamp":"2017-03-01 00:00:00.00000 UTC","recognized":'
_BEFORE_KEY, _BEFORE_DRAWING, _END = b',"key_id":"', b'","drawing":[', b"]}\n"
_LONGEST_KEY = 20


def _as_ndjson(
    records: NDArray[np.uint8], starts: NDArray[np.int64], word: str, points: int, strokes: int
) -> memoryview:
    """Records of the binary format, the strokes of each from ``starts`` on, as lines of simplified ndjson."""
    begin = f'{{"word":"{word}","countrycode":"'.encode()
    parts = [begin, _STAMP, _BEFORE_KEY, _BEFORE_DRAWING, _END]
    each = sum(map(len, parts)) + len("false") + 2 + _LONGEST_KEY
    out = np.empty(len(starts) * each + 8 * points + 8 * strokes, np.uint8)
    texts = [np.frombuffer(part, np.uint8) for part in parts]
    return out.data[: _lines(records, starts, *texts, out)]


@numba.njit(cache=True)
def _put(out, at, text):  # type: ignore[no-untyped-def]
    for k in range(len(text)):
        out[at + k] = text[k]
    return at + len(text)


@numba.njit(cache=True)
def _number(out, at, value):  # type: ignore[no-untyped-def]
    digits, rest = 1, value
    while rest >= np.uint64(10):
        rest //= np.uint64(10)
        digits += 1
    for k in range(digits):
        out[at + digits - 1 - k] = np.uint8(48) + np.uint8(value % np.uint64(10))
        value //= np.uint64(10)
    return at + digits


@numba.njit(cache=True)
def _axis(out, at, data, start, n):  # type: ignore[no-untyped-def]
    out[at] = 91  # [
    at += 1
    for k in range(n):
        at = _number(out, at, np.uint64(data[start + k]))
        out[at] = 44  # ,
        at += 1
    out[at - 1] = 93  # ]
    return at


@numba.njit(cache=True)
def _lines(records, starts, begin, stamp, before_key, before_drawing, end, out):  # type: ignore[no-untyped-def]
    """The lines one after the other into ``out``; their bytes."""
    true, false = np.frombuffer(b"true", np.uint8), np.frombuffer(b"false", np.uint8)
    to = 0
    for start in starts:
        head = start - HEADER_BYTES
        key = np.uint64(0)
        for k in range(8):
            key |= np.uint64(records[head + k]) << np.uint64(8 * k)
        to = _put(out, to, begin)
        out[to], out[to + 1] = records[head + 8], records[head + 9]
        to = _put(out, to + 2, stamp)
        to = _put(out, to, true if records[head + 10] else false)
        to = _number(out, _put(out, to, before_key), key)
        to = _put(out, to, before_drawing)
        at = start + 2
        for _ in range(int(records[start]) + 256 * int(records[start + 1])):
            n = int(records[at]) + 256 * int(records[at + 1])
            out[to] = 91
            to = _axis(out, to + 1, records, at + 2, n)
            out[to] = 44
            to = _axis(out, to + 1, records, at + 2 + n, n)
            out[to], out[to + 1] = 93, 44
            to += 2
            at += 2 + 2 * n
        to = _put(out, to - 1, end)
    return to


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
