"""Made-up drawings in the official simplified ndjson format, as many as wanted.

Each drawing is a shaky copy of a prototype (``synthetic_shapes``): turned, stretched and warped as a whole,
each stroke displaced and trembling, some begun at the other end, in another order, retraced or left out; then
simplified exactly like a real one. A few are another thing or a scribble, and marked as not recognised. The
amounts were chosen so that strokes, points and bytes per drawing agree with the real mix.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from doodle_dist.data import locations, storage, storage_errors
from doodle_dist.data.categories import nearest
from doodle_dist.data.kernels.jit import compiled
from doodle_dist.data.simplify import EPSILON, simplify_kernel
from doodle_dist.data.synthetic_pen import Stroke
from doodle_dist.data.synthetic_shapes import DESIGNS, prototypes

PROTOTYPES = 160  # per category
BATCH = 4096  # drawings per compiled call and write
WRONG = 0.055  # share of drawings that are another thing or a scribble
TREMBLE = 0.0078  # how far a hand strays per 9 pixels, in units of half the canvas
FORGET = 0.05  # share of strokes left out
RETRACE = 0.03  # share of strokes drawn twice

# Countries of the drawings in the real files, most frequent first, with rounded shares in percent.
_COUNTRIES = {
    "US": 43.0, "GB": 7.0, "CA": 4.5, "DE": 3.5, "AU": 3.5, "RU": 3.0, "BR": 2.5, "SE": 2.3, "FI": 2.3,
    "CZ": 2.3, "IT": 2.2, "PL": 2.2, "TH": 2.0, "SA": 2.0, "HU": 1.8, "KR": 1.7, "FR": 1.7, "PH": 1.5,
    "IE": 1.3, "ID": 1.2, "IN": 1.1, "JP": 1.0, "VN": 1.0, "NZ": 1.0, "AE": 1.0, "NL": 0.9, "SK": 0.9,
    "RO": 0.8, "NO": 0.8,
}  # fmt: skip
# The official key_ids have 16 digits and lie in this range; 2**51 different ones fit.
_FIRST_KEY_ID = 4_503_599_627_370_496
_KEY_BITS = 51
_DRAWINGS_PER_CATEGORY_BITS = 40


class _Bank(NamedTuple):
    """Prototypes of all categories, and of scribbles last, one after another."""

    points: NDArray[np.float64]  # [points, 2]
    strokes: NDArray[np.int64]  # where each stroke begins, and the end
    drawings: NDArray[np.int64]  # which stroke each prototype begins with, and the end
    categories: NDArray[np.int64]  # which prototype each category begins with, and the end


def synthesize(
    drawings: int,
    categories: int | Sequence[str],
    seed: int,
    to: str,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Write ``<to>/<category>.ndjson`` with ``drawings`` in all, equally many per category (± 1).

    ``categories`` is how many (the first of the designed ones) or which. The same arguments write the same
    bytes. Memory does not depend on ``drawings``. ``progress`` is called with (drawings written, drawings).
    Returns the files' locations. Raises ValueError for more categories than there are, an unknown one, or
    fewer drawings than categories.
    """
    names = _chosen(categories)
    if drawings < len(names):
        raise ValueError(f"drawings is {drawings}, but {len(names)} categories need one each")
    counts = [drawings // len(names) + (i < drawings % len(names)) for i in range(len(names))]
    bank = _bank(names, min(PROTOTYPES, counts[0]), seed)
    written, files = 0, []
    for index, (name, count) in enumerate(zip(names, counts, strict=True)):
        target = locations.join(to, f"{name}.ndjson")
        with _appearing(target) as file:
            for lines, n in _lines(bank, index, name, count, seed):
                file.write(lines)
                written += n
                if progress:
                    progress(written, drawings)
        files.append(target)
    return files


def _chosen(categories: int | Sequence[str]) -> list[str]:
    if isinstance(categories, int):
        if not 1 <= categories <= len(DESIGNS):
            raise ValueError(f"categories is {categories}; 1 to {len(DESIGNS)} are designed")
        return list(DESIGNS)[:categories]
    for name in categories:
        if name not in DESIGNS:
            close = nearest(name, DESIGNS)
            hint = f"; did you mean '{close}'?" if close else ""
            raise ValueError(f"category '{name}' is not among the {len(DESIGNS)} designed ones{hint}")
    if not categories or len(set(categories)) != len(categories):
        raise ValueError("categories must be some, each once")
    return list(categories)


@contextmanager
def _appearing(target: str) -> Iterator[IO[bytes]]:
    """A file to write to, which is at ``target``, whole, once all went well. What a disk or store refuses is about
    ``target``."""
    kind, path = locations.split_uri(target)
    with storage_errors.errors_about(target):
        if kind == "file":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with storage.replacing(Path(path)) as file:
                yield file
        else:
            with tempfile.NamedTemporaryFile(prefix="doodle-dist-synth-") as local:
                yield local
                local.flush()
                storage.put_file(local.name, target)


def _bank(names: Sequence[str], count: int, seed: int) -> _Bank:
    points: list[Stroke] = []
    strokes, drawings, starts = [0], [0], [0]
    for name in [*names, None]:
        for drawing in prototypes(
            name, count, np.random.default_rng([seed & (2**63 - 1), _hash(name or "")])
        ):
            for stroke in drawing:
                points.append(stroke)
                strokes.append(strokes[-1] + len(stroke))
            drawings.append(len(strokes) - 1)
        starts.append(len(drawings) - 1)
    return _Bank(np.concatenate(points), np.array(strokes), np.array(drawings), np.array(starts))


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "little")


