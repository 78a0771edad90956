"""Changed strokes: still a drawing, official in its fit, and a function of (settings, seed, epoch, key_id) only."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from doodle_dist.bench.raster import pack_all
from doodle_dist.config.model import StrokeAugmentConfig
from doodle_dist.data import stroke_augment
from doodle_dist.data.kernels.changes import mix
from doodle_dist.data.raster import rasterize_packed
from doodle_dist.data.split import splitmix64
from doodle_dist.data.stroke_augment import StrokeAugment, augment_packed
from doodle_dist.data.strokes import unpack_strokes

Strokes = list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]

EVERYTHING = StrokeAugment(
    rotate_deg=15,
    aspect_log=0.3,
    shear=0.2,
    bend=0.1,
    stroke_shift=0.05,
    stroke_scale=0.1,
    drop_stroke_probability=0.3,
    drop_stroke_share=0.3,
    drop_point_probability=0.2,
    unfinished_probability=0.5,
    unfinished_share=0.5,
    flip_probability=0.5,
)
# Bytes of 1 to 40 points, x first; an odd one in the middle is both. Points as tuples of integers take Hypothesis
# longer than what is tested with them. Those of one byte are strokes of one place, once or more often.
STROKES = st.one_of(
    st.binary(min_size=1, max_size=80),
    st.binary(min_size=12, max_size=80),
    st.builds(lambda place, times: bytes([place]) * times, st.integers(0, 255), st.integers(1, 8)),
).map(lambda data: (list(data[: (len(data) + 1) // 2]), list(data[len(data) // 2 :])))
DRAWINGS = st.lists(STROKES, min_size=1, max_size=9)
SQUARE = [([0, 255, 255, 0, 0], [0, 0, 255, 255, 0])]


def keys_of(count: int) -> NDArray[np.uint64]:
    return splitmix64(np.arange(count, dtype=np.uint64))


def changed(drawings: list[Any], config: StrokeAugment, seed: int = 0, epoch: int = 0) -> list[Strokes]:
    """Each drawing changed, with a key_id of its own."""
    return unpacked(*augment_packed(*pack_all(drawings), keys_of(len(drawings)), config, seed, epoch))


def unpacked(buffer: NDArray[np.uint8], offsets: NDArray[Any]) -> list[Strokes]:
    """The drawings; each byte of the buffer belongs to one."""
    assert offsets[-1] == len(buffer)
    return [unpack_strokes(buffer[a:b].tobytes()) for a, b in itertools.pairwise(offsets)]


def check_fit(strokes: Strokes, several_places: bool = True) -> None:
    xs, ys = (np.concatenate(axis) for axis in zip(*strokes, strict=True))
    assert (xs.min(), ys.min()) == (0, 0)
    if several_places:
        assert max(xs.max(), ys.max()) == 255


def real_drawings(folder: Path, category: str, count: int) -> list[Any]:
    lines = (folder / "simplified" / f"{category}.ndjson").read_bytes().splitlines()[:count]
    return [[(x, y) for x, y in orjson.loads(line)["drawing"]] for line in lines]


@pytest.mark.parametrize(
    "config",
    [StrokeAugment(), StrokeAugment(probability=0, shear=1), StrokeAugment(unfinished_probability=0)],
)
def test_settings_that_change_nothing_return_the_same_bytes(config: StrokeAugment) -> None:
    buffer, offsets = pack_all([SQUARE, [([7], [9])]])
    same, where = augment_packed(buffer, offsets, keys_of(2), config, 0, 0)
    assert same is buffer
    assert where is offsets


def test_a_share_of_drawings_is_changed_and_the_others_are_the_same_bytes() -> None:
    drawing = [([3, 90, 60], [200, 4, 70]), ([5], [5])]  # not in the official fit
    found = changed([drawing] * 4000, StrokeAugment(probability=0.25, rotate_deg=20))
    as_before = [all(np.array_equal(got, [*was]) for got, was in zip(d, drawing, strict=True)) for d in found]
    assert sum(as_before) / 4000 == pytest.approx(0.75, abs=0.03)
    for strokes, same in zip(found, as_before, strict=True):
        if not same:
            check_fit(strokes)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(DRAWINGS, min_size=1, max_size=5), st.integers(0, 2**63 - 1), st.integers(0, 99))
def test_any_drawing_stays_one(drawings: list[Any], seed: int, epoch: int) -> None:
    buffer, offsets = pack_all(drawings)
    out, where = augment_packed(buffer, offsets, keys_of(len(drawings)), EVERYTHING, seed, epoch)
    for before, after in zip(drawings, unpacked(out, where), strict=True):
        assert 1 <= len(after) <= len(before)
        assert sum(len(x) for x, _ in after) <= sum(len(x) for x, _ in before)
        places = {(x, y) for xs, ys in after for x, y in zip(xs.tolist(), ys.tolist(), strict=True)}
        check_fit(after, several_places=len(places) > 1)
    assert rasterize_packed(out, where).max(axis=(1, 2)).min() > 0


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(st.lists(DRAWINGS, min_size=1, max_size=6), st.randoms(use_true_random=False), st.integers(0, 2**40))
def test_a_drawing_s_changes_don_t_depend_on_its_company(drawings: list[Any], random: Any, seed: int) -> None:
    keys = keys_of(len(drawings))
    together = unpacked(*augment_packed(*pack_all(drawings), keys, EVERYTHING, seed, 3))
    order = list(range(len(drawings)))
    random.shuffle(order)
    order = order[: max(1, len(order) // 2)]
    some = unpacked(
        *augment_packed(*pack_all([drawings[k] for k in order]), keys[order], EVERYTHING, seed, 3)
    )
    for k, strokes in zip(order, some, strict=True):
        assert len(strokes) == len(together[k])
        for got, expected in zip(strokes, together[k], strict=True):
            assert np.array_equal(got, expected)


def test_a_slice_of_an_arrow_column_is_read_from_where_it_starts() -> None:
    drawings = [SQUARE, [([9, 8], [7, 250])], [([0, 255, 30], [0, 10, 90])]] * 5
    buffer, offsets = pack_all(drawings)
    keys = keys_of(15)
    whole = unpacked(*augment_packed(buffer, offsets, keys, EVERYTHING, 1, 2))
    part = unpacked(*augment_packed(buffer, offsets[4:9], keys[4:8], EVERYTHING, 1, 2))
    assert [[a.tolist() for s in d for a in s] for d in part] == [
        [a.tolist() for s in d for a in s] for d in whole[4:8]
    ]
    assert len(augment_packed(buffer, offsets[:1], keys[:0], EVERYTHING, 1, 2)[1]) == 1


def test_seed_epoch_and_key_id_each_matter() -> None:
    drawings = [SQUARE] * 200

    def pictures(seed: int, epoch: int, keys: NDArray[np.uint64]) -> NDArray[np.uint8]:
        return rasterize_packed(*augment_packed(*pack_all(drawings), keys, EVERYTHING, seed, epoch))

    first = pictures(0, 0, keys_of(200))
    for other in (
        pictures(1, 0, keys_of(200)),
        pictures(0, 1, keys_of(200)),
        pictures(0, 0, keys_of(200)[::-1]),
    ):
        assert (first != other).any(axis=(1, 2)).mean() > 0.95
    assert len(np.unique(first.reshape(200, -1), axis=0)) > 190
    assert np.array_equal(first, pictures(0, 0, keys_of(200)))


def test_rotation_is_uniform_within_its_range() -> None:
    found = changed([[([0, 255], [0, 0])]] * 5000, StrokeAugment(rotate_deg=30))
    angles = np.array(
        [math.degrees(math.atan2(float(y[1]) - float(y[0]), float(x[1]) - float(x[0]))) for [(x, y)] in found]
    )
    assert -30.3 < angles.min() < -29.5
    assert 29.5 < angles.max() < 30.3
    shares, _ = np.histogram(angles, bins=6, range=(-30.3, 30.3))
    assert shares / 5000 == pytest.approx(1 / 6, abs=0.03)


def test_a_full_turn_may_go_anywhere_and_a_square_stays_as_large() -> None:
    for [(x, y)] in changed([SQUARE] * 300, StrokeAugment(rotate_deg=180)):
        check_fit([(x, y)])
        corners = np.stack([x, y], 1).astype(float)
        sides = np.linalg.norm(np.diff(corners, axis=0), axis=1)
        assert sides == pytest.approx(sides.mean(), abs=2), "turned and fitted, not stretched"


def test_aspect_and_shear_keep_to_their_ranges() -> None:
    boxes = [
        (int(x.max()), int(y.max())) for [(x, y)] in changed([SQUARE] * 3000, StrokeAugment(aspect_log=0.4))
    ]
    logs = np.log([w / h for w, h in boxes])
    assert np.abs(logs).max() == pytest.approx(0.4, abs=0.01)
    assert logs.mean() == pytest.approx(0, abs=0.02)
    for [(x, y)] in changed([SQUARE] * 300, StrokeAugment(shear=0.5)):
        lean = (float(x[3]) - float(x[0])) / (float(y[3]) - float(y[0]))
        assert abs(lean) <= 0.51
        assert y[0] == y[1]


def test_a_flip_mirrors_left_for_right_and_nothing_else() -> None:
    ell = [([0, 0, 100], [0, 255, 255])]
    found = [
        (x.tolist(), y.tolist()) for [(x, y)] in changed([ell] * 2000, StrokeAugment(flip_probability=0.3))
    ]
    assert {tuple(map(tuple, drawing)) for drawing in found} == {
        ((0, 0, 100), (0, 255, 255)),
        ((100, 100, 0), (0, 255, 255)),
    }
    assert sum(x[0] == 100 for x, _ in found) / 2000 == pytest.approx(0.3, abs=0.04)


def test_strokes_move_by_themselves_within_their_reach() -> None:
    # A frame as large as the drawing, and a small stroke in its middle; what shows is how far apart they went.
    drawing = [SQUARE[0], ([100, 155], [128, 128])]
    moved, lengths = [], []
    for frame, small in changed([drawing] * 2000, StrokeAugment(stroke_shift=0.1, stroke_scale=0.2)):
        width = float(frame[0].max()) - float(frame[0].min())
        middle = float(frame[0].max()) / 2 + float(frame[0].min()) / 2
        moved.append((float(small[0].mean()) - middle) / (width / 2))
        lengths.append((float(small[0][1]) - float(small[0][0])) / width)
    assert 0.15 < np.abs(moved).max() < 0.27  # 0.1 each, apart, in halves of a frame of 0.8 to 1.2 times
    assert min(lengths) == pytest.approx(55 / 255 * 0.8 / 1.2, abs=0.03)
    assert max(lengths) == pytest.approx(55 / 255 * 1.2 / 0.8, abs=0.03)


def test_a_stroke_that_holds_most_of_the_drawing_is_never_left_out() -> None:
    dots = [([40 * k], [250]) for k in range(6)]
    found = changed(
        [[SQUARE[0], *dots]] * 500, StrokeAugment(drop_stroke_probability=1, drop_stroke_share=0.1)
    )
    assert all(len(strokes) == 1 and len(strokes[0][0]) == 5 for strokes in found)
    # By chance about a third, and one of equal strokes always stays.
    lines = [([0, 255], [10 * k, 10 * k]) for k in range(10)]
    found = changed([lines] * 2000, StrokeAugment(drop_stroke_probability=0.3, drop_stroke_share=0.9))
    assert np.mean([len(strokes) for strokes in found]) == pytest.approx(7.0, abs=0.15)
    found = changed([lines] * 50, StrokeAugment(drop_stroke_probability=1, drop_stroke_share=0.9))
    assert {len(strokes) for strokes in found} == {1}


def test_an_unfinished_drawing_lacks_its_end_only() -> None:
    lines = [(list(range(20 * k, 20 * k + 10)), [0] * 10) for k in range(10)]  # 100 points
    config = StrokeAugment(unfinished_probability=0.5, unfinished_share=0.4)
    counts = np.array([sum(len(x) for x, _ in strokes) for strokes in changed([lines] * 4000, config)])
    assert counts.min() == pytest.approx(61, abs=1)
    assert (counts < 100).mean() == pytest.approx(0.5, abs=0.03)
    for strokes in changed([lines] * 50, config):
        assert strokes[0][0][0] == 0, "the beginning is there"
        assert {len(x) for x, _ in strokes[:-1]} <= {10}
        assert len(strokes[-1][0]) >= 2, "no dot that nobody drew"


def test_points_left_out_lie_between_a_stroke_s_ends() -> None:
    line = [(list(range(0, 256, 5)), [0] * 52)]
    found = changed([line] * 1000, StrokeAugment(drop_point_probability=0.2))
    for [(x, _)] in found:
        assert (x[0], x[-1]) == (0, 255)
        assert set(x.tolist()) <= set(line[0][0])
    assert np.mean([len(x) for [(x, _)] in found]) == pytest.approx(2 + 0.8 * 50, abs=0.3)


def test_what_one_change_draws_doesn_t_move_the_others() -> None:
    turned = changed([SQUARE] * 1000, StrokeAugment(rotate_deg=30))
    more = changed([SQUARE] * 1000, StrokeAugment(rotate_deg=30, flip_probability=0.5))
    same = [np.array_equal(a[0], b[0]) for a, b in zip(turned, more, strict=True)]
    assert np.mean(same) == pytest.approx(0.5, abs=0.06), "what isn't mirrored is turned as before"


def test_a_drawing_of_one_place_is_that_place() -> None:
    for drawing in ([([7], [9])], [([7, 7], [9, 9]), ([7], [9])]):
        for strokes in changed([drawing] * 50, EVERYTHING):
            assert all(not x.any() and not y.any() for x, y in strokes)


def test_real_drawings_stay_about_as_inked(shared_data: Path) -> None:
    drawings = [d for name in ("cat", "crayon", "map") for d in real_drawings(shared_data, name, 300)]
    mild = StrokeAugment(
        rotate_deg=12, aspect_log=0.25, shear=0.15, bend=0.1, stroke_shift=0.04, flip_probability=0.5
    )
    buffer, offsets = pack_all(drawings)
    before = rasterize_packed(buffer, offsets)
    after = rasterize_packed(*augment_packed(buffer, offsets, keys_of(len(drawings)), mild, 0, 0))
    assert after.mean() == pytest.approx(before.mean(), rel=0.1)
    assert (after != before).any(axis=(1, 2)).all()


def test_the_numbers_are_splitmix64_s() -> None:
    x = np.array([0, 1, 2**63, 2**64 - 1], np.uint64)
    assert [int(mix(value)) for value in x] == splitmix64(x).tolist()


@pytest.mark.parametrize(
    ("packed", "bad"),
    [
        (b"", 1),
        (b"\x00\x00", 1),
        (b"\x01\x00\x00\x00", 1),
        (b"\x02\x00\x01\x00\x05\x05", 1),
        (b"\xff\xff" * 3, 1),
    ],
)
def test_a_malformed_drawing_is_named(packed: bytes, bad: int) -> None:
    good, _ = pack_all([SQUARE])
    buffer = np.frombuffer(good.tobytes() + packed, np.uint8)
    offsets = np.array([0, len(good), len(buffer)])
    with pytest.raises(ValueError, match=f"drawing {bad} is malformed"):
        augment_packed(buffer, offsets, keys_of(2), EVERYTHING, 0, 0)
    with pytest.raises(ValueError, match="3 key_ids, but offsets of 2 drawings"):
        augment_packed(buffer, offsets, keys_of(3), EVERYTHING, 0, 0)


def test_settings_out_of_range_are_named_alike_by_config_and_data() -> None:
    config = StrokeAugmentConfig.model_fields
    assert set(config) == set(StrokeAugment.__dataclass_fields__)
    assert StrokeAugment(**StrokeAugmentConfig().model_dump()) == StrokeAugment()
    for name in config:
        highest = stroke_augment._HIGHEST.get(name, 1.0)
        StrokeAugmentConfig(**{name: highest})
        StrokeAugment(**{name: highest})
        for value in (-0.01, highest * 1.01):
            with pytest.raises(ValueError, match=name):
                StrokeAugment(**{name: value})
            with pytest.raises(ValueError, match=name):
                StrokeAugmentConfig(**{name: value})
