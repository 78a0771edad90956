"""Packing and unpacking of strokes: what goes in comes out, and what is no drawing is refused with a reason."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doodle_dist.data.strokes import pack_strokes, unpack_strokes

COORDINATES = st.integers(0, 255)
POINTS = st.lists(st.tuples(COORDINATES, COORDINATES), min_size=1, max_size=40)
DRAWINGS = st.lists(
    POINTS.map(lambda points: [list(axis) for axis in zip(*points, strict=True)]), min_size=1, max_size=9
)


def as_lists(packed: bytes) -> list[list[list[int]]]:
    return [[x.tolist(), y.tolist()] for x, y in unpack_strokes(packed)]


def test_layout() -> None:
    packed = pack_strokes([[[1, 2, 3], [4, 5, 6]], [[7], [255]]])
    assert packed == bytes([2, 0, 3, 0, 1, 2, 3, 4, 5, 6, 1, 0, 7, 255])


@given(DRAWINGS)
def test_unpack_inverts_pack(strokes: list[list[list[int]]]) -> None:
    packed = pack_strokes(strokes)
    assert as_lists(packed) == strokes
    assert len(packed) == 2 + sum(2 + 2 * len(x) for x, _ in strokes)


@given(DRAWINGS)
def test_any_sequence_of_integers_packs_alike(strokes: list[list[list[int]]]) -> None:
    packed = pack_strokes(strokes)
    assert pack_strokes([tuple(map(tuple, stroke)) for stroke in strokes]) == packed
    assert pack_strokes([[np.array(axis, np.uint8) for axis in stroke] for stroke in strokes]) == packed
    assert pack_strokes([[np.array(axis, np.int64) for axis in stroke] for stroke in strokes]) == packed


def test_longest_stroke() -> None:
    ramp = [k % 256 for k in range(65_535)]
    assert as_lists(pack_strokes([[ramp, ramp]])) == [[ramp, ramp]]


@pytest.mark.parametrize(
    ("strokes", "reason"),
    [
        ([], "empty drawing"),
        ((), "empty drawing"),
        ([[[], []]], "empty stroke"),
        ([[[1, 2, 3, 4, 5], [1, 2, 3, 4]]], r"x and y differ in length \(5 and 4\)"),
        ([[[1], [300]]], r"coordinate 300 outside 0\.\.255"),
        ([[[-1], [3]]], r"coordinate -1 outside 0\.\.255"),
        ([[[10**30], [3]]], r"outside 0\.\.255"),
        ([[["1"], [3]]], "coordinate is not a number"),
        ([[[None], [3]]], "coordinate is not a number"),
        ([[[True], [3]]], "coordinate is not a number"),
        ([[[5, False], [3, 4]]], "coordinate is not a number"),
        ([[[np.True_], [3]]], "coordinate is not a number"),
        ([[[[1]], [3]]], "coordinate is not a number"),
        ([[[12.0], [3]]], r"coordinate 12\.0 is not an integer"),
        ([[[float("nan")], [3]]], "is not an integer"),
        ([[np.array([1.5]), np.array([3.0])]], r"coordinate 1\.5 is not an integer"),
        ([[1, 2]], "x or y is not a list"),
        ([["ab", "cd"]], "x or y is not a list"),
        ([[b"ab", b"cd"]], "x or y is not a list"),
        ([[np.array(3), np.array(4)]], "x or y is not a list"),
        ([[[1]]], "a stroke has 1 sequences"),
        ([[[1], [2], [3]]], "a stroke has 3 sequences"),
        ([5], "a stroke is not a pair"),
        ([None], "a stroke is not a pair"),
        (["ab"], "a stroke is not a pair"),
        ([{"x": [1], "y": [2]}], "a stroke is not a pair"),
        (None, "strokes are not a list"),
        (7, "strokes are not a list"),
        ("ab", "strokes are not a list"),
        ({"ab": 1}, "strokes are not a list"),
        ([[[0] * 65_536, [0] * 65_536]], "65536 points in a stroke"),
        ([[[0], [0]]] * 65_536, "65536 strokes"),
    ],
)
def test_what_is_no_drawing_is_refused(strokes: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        pack_strokes(strokes)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=12)
)
def test_any_json_packs_or_is_refused(value: Any) -> None:
    try:
        packed = pack_strokes(value)
    except ValueError:
        return
    assert as_lists(packed) == value


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (b"", "shorter than its header"),
        (b"\x01", "shorter than its header"),
        (b"\x00\x00", "empty drawing"),
        (b"\x01\x00", "ends inside stroke 0"),
        (b"\x01\x00\x01\x00\x05", "ends inside stroke 0"),
        (b"\x01\x00\x00\x00", "empty stroke"),
        (b"\x02\x00\x01\x00\x05\x05", "ends inside stroke 1"),
        (b"\x01\x00\x01\x00\x05\x05\x00", "1 bytes after its last stroke"),
    ],
)
def test_unpack_refuses_lengths_that_dont_add_up(packed: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        unpack_strokes(packed)