def _lines(bank: _Bank, index: int, name: str, count: int, seed: int) -> Iterator[tuple[bytes, int]]:
    """The lines of one category in batches, with how many they are."""
    word = np.frombuffer(f'{{"word":"{name}","countrycode":"'.encode(), np.uint8)
    shares = np.cumsum(list(_COUNTRIES.values()))
    codes = np.frombuffer("".join(_COUNTRIES).encode(), np.uint8).reshape(-1, 2)
    state = np.uint64((_hash(name) * 0x9E3779B97F4A7C15 + seed) % 2**64)
    # A category's key_ids do not depend on which others are asked for; another seed shifts them all.
    first_key = (list(DESIGNS).index(name) << _DRAWINGS_PER_CATEGORY_BITS) + _hash(f"seed {seed}")
    for start in range(0, count, BATCH):
        n = min(BATCH, count - start)
        text = _draw_batch(
            *bank, index, word, shares / shares[-1], codes, state, first_key % 2**_KEY_BITS, start, n
        )
        yield text.tobytes(), n


# --- compiled: random numbers ----------------------------------------------------------------------------


@compiled
def _next(state: NDArray[np.uint64]) -> np.uint64:
    """splitmix64: 64 random bits."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled
def _uniform(state: NDArray[np.uint64]) -> float:
    return float(_next(state) >> np.uint64(11)) * 2.0**-53


@compiled
def _normal(state: NDArray[np.uint64]) -> float:
    """Nearly standard normal: four 16-bit uniforms, which is what trembling needs and ten times as fast."""
    z = _next(state)
    mask = np.uint64(0xFFFF)
    total = (z & mask) + ((z >> np.uint64(16)) & mask) + ((z >> np.uint64(32)) & mask) + (z >> np.uint64(48))
    return (float(total) / 65535.0 - 2.0) * 1.7320508


# --- compiled: one drawing -------------------------------------------------------------------------------


@compiled
def _order(n: int, state: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The order of the strokes: mostly as designed, with a few neighbours exchanged."""
    order = np.arange(n)
    if n > 1 and _uniform(state) < 0.5:
        for _ in range(1 + int(_uniform(state) * 3)):
            i = int(_uniform(state) * (n - 1))
            order[i], order[i + 1] = order[i + 1], order[i]
    return order


