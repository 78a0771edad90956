"""A block of simplified ndjson parsed in one compiled pass: about five times as fast as orjson and a loop.

The pass only accepts lines that are beyond doubt: one JSON object with each of the fields of a Quick, Draw!
record once, plain ASCII strings without escapes, a drawing of x and y of equal length in 0..255. Every other
line, good or bad, is left to the slow parser, which knows all of JSON and can say what is wrong. So what is
accepted here means the same to both, and speed costs no checks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.core import types
from numpy.typing import NDArray

from doodle_dist.data.kernels.jit import compiled

_WORD, _COUNTRY, _RECOGNIZED, _KEY_ID, _DRAWING = 1, 2, 4, 8, 16
_ALL = 31
_MAX_NAMES = 512  # different words or country codes in one block that are looked up here
_SLOTS = 4 * _MAX_NAMES
_SHORTEST = 64  # a line with all of _ALL has 79 bytes or more
_LEFT = 64  # so many lines to be left are reckoned with at first

_QUOTE, _COMMA, _COLON, _OPEN, _CLOSE, _NEWLINE = 34, 44, 58, 91, 93, 10
_NAME_WORD = np.frombuffer(b"word", np.uint8)
_NAME_COUNTRY = np.frombuffer(b"countrycode", np.uint8)
_NAME_RECOGNIZED = np.frombuffer(b"recognized", np.uint8)
_NAME_KEY_ID = np.frombuffer(b"key_id", np.uint8)
_NAME_DRAWING = np.frombuffer(b"drawing", np.uint8)
_TRUE = np.frombuffer(b"true", np.uint8)
_FALSE = np.frombuffer(b"false", np.uint8)


class Scan(NamedTuple):
    """What ``scan_lines`` found. Row i is the line ``line[i]`` of the block, counted from 0.

    ``packed[offsets[i]:offsets[i + 1]]`` are its strokes; ``word[i]`` and ``country[i]`` index ``words`` and
    ``countries``. ``left`` are [line, start, end) of the lines that were left, blank ones excepted.
    """

    line: NDArray[np.uint32]
    key_id: NDArray[np.uint64]
    recognized: NDArray[np.bool_]
    word: NDArray[np.int16]
    country: NDArray[np.int16]
    offsets: NDArray[np.int32]
    packed: NDArray[np.uint8]
    words: list[str]
    countries: list[str]
    left: NDArray[np.int64]
    lines: int


def scan_lines(data: bytes) -> Scan:
    """Parse the lines of ``data``; the last one may lack its newline."""
    columns, offsets, packed, words, countries, left, lines = _scan(np.frombuffer(data, np.uint8))
    return Scan(
        columns["line"],
        columns["key_id"],
        columns["recognized"],
        columns["word"],
        columns["country"],
        offsets,
        packed,
        [data[start:end].decode("ascii") for start, end in words],
        [data[start:end].decode("ascii") for start, end in countries],
        left,
        lines,
    )


@compiled
def _skip_spaces(data, at, end):  # type: ignore[no-untyped-def]
    while at < end and (data[at] == 32 or data[at] == 9 or data[at] == 13):
        at += 1
    return at


@compiled
def _string_end(data, at, end):  # type: ignore[no-untyped-def]
    """Where the string whose first character is at ``at`` ends; -1 for one with an escape or beyond ASCII."""
    while at < end:
        byte = data[at]
        if byte == _QUOTE:
            return at
        if byte < 32 or byte > 126 or byte == 92:
            return -1
        at += 1
    return -1


@compiled
def _is(data, at, end, name):  # type: ignore[no-untyped-def]
    """Whether data[at:end] starts with ``name``."""
    if at + len(name) > end:
        return False
    for i in range(len(name)):  # noqa: SIM110 (all() of a generator does not compile)
        if data[at + i] != name[i]:
            return False
    return True


@compiled
def _plain_axis(data, at, end, out, to):  # type: ignore[no-untyped-def]
    """As `_axis`, of numbers with nothing between them but a comma; -1 for others, right or wrong, too.

    A number's digits are taken without asking how many there are, which no processor foresees, and what would be wrong
    with them is asked once, at the end. Unsigned, since Python's negative indices are otherwise looked for.
    """
    one, two, zero = np.uint64(1), np.uint64(2), np.uint32(48)
    here, last, place = np.uint64(at), np.uint64(end), np.uint64(to)
    wrong = np.uint32(0)
    if here >= last or data[here] != _OPEN:
        return -1, 0
    here += one
    while here + np.uint64(3) < last:
        first = np.uint32(data[here]) - zero
        second = np.uint32(data[here + one]) - zero
        third = np.uint32(data[here + two]) - zero
        has_second = np.uint32(second <= 9)
        has_third = has_second & np.uint32(third <= 9)
        value = first + has_second * (np.uint32(9) * first + second)
        value += has_third * (np.uint32(9) * value + third)
        wrong |= np.uint32(first > 9) | np.uint32(value > 255) | (has_second & np.uint32(first == 0))
        out[place] = value
        place += one
        here += one + np.uint64(has_second + has_third)
        byte = data[here]
        here += one
        if byte != _COMMA:
            if wrong or byte != _CLOSE:
                return -1, 0
            return np.int64(here), np.int64(place) - to
    return -1, 0


@compiled
def _axis(data, at, end, out, to):  # type: ignore[no-untyped-def]
    """Parse ``[0,255,…]`` at ``at`` into out[to:]. (byte after it, numbers), -1 if it is anything else."""
    after, count = _plain_axis(data, at, end, out, to)
    if after >= 0:
        return after, count
    if at >= end or data[at] != _OPEN:
        return -1, 0
    at += 1
    count = 0
    while True:
        at = _skip_spaces(data, at, end)
        if at >= end:
            return -1, 0
        digit = data[at] - np.uint8(48)  # wraps around for what lies below "0"
        if digit > 9:
            return -1, 0
        value = np.int64(digit)
        at += 1
        first = value
        digits = 1
        while at < end:
            digit = data[at] - np.uint8(48)
            if digit > 9:
                break
            value = value * 10 + digit
            digits += 1
            at += 1
            if digits > 3:
                return -1, 0
        if value > 255 or (digits > 1 and first == 0) or to + count >= len(out):
            return -1, 0
        out[to + count] = value
        count += 1
        at = _skip_spaces(data, at, end)
        if at >= end:
            return -1, 0
        byte = data[at]
        at += 1
        if byte == _CLOSE:
            return at, count
        if byte != _COMMA:
            return -1, 0


@compiled
def _drawing(data, at, end, out, to):  # type: ignore[no-untyped-def]
    """Parse and pack a drawing at ``at`` into out[to:]. (byte after it, end of the packed one), -1 if bad."""
    if at >= end or data[at] != _OPEN:
        return -1, to
    at = _skip_spaces(data, at + 1, end)
    strokes = 0
    begin = to
    to += 2
    while True:
        if at >= end or data[at] != _OPEN or to + 2 > len(out):
            return -1, to
        at, n = _axis(data, _skip_spaces(data, at + 1, end), end, out, to + 2)
        if at < 0 or n > 65_535:
            return -1, to
        at = _skip_spaces(data, at, end)
        if at >= end or data[at] != _COMMA:
            return -1, to
        at, m = _axis(data, _skip_spaces(data, at + 1, end), end, out, to + 2 + n)
        if at < 0 or m != n:
            return -1, to
        out[to] = n & 255
        out[to + 1] = n >> 8
        to += 2 + 2 * n
        strokes += 1
        at = _skip_spaces(data, at, end)
        if at >= end or data[at] != _CLOSE:
            return -1, to
        at = _skip_spaces(data, at + 1, end)
        if at >= end:
            return -1, to
        byte = data[at]
        at = _skip_spaces(data, at + 1, end)
        if byte == _CLOSE:
            break
        if byte != _COMMA:
            return -1, to
    if strokes > 65_535:
        return -1, to
    out[begin] = strokes & 255
    out[begin + 1] = strokes >> 8
    return at, to


@compiled
def _key_id(data, at, end):  # type: ignore[no-untyped-def]
    """Parse a key_id, quoted or not, of at most 19 digits (so it fits). (byte after it, value), -1 if bad."""
    quoted = data[at] == _QUOTE
    if quoted:
        at += 1
    begin = at
    value = np.uint64(0)
    while at < end and data[at] >= 48 and data[at] <= 57:
        value = value * np.uint64(10) + np.uint64(data[at] - 48)
        at += 1
    digits = at - begin
    if digits == 0 or digits > 19:
        return -1, value
    if quoted:
        if at >= end or data[at] != _QUOTE:
            return -1, value
        return at + 1, value
    if digits > 1 and data[begin] == 48:
        return -1, value
    return at, value


@compiled
def _intern(data, start, end, slots, spans, count):  # type: ignore[no-untyped-def]
    """The index of data[start:end] among the ``count`` different names so far. (-1 if full, new count)"""
    code = np.uint64(14695981039346656037)  # FNV-1a
    for i in range(start, end):
        code = (code ^ np.uint64(data[i])) * np.uint64(1099511628211)
    slot = np.int64(code % np.uint64(_SLOTS))
    while slots[slot] >= 0:
        index = slots[slot]
        a = spans[index, 0]
        if spans[index, 1] - a == end - start:
            same = True
            for i in range(end - start):
                if data[a + i] != data[start + i]:
                    same = False
                    break
            if same:
                return index, count
        slot = (slot + 1) % _SLOTS
    if count >= _MAX_NAMES:
        return -1, count
    slots[slot] = count
    spans[count, 0], spans[count, 1] = start, end
    return count, count + 1


@compiled
def _line(data, at, end, out, to):  # type: ignore[no-untyped-def]
    """Parse the line data[at:end].

    (whether it is beyond doubt, key_id, recognized, start and end of word and country, end of the packed)
    """
    key, recognized, word_a, word_b, country_a, country_b = np.uint64(0), False, 0, 0, 0, 0
    bad = (False, key, recognized, word_a, word_b, country_a, country_b, to)
    at = _skip_spaces(data, at, end)
    if at >= end or data[at] != 123:
        return bad
    at = _skip_spaces(data, at + 1, end)
    seen = 0
    while True:
        if at >= end or data[at] != _QUOTE:
            return bad
        name = at + 1
        name_end = _string_end(data, name, end)
        if name_end < 0:
            return bad
        at = _skip_spaces(data, name_end + 1, end)
        if at >= end or data[at] != _COLON:
            return bad
        at = _skip_spaces(data, at + 1, end)
        if at >= end:
            return bad
        length = name_end - name
        field = 0
        if length == 7 and _is(data, name, end, _NAME_DRAWING):
            field = _DRAWING
            at, to = _drawing(data, at, end, out, to)
            if at < 0:
                return bad
        elif length == 6 and _is(data, name, end, _NAME_KEY_ID):
            field = _KEY_ID
            at, key = _key_id(data, at, end)
            if at < 0:
                return bad
        elif length == 10 and _is(data, name, end, _NAME_RECOGNIZED):
            field = _RECOGNIZED
            if _is(data, at, end, _TRUE):
                recognized = True
                at += 4
            elif _is(data, at, end, _FALSE):
                recognized = False
                at += 5
            else:
                return bad
        else:
            if data[at] != _QUOTE:
                return bad
            value = at + 1
            value_end = _string_end(data, value, end)
            if value_end < 0:
                return bad
            at = value_end + 1
            if length == 4 and _is(data, name, end, _NAME_WORD):
                field = _WORD
                word_a, word_b = value, value_end
            elif length == 11 and _is(data, name, end, _NAME_COUNTRY):
                field = _COUNTRY
                country_a, country_b = value, value_end
        if seen & field:
            return bad
        seen |= field
        at = _skip_spaces(data, at, end)
        if at >= end:
            return bad
        byte = data[at]
        at = _skip_spaces(data, at + 1, end)
        if byte == 125:
            break
        if byte != _COMMA:
            return bad
    if seen != _ALL or at != end:
        return bad
    return True, key, recognized, word_a, word_b, country_a, country_b, to


_COLUMNS = np.dtype(
    [
        ("key_id", np.uint64),
        ("line", np.uint32),
        ("word", np.int16),
        ("country", np.int16),
        ("recognized", np.bool_),
    ],
    align=True,
)


# C's own, which looks at 32 bytes at once: (address, byte, bytes) -> address of the first such byte, or 0.
_memchr: Any = types.ExternalFunction("memchr", types.uintp(types.uintp, types.int32, types.uintp))


@compiled
def _line_end(data, at):  # type: ignore[no-untyped-def]
    """Where the line that begins at ``at`` ends: its newline, or the end of ``data``."""
    begin = np.uint64(data.ctypes.data)
    found = _memchr(begin + np.uint64(at), np.int32(_NEWLINE), np.uint64(len(data) - at))
    return np.int64(found - begin) if found else len(data)


@compiled
def _scan(data):  # type: ignore[no-untyped-def]
    size = len(data)
    most_rows = size // _SHORTEST + 1
    rows = np.empty(most_rows, _COLUMNS)
    offsets = np.empty(most_rows + 1, np.int32)
    offsets[0] = 0
    left = np.empty((_LEFT, 3), np.int64)
    packed = np.empty(size // 2 + 16, np.uint8)  # a number takes two characters or more, packed one byte
    word_slots, words = np.full(_SLOTS, -1, np.int64), np.empty((_MAX_NAMES, 2), np.int64)
    country_slots, countries = np.full(_SLOTS, -1, np.int64), np.empty((_MAX_NAMES, 2), np.int64)
    n, n_left, n_words, n_countries, to, at, number = 0, 0, 0, 0, 0, 0, 0
    while at < size:
        end = _line_end(data, at)
        fine, key, recognized, word_a, word_b, country_a, country_b, packed_end = _line(
            data, at, end, packed, to
        )
        if fine:
            word, n_words = _intern(data, word_a, word_b, word_slots, words, n_words)
            country, n_countries = _intern(data, country_a, country_b, country_slots, countries, n_countries)
            fine = word >= 0 and country >= 0
        if fine:
            row = rows[n]
            row.key_id, row.line, row.recognized = key, number, recognized
            row.word, row.country = word, country
            n += 1
            to = packed_end
            offsets[n] = to
        elif _skip_spaces(data, at, end) < end:
            if n_left == len(left):
                left = np.concatenate((left, np.empty_like(left)))
            left[n_left, 0], left[n_left, 1], left[n_left, 2] = number, at, end
            n_left += 1
        at = end + 1
        number += 1
    return (
        rows[:n],
        offsets[: n + 1],
        packed[:to],
        words[:n_words],
        countries[:n_countries],
        left[:n_left],
        number,
    )
