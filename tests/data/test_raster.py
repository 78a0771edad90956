"""The rasteriser: known areas, invariances, Google's own bitmaps, and buffers that are no drawings."""

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from doodle_dist.bench.raster import official_pairs, pack_all, raster_error
from doodle_dist.bench.rasterisers import cairo_raster
from doodle_dist.data.raster import rasterize, rasterize_packed
from doodle_dist.data.strokes import pack_strokes, unpack_strokes

SCALE = 28 / 304  # pixels per coordinate at side 28
RADIUS = 8 * SCALE

COORDINATES = st.integers(0, 255)
POINTS = st.lists(st.tuples(COORDINATES, COORDINATES), min_size=1, max_size=40)
STROKE = POINTS.map(lambda points: tuple(list(axis) for axis in zip(*points, strict=True)))
DRAWINGS = st.lists(STROKE, min_size=1, max_size=6)


def ink(picture: NDArray[np.uint8]) -> float:
    """The inked area, in pixels."""
    return float(picture.sum()) / 255


def random_drawing(rng: np.random.Generator, smooth: bool) -> list[tuple[list[int], list[int]]]:
    strokes = []
    for _ in range(rng.integers(1, 6)):
        n = int(rng.choice([1, 2, 3, 7, 16, 17, 40, 150]))
        walk = np.cumsum(rng.integers(-12, 13, (2, n)), axis=1) + 128
        x, y = np.clip(walk, 0, 255) if smooth else rng.integers(0, 256, (2, n))
        strokes.append((x.tolist(), y.tolist()))
    return strokes


# ---- known areas


@pytest.mark.parametrize(
    ("x", "y", "tolerance"),
    [
        ((20, 220), (50, 50), 0.04),  # level: its height is a whole number of fifteenths
        ((90, 90), (7, 250), 0.01),
        ((0, 255), (0, 255), 0.01),
        ((3, 180), (200, 111), 0.01),
        ((3, 5), (200, 11), 0.01),
    ],
)
def test_a_band_has_the_area_of_its_rectangle_and_its_caps(
    x: tuple[int, int], y: tuple[int, int], tolerance: float
) -> None:
    length = math.dist((x[0], y[0]), (x[1], y[1])) * SCALE
    twelve_gon = 3 * RADIUS**2
    assert ink(rasterize([(x, y)])) == pytest.approx(2 * RADIUS * length + twelve_gon, rel=tolerance)


def test_inside_a_level_band_a_column_holds_exactly_its_width() -> None:
    columns = rasterize([([0, 255], [100, 100])]).sum(axis=0) / 255
    assert columns[4:24] == pytest.approx(2 * RADIUS, abs=1 / 15)


def test_a_lone_point_is_a_dot() -> None:
    dot = rasterize([([77], [31])])
    assert np.array_equal(dot, rasterize([([77, 77, 77], [31, 31, 31])]))
    assert ink(dot) == pytest.approx(3 * RADIUS**2, rel=0.03)  # cairo's pen has 12 vertices at this size
    middles = np.arange(28) + 0.5
    centre = np.average(middles, weights=dot.sum(axis=0)), np.average(middles, weights=dot.sum(axis=1))
    # Centred by the maximum alone, a lone point lies halfway between where it was and the far corner.
    assert centre == pytest.approx((((256 + 77) / 2 + 24) * SCALE, ((256 + 31) / 2 + 24) * SCALE), abs=0.03)
    large = rasterize([([77], [31])], side=512)
    assert ink(large) == pytest.approx(math.pi * (8 * 512 / 304) ** 2, rel=0.01)


def test_overlapping_segments_of_one_stroke_are_inked_once() -> None:
    once = rasterize([([10, 200], [10, 90])])
    assert np.array_equal(rasterize([([10, 200, 10, 200], [10, 90, 10, 90])]), once)


def test_strokes_are_composited_over_each_other() -> None:
    a, b = ([0, 200], [0, 200]), ([0, 200], [200, 0])  # the same extent, so centred alike
    first, second = rasterize([a]).astype(int), rasterize([b]).astype(int)
    rest = first * (255 - second) + 127
    expected = second + ((rest + (rest >> 8)) >> 8)
    both = rasterize([a, b])
    assert np.array_equal(both, expected)
    assert np.abs(both - (255 - (255 - first) * (255 - second) / 255)).max() <= 1
    assert ink(rasterize([a, a])) > ink(rasterize([a])) + 0.5  # grey edges darken, unlike within a stroke


# ---- invariances