@compiled
def _shaky_copy(points, strokes, first, last, state):
    """(x, y, points per stroke) of a copy of the prototype with strokes ``first`` to ``last``."""
    n = last - first
    most = 2 * (strokes[last] - strokes[first]) + 4 * n
    x, y, counts = np.empty(most), np.empty(most), np.zeros(2 * n, np.int64)
    turn, shear = 0.07 * _normal(state), 0.07 * _normal(state)
    stretch = np.exp(0.13 * _normal(state))
    cos_turn, sin_turn = np.cos(turn), np.sin(turn)
    warp = 0.05 * np.abs(_normal(state))
    wave_x, wave_y = 1.5 + 2.0 * _uniform(state), 1.5 + 2.0 * _uniform(state)
    phase_x, phase_y = 6.28 * _uniform(state), 6.28 * _uniform(state)
    hand = TREMBLE * np.exp(0.45 * _normal(state))  # how unsteady this hand is
    at, made = 0, 0
    for s in _order(n, state):
        luck = _uniform(state)
        if n >= 4 and luck < FORGET and made > 0:
            continue
        times = 2 if luck > 1.0 - RETRACE else 1
        a, b = strokes[first + s], strokes[first + s + 1]
        for _ in range(times):
            backwards = _uniform(state) < 0.2
            trim_a = int(_uniform(state) * 2.5) if b - a > 12 else 0
            shift_x, shift_y = 0.03 * _normal(state), 0.03 * _normal(state)
            size, tilt = 1.0 + 0.05 * _normal(state), 0.04 * _normal(state)
            center_x, center_y = points[a:b, 0].mean(), points[a:b, 1].mean()
            drift_x = drift_y = 0.0
            begin = at
            for k in range(trim_a, b - a):
                i = b - 1 - k if backwards else a + k
                px, py = points[i, 0] - center_x, points[i, 1] - center_y
                px, py = (
                    (px - tilt * py) * size + center_x + shift_x,
                    (py + tilt * px) * size + center_y + shift_y,
                )
                px, py = px + warp * np.sin(wave_y * py + phase_x), py + warp * np.sin(wave_x * px + phase_y)
                drift_x = 0.75 * drift_x + hand * _normal(state)
                drift_y = 0.75 * drift_y + hand * _normal(state)
                px, py = (px + shear * py) * stretch + drift_x, py / stretch + drift_y
                x[at], y[at] = px * cos_turn - py * sin_turn, px * sin_turn + py * cos_turn
                at += 1
            counts[made] = at - begin
            made += 1
    return x[:at], y[:at], counts[:made]


# --- compiled: text --------------------------------------------------------------------------------------


@compiled
def _put(out: NDArray[np.uint8], at: int, text: NDArray[np.uint8]) -> int:
    for i in range(len(text)):
        out[at + i] = text[i]
    return at + len(text)


@compiled
def _put_number(out: NDArray[np.uint8], at: int, value: int, digits: int) -> int:
    """``value`` with at least ``digits`` digits."""
    size, rest = 1, value
    while rest >= 10:
        rest //= 10
        size += 1
    size = max(size, digits)
    for i in range(size - 1, -1, -1):
        out[at + i] = 48 + value % 10
        value //= 10
    return at + size


_TIMESTAMP = np.frombuffer(b'","timestamp":"2017-0', np.uint8)
_RECOGNIZED = np.frombuffer(b' UTC","recognized":', np.uint8)
_KEY = np.frombuffer(b',"key_id":"', np.uint8)
_DRAWING = np.frombuffer(b'","drawing":', np.uint8)
_TRUE = np.frombuffer(b"true", np.uint8)
_FALSE = np.frombuffer(b"false", np.uint8)
_MONTHS = np.array([31, 28, 31])


