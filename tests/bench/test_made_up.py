"""Made-up drawings: like the real ones, each key_id once, readable by the reader of the official format."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from doodle_dist.bench import made_up
from doodle_dist.bench.full_size import KeySums, Means, check_disk, disk_needed
from doodle_dist.bench.made_up import key_ids, real_drawings, statistics_of, write_category
from doodle_dist.data.binary import read_chunk
from doodle_dist.data.categories import Categories
from doodle_dist.data.records import Chunk
from doodle_dist.data.scan import scan_lines
from doodle_dist.data.schema import binary_buffers
from doodle_dist.data.strokes import unpack_strokes
from tests.conftest import write_drawings


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    write_drawings(folder, {"cat": 40, "dog": 25})
    return folder


def test_they_are_like_the_real_ones_and_no_two_are_the_same(real: Path, tmp_path: Path) -> None:
    (cat, _) = sources = real_drawings(real, 2)
    made = write_category(cat, 7, 4000, tmp_path / "cat.bin")
    (batch, *rest) = read_chunk(Chunk(str(tmp_path / "cat.bin"), 0, None, "binary"), Categories(("cat",)))
    assert sum(map(len, rest)) == 0
    assert not batch.rejects
    assert np.array_equal(batch.key_id, key_ids(7, 4000))
    assert len(np.unique(batch.key_id)) == 4000
    strokes = [unpack_strokes(packed) for packed in batch.strokes.to_pylist()]
    assert made.strokes == pytest.approx(np.mean([len(one) for one in strokes]))
    assert made.points == pytest.approx(np.mean([sum(len(x) for x, _ in one) for one in strokes]))
    assert made.bytes == pytest.approx(np.diff(binary_buffers(batch.strokes)[1]).mean())
    like = statistics_of(sources[:1])
    assert Means.of(made).off(Means.of(like)) < 0.1
    pictures = set(batch.strokes.to_pylist())
    assert len(pictures) > 3900, "jittered, each in its own way"


def test_too_few_categories_are_named(real: Path) -> None:
    with pytest.raises(ValueError, match=r"drawings of 2 categories.*3 were asked for"):
        real_drawings(real, 3)


def test_of_a_long_file_the_first_part_is_read(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (real / "cat.ndjson").read_bytes().splitlines(keepends=True)
    monkeypatch.setattr(made_up, "_READ_BYTES", sum(map(len, lines[:30])))
    cat, dog = real_drawings(real, 2)
    assert (len(cat), len(dog)) == (30, 25)


def test_sums_tell_a_lost_a_doubled_and_a_swapped_drawing() -> None:
    keys = key_ids(0, 1000)
    whole = KeySums().plus(keys)
    assert KeySums().plus(keys[500:]).together(KeySums().plus(keys[:500])) == whole
    assert KeySums().plus(keys[1:]) != whole
    assert KeySums().plus(np.concatenate([keys[1:], keys[1:2]])) != whole
    assert KeySums().plus(np.concatenate([keys[2:], keys[:2] + np.array([1, -1]).astype(np.uint64)])) != whole


def test_disk_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    check_disk(tmp_path, disk_needed(1000, 100))
    with pytest.raises(ValueError, match=r"GB are needed and .* GB are free"):
        check_disk(tmp_path, disk_needed(10**12, 100))


def test_ndjson_holds_the_same_drawings_and_is_read_the_fast_way(real: Path, tmp_path: Path) -> None:
    (cat, _) = real_drawings(real, 2)
    for name in ("cat.bin", "cat.ndjson"):
        write_category(cat, 100, 3000, tmp_path / name)
    (packed, *_) = read_chunk(Chunk(str(tmp_path / "cat.bin"), 0, None, "binary"), Categories(("cat",)))
    data = (tmp_path / "cat.ndjson").read_bytes()
    found = scan_lines(data)
    assert len(found.left) == 0, "every line is beyond doubt"
    assert np.array_equal(found.key_id, packed.key_id)
    assert np.array_equal(found.recognized, packed.recognized)
    assert found.packed.tobytes() == binary_buffers(packed.strokes)[0].tobytes()
    records = [orjson.loads(line) for line in data.splitlines()]
    assert {record["word"] for record in records} == {"cat"}
    assert [record["countrycode"] for record in records] == packed.countrycode.to_pylist()


@pytest.mark.slow
def test_no_two_of_many_key_ids_are_the_same_and_they_look_like_the_real_ones() -> None:
    keys = np.concatenate([key_ids(0, 500_000), key_ids(49_500_000, 500_000)])
    assert len(np.unique(keys)) == 1_000_000
    assert keys.max() < 2**53
    assert np.median(keys) > 2**51