@settings(max_examples=50)
@given(DRAWINGS)
def test_moving_a_drawing_moves_its_picture(strokes: list) -> None:
    small = [([v * 2 // 5 for v in x], [v * 2 // 5 for v in y]) for x, y in strokes]  # 0..102
    moved = [([v + 152 for v in x], y) for x, y in small]
    lowered = [(x, [v + 152 for v in y]) for x, y in small]
    # Half the way, as the recipe centres by the maximum alone: 76 coordinates are 7 pixels.
    assert np.array_equal(rasterize(moved), np.roll(rasterize(small), 7, axis=1))
    assert np.array_equal(rasterize(lowered), np.roll(rasterize(small), 7, axis=0))


@given(DRAWINGS)
def test_a_stroke_has_no_direction(strokes: list) -> None:
    assert np.array_equal(rasterize([(x[::-1], y[::-1]) for x, y in strokes]), rasterize(strokes))


@given(DRAWINGS)
@example([([0, 225, 61, 58], [242, 0, 1, 209])])
def test_a_repeated_point_makes_no_difference(strokes: list) -> None:
    """It adds a pen, which no rounding of a band's edge lets stick out."""
    twice = [([v for v in x for _ in (0, 1)], [v for v in y for _ in (0, 1)]) for x, y in strokes]
    assert np.array_equal(rasterize(twice), rasterize(strokes))


def test_twice_the_side_pools_to_the_same_picture() -> None:
    rng = np.random.default_rng(3)
    for smooth in (True, False):
        strokes = random_drawing(rng, smooth)
        half = rasterize(strokes, side=56).reshape(28, 2, 28, 2).mean(axis=(1, 3))
        whole = rasterize(strokes)
        inked = (whole > 0) | (half > 0)
        assert np.abs(half - whole)[inked].mean() < 8


@settings(max_examples=50)
@given(st.lists(DRAWINGS, min_size=1, max_size=6), st.sampled_from([8, 28, 31, 64]))
def test_a_batch_is_its_drawings(drawings: list, side: int) -> None:
    rasters = rasterize_packed(*pack_all(drawings), side=side)
    assert rasters.shape == (len(drawings), side, side)
    for picture, strokes in zip(rasters, drawings, strict=True):
        assert np.array_equal(picture, rasterize(strokes, side=side))


def test_line_width_and_padding_scale_the_picture() -> None:
    thick = rasterize([([0, 255], [9, 9])], line_width=32)
    assert ink(thick) > 1.5 * ink(rasterize([([0, 255], [9, 9])]))
    edge = rasterize([([0, 255], [0, 255])], padding=0)
    assert edge[0, :2].any()
    assert edge[-1, -2:].any()
    assert not rasterize([([0, 255], [0, 255])])[0].any()
    assert not rasterize([([0, 255], [0, 255])], line_width=1e-6).any()  # thinner than cairo draws at all


# ---- Google's bitmaps and cairo


def test_official_pairs(shared_data: Path) -> None:
    drawings, bitmaps = official_pairs(shared_data)
    assert len(drawings) == 1275
    error = raster_error(rasterize_packed(*pack_all(drawings)), bitmaps)
    assert error.ink_mean < 0.8
    assert error.within_12 > 0.9999
    assert error.most <= 24


@pytest.mark.parametrize("side", [8, 28, 100, 224])
@pytest.mark.parametrize(("line_width", "padding"), [(16, 16), (5, 0), (40, 3)])
def test_cairo_draws_the_same(side: int, line_width: float, padding: float) -> None:
    pytest.importorskip("cairo")
    rng = np.random.default_rng(side)
    drawings = [random_drawing(rng, smooth=bool(k % 2)) for k in range(12)]
    ours = rasterize_packed(*pack_all(drawings), side=side, line_width=line_width, padding=padding)
    theirs = np.stack([cairo_raster(strokes, side, line_width, padding) for strokes in drawings])
    error = raster_error(ours, theirs)
    assert error.ink_mean < 3
    assert error.within_12 > 0.99


# ---- buffers


def test_any_slice_of_an_arrow_column() -> None:
    rng = np.random.default_rng(5)
    buffer, offsets = pack_all([random_drawing(rng, smooth=True) for _ in range(20)])
    whole = rasterize_packed(buffer, offsets)
    for first, last in ((0, 20), (0, 0), (7, 7), (7, 8), (3, 19), (19, 20)):
        for dtype in (np.int32, np.int64):
            part = rasterize_packed(buffer, offsets[first : last + 1].astype(dtype))
            assert np.array_equal(part, whole[first:last])
    rest = rasterize_packed(buffer[offsets[6] :], offsets[6:] - offsets[6])
    assert np.array_equal(rest, whole[6:])


def test_neither_input_is_changed_nor_needs_to_be_writable() -> None:
    buffer, offsets = pack_all([[([1, 200], [3, 4])]])
    strided = np.repeat(buffer, 2)[::2]
    assert np.array_equal(rasterize_packed(strided, offsets), rasterize_packed(buffer, offsets))
    assert not buffer.flags.writeable
    assert offsets.flags.writeable


def test_threads_share_nothing() -> None:
    rng = np.random.default_rng(8)
    batches = [pack_all([random_drawing(rng, smooth=True) for _ in range(60)]) for _ in range(8)]
    alone = [rasterize_packed(*batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            together = pool.map(lambda batch: rasterize_packed(*batch), batches)
            assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\x01",
        b"\x00\x00",  # no stroke
        b"\x01\x00",
        b"\x01\x00\x00\x00",  # an empty stroke
        b"\x01\x00\x02\x00\x05\x05\x05",
        b"\x01\x00\x01\x00\x05\x05\x05",
        b"\x02\x00\x01\x00\x05\x05",
        b"\xff\xff\xff\xff",
        b"\x01\x00\xff\xff" + bytes(100),
    ],
)
@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_malformed_drawing_is_named(packed: bytes, at: int) -> None:
    pieces = [pack_strokes([([1, 2], [3, 4])])] * 3
    pieces.insert(at, packed)
    offsets = np.cumsum([0, *map(len, pieces)])
    with pytest.raises(ValueError, match=f"drawing {at} is malformed"):
        rasterize_packed(np.frombuffer(b"".join(pieces), np.uint8), offsets)


def is_drawing(packed: bytes) -> bool:
    try:
        unpack_strokes(packed)
    except ValueError:
        return False
    return True


@pytest.mark.slow
@settings(max_examples=300)
@given(
    st.lists(st.binary(max_size=30) | DRAWINGS.map(pack_strokes), max_size=4),
    st.lists(st.integers(-5, 120) | st.integers(-(2**62), 2**62), max_size=3),
    st.booleans(),
)
def test_any_bytes_are_drawn_or_refused(pieces: list[bytes], others: list[int], exact: bool) -> None:
    data = b"".join(pieces)
    offsets = list(np.cumsum([0, *map(len, pieces)])) if exact or not others else others
    bounds = list(itertools.pairwise(offsets))
    bad = [i for i, (a, b) in enumerate(bounds) if not (0 <= a <= b <= len(data) and is_drawing(data[a:b]))]
    if bad:
        with pytest.raises(ValueError, match=f"drawing {bad[0]} is malformed"):
            rasterize_packed(np.frombuffer(data, np.uint8), np.array(offsets, np.int64))
    else:
        rasters = rasterize_packed(np.frombuffer(data, np.uint8), np.array(offsets, np.int64))
        assert [bool(picture.any()) for picture in rasters] == [True] * len(bounds)


@pytest.mark.parametrize("side", [9, 17])
def test_a_picture_of_an_odd_side_is_in_memory_with_the_row_after_it(side: int) -> None:
    """The kernel writes two rows at a time: what another thread has there may not be written to."""
    packed = np.frombuffer(pack_strokes([([0, 255, 0], [0, 128, 255])]), np.uint8)
    pictures = rasterize_packed(packed, np.array([0, len(packed)]), side=side)
    assert pictures[0, [0, -1]].any(axis=1).all(), "a drawing as high as can be"
    assert pictures.base is not None
    assert pictures.base.nbytes >= pictures.nbytes + side


def test_wrong_requests_name_the_argument() -> None:
    buffer, offsets = pack_all([[([1], [2])]])
    with pytest.raises(ValueError, match="side = 7: must be 8"):
        rasterize_packed(buffer, offsets, side=7)
    with pytest.raises(ValueError, match="line_width = 0"):
        rasterize_packed(buffer, offsets, line_width=0)
    with pytest.raises(ValueError, match="padding = -1"):
        rasterize_packed(buffer, offsets, padding=-1)
    with pytest.raises(ValueError, match="buffer must be uint8"):
        rasterize_packed(buffer.astype(np.int8), offsets)
    with pytest.raises(ValueError, match="offsets must be integers"):
        rasterize_packed(buffer, offsets.astype(float))
    with pytest.raises(ValueError, match="offsets must be integers"):
        rasterize_packed(buffer, offsets[:0])
    with pytest.raises(ValueError, match="coordinate 256 outside"):
        rasterize([([256], [0])])