@compiled
def _put_time(out: NDArray[np.uint8], at: int, state: NDArray[np.uint64]) -> int:
    """A time in January to March 2017, like "3-02 23:25:10.07453" (the "2017-0" stands before it)."""
    day, month = int(_uniform(state) * 90), 0
    while day >= _MONTHS[month]:
        day -= _MONTHS[month]
        month += 1
    at = _put_number(out, at, month + 1, 1)
    out[at] = 45
    at = _put_number(out, at + 1, day + 1, 2)
    for mark, limit in ((32, 24), (58, 60), (58, 60)):
        out[at] = mark
        at = _put_number(out, at + 1, int(_uniform(state) * limit), 2)
    out[at] = 46
    return _put_number(out, at + 1, int(_uniform(state) * 100_000), 5)


@compiled
def _put_strokes(out: NDArray[np.uint8], at: int, packed: NDArray[np.uint8]) -> int:
    """A packed drawing as JSON, [[[x, …], [y, …]], …]."""
    n_strokes = int(packed[0]) + 256 * int(packed[1])
    read = 2
    out[at] = 91
    at += 1
    for s in range(n_strokes):
        n = int(packed[read]) + 256 * int(packed[read + 1])
        read += 2
        if s:
            out[at] = 44
            at += 1
        out[at] = 91
        at += 1
        for axis in range(2):
            if axis:
                out[at] = 44
                at += 1
            out[at] = 91
            at += 1
            for i in range(n):
                if i:
                    out[at] = 44
                    at += 1
                at = _put_number(out, at, int(packed[read + i]), 1)
            read += n
            out[at] = 93
            at += 1
        out[at] = 93
        at += 1
    out[at] = 93
    return at + 1


@compiled
def _key_id(number: int) -> int:
    """A bijection of 0 … 2**51 - 1 into the official range, so that no two drawings share a key_id."""
    mask = np.uint64((1 << _KEY_BITS) - 1)
    z = np.uint64(number) & mask
    z = (z * np.uint64(0x5851F42D4C957F2D)) & mask
    z ^= z >> np.uint64(26)
    z = (z * np.uint64(0x14057B7EF767814F)) & mask
    z ^= z >> np.uint64(25)
    return int(z) + _FIRST_KEY_ID


@compiled
def _draw_batch(
    points, strokes, drawings, categories, index, word, shares, codes, seed, first_key, start, count
):
    """The lines of drawings ``start`` to ``start + count`` of a category, as text."""
    n_categories = len(categories) - 2  # the last one are the scribbles
    out = np.empty(count * 1200 + 200_000, np.uint8)
    state = np.zeros(1, np.uint64)
    at = 0
    for number in range(start, start + count):
        state[0] = seed + np.uint64(number) * np.uint64(0xD1342543DE82EF95)
        _next(state)
        of, right = index, _uniform(state) >= WRONG
        if not right:
            of = n_categories
            if n_categories > 1 and _uniform(state) < 0.5:
                of = (index + 1 + int(_uniform(state) * (n_categories - 1))) % n_categories
        begin, end = categories[of], categories[of + 1]
        chosen = begin + int(_uniform(state) * (end - begin))
        x, y, counts = _shaky_copy(points, strokes, drawings[chosen], drawings[chosen + 1], state)
        packed = simplify_kernel(x, y, counts, EPSILON)
        if at + 4 * len(packed) + 400 + 12 * len(counts) + len(word) > len(out):
            longer = np.empty(2 * len(out), np.uint8)
            longer[:at] = out[:at]
            out = longer
        at = _put(out, at, word)
        luck = _uniform(state)
        country = 0
        while country < len(shares) - 1 and luck > shares[country]:
            country += 1
        at = _put(out, at, codes[country])
        at = _put(out, at, _TIMESTAMP)
        at = _put_time(out, at, state)
        at = _put(out, at, _RECOGNIZED)
        at = _put(out, at, _TRUE if right else _FALSE)
        at = _put(out, at, _KEY)
        at = _put_number(out, at, _key_id(first_key + number), 16)
        at = _put(out, at, _DRAWING)
        at = _put_strokes(out, at, packed)
        out[at] = 125
        out[at + 1] = 10
        at += 2
    return out[:at]
