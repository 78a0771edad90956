"""What the compiled readers of a line take themselves: whatever they refuse the next, slower one reads as well."""

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from doodle_dist.data import scan
from doodle_dist.data.strokes import pack_strokes

AFTER = b"],[1,2]]}"  # of a line, behind a list of numbers: the fastest way looks ahead


def read(way: object, text: bytes) -> tuple[int, list[int]]:
    """(byte after the list, its numbers); -1 where it is refused."""
    data: NDArray[np.uint8] = np.frombuffer(text, np.uint8)
    out = np.full(len(text) + 8, 255, np.uint8)
    after, count = way(data, 0, len(data), out, 3)  # type: ignore[operator]
    assert (out[:3] == 255).all()
    return int(after), out[3 : 3 + count].tolist()


@given(st.lists(st.integers(0, 255), min_size=1, max_size=40))
def test_plain_numbers_are_taken_by_the_fastest_way(numbers: list[int]) -> None:
    text = b"[" + b",".join(b"%d" % n for n in numbers)
    for way in (scan._plain_axis, scan._axis):
        assert read(way, text + AFTER) == (len(text) + 1, numbers)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=20))
def test_spaces_are_the_slower_ways(numbers: list[int]) -> None:
    text = b"[ " + b" , ".join(b"%d" % n for n in numbers) + b" "
    assert read(scan._plain_axis, text + AFTER)[0] == -1
    assert read(scan._axis, text + AFTER) == (len(text) + 1, numbers)


NO_COORDINATE = ["256", "300", "999", "1000", "01", "00", "-1", "1.5", "1,,2", ",1", "1,", "a", "7x", "1e1"]


@pytest.mark.parametrize("text", ["", *NO_COORDINATE])
def test_what_is_no_coordinate_is_refused_by_either(text: str) -> None:
    for before in (b"", b"255,0,"):
        for way in (scan._plain_axis, scan._axis):
            assert read(way, b"[" + before + text.encode() + AFTER)[0] == -1


def test_a_list_that_does_not_end_is_refused() -> None:
    whole = b"[10,200,30" + AFTER
    for way in (scan._plain_axis, scan._axis):
        assert [read(way, whole[:end])[0] for end in range(11)] == [-1] * 11


KEY_IDS = {"0": 0, "7": 7, "19": 19, "1234567890123456789": 1234567890123456789, '"0012"': 12, '"31"': 31}
NO_KEY_IDS = ["01", "00", "007", '""', '"1', "1.0", "-1"]


@pytest.mark.parametrize("key_id", [*KEY_IDS, *NO_KEY_IDS])
def test_key_ids_are_whole_numbers_without_zeros_before_them_or_quoted(key_id: str) -> None:
    line = (
        f'{{"word":"cat","countrycode":"DE","recognized":true,"key_id":{key_id},"drawing":[[[1,2],[3,4]]]}}'
    )
    taken = KEY_IDS.get(key_id)
    found = scan.scan_lines(line.encode() + b"\n")
    assert found.key_id.tolist() == ([] if taken is None else [taken])
    assert len(found.left) == (taken is None)


@pytest.mark.parametrize(("strokes", "points"), [(1, 1), (1, 300), (300, 2), (257, 257)])
def test_many_strokes_and_many_points_are_packed(strokes: int, points: int) -> None:
    drawing = [[[k % 256 for k in range(points)], [s % 256] * points] for s in range(strokes)]
    line = orjson.dumps(
        {
            "word": "cat",
            "countrycode": "DE",
            "timestamp": "2017",
            "recognized": True,
            "key_id": "1",
            "drawing": drawing,
        }
    )
    found = scan.scan_lines(line + b"\n")
    assert (found.lines, len(found.line), len(found.left)) == (1, 1, 0)
    assert found.packed[: found.offsets[1]].tobytes() == pack_strokes([(x, y) for x, y in drawing])


def test_a_line_is_refused_where_there_is_no_room_for_its_numbers() -> None:
    data = np.frombuffer(b"[1, 2, 3]", np.uint8)
    assert scan._axis(data, 0, len(data), np.zeros(3, np.uint8), 0) == (9, 3)
    assert scan._axis(data, 0, len(data), np.zeros(2, np.uint8), 0)[0] == -1
