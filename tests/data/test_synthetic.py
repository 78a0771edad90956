"""Made-up drawings: official format, the same for the same seed, and statistics like the real ones'."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from doodle_dist.data import ndjson, storage
from doodle_dist.data.categories import OFFICIAL_345, Categories
from doodle_dist.data.records import Batch, Chunk
from doodle_dist.data.strokes import unpack_strokes
from doodle_dist.data.synthetic import WRONG, synthesize
from doodle_dist.data.synthetic_shapes import DESIGNS

pytestmark = pytest.mark.slow  # 7,001 drawings take seconds to make


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """7,001 drawings of all designed categories."""
    to = tmp_path_factory.mktemp("synthetic")
    synthesize(7001, len(DESIGNS), 3, str(to))
    return to


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.iterdir()) for line in path.read_bytes().splitlines()]


def read(path: Path) -> Batch:
    categories = Categories(tuple(sorted(DESIGNS)))
    (batch,) = ndjson.read_chunk(Chunk(str(path), 0, None, "ndjson"), categories)
    return batch


def test_files_and_counts(folder: Path) -> None:
    assert sorted(path.stem for path in folder.iterdir()) == sorted(DESIGNS)
    counts = [len(path.read_bytes().splitlines()) for path in folder.iterdir()]
    assert sum(counts) == 7001
    assert max(counts) - min(counts) == 1
    assert len(DESIGNS) >= 16
    assert set(DESIGNS) <= set(OFFICIAL_345)


def test_every_line_is_an_official_one(folder: Path, shared_data: Path) -> None:
    real = json.loads((shared_data / "simplified" / "cat.ndjson").read_bytes().split(b"\n", 1)[0])
    for record in records(folder):
        assert list(record) == list(real)
        assert {k: type(v) for k, v in record.items()} == {k: type(v) for k, v in real.items()}
        assert len(record["countrycode"]) == 2
        assert len(record["key_id"]) == 16
        assert len(record["timestamp"]) in range(26, 31)


def test_lines_parse_without_rejects(folder: Path) -> None:
    keys: list[int] = []
    for path in sorted(folder.iterdir()):
        batch = read(path)
        assert batch.rejects == []
        assert path.read_bytes().endswith(b"\n")
        keys += batch.key_id.tolist()
        for packed in batch.strokes.to_pylist()[:50]:
            strokes = unpack_strokes(packed)
            x, y = (np.concatenate([stroke[axis] for stroke in strokes]) for axis in (0, 1))
            # As in the official files, an extreme point that lies within epsilon of a line may be gone.
            assert max(x.min(), y.min()) <= 3
            assert max(x.max(), y.max()) >= 252
            assert all(len(stroke[0]) >= 2 for stroke in strokes)
    assert len(set(keys)) == 7001


def test_some_are_wrong_and_say_so(folder: Path) -> None:
    share = np.mean([not record["recognized"] for record in records(folder)])
    assert share == pytest.approx(WRONG, abs=0.012)
    assert 0.05 <= WRONG <= 0.08


@pytest.mark.slow
def test_statistics_are_those_of_the_real_mix(folder: Path, shared_data: Path) -> None:
    @cache
    def figures(path: Path) -> list[tuple[int, int, int]]:
        lines = path.read_bytes().splitlines()
        drawings = [orjson.loads(line)["drawing"] for line in lines]
        return [
            (len(d), sum(len(s[0]) for s in d), len(line) + 1)
            for d, line in zip(drawings, lines, strict=True)
        ]

    def means(paths: list[Path]) -> Any:
        return np.mean([of_one for path in paths for of_one in figures(path)], 0)

    real = means(sorted((shared_data / "simplified").glob("*.ndjson")))
    for k in (10, 12, 16, len(DESIGNS)):  # any number of categories, not all of them together only
        made = means([folder / f"{name}.ndjson" for name in list(DESIGNS)[:k]])
        assert made == pytest.approx(real, rel=0.1), f"strokes, points, bytes of the first {k}"


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        synthesize(90, 3, seed, str(tmp_path / name))
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        assert path.read_bytes() != (tmp_path / "c" / path.name).read_bytes()
    keys = [{record["key_id"] for record in records(tmp_path / name)} for name in ("a", "c")]
    assert not keys[0] & keys[1]


def test_drawings_differ(folder: Path) -> None:
    for path in folder.iterdir():
        strokes = read(path).strokes.to_pylist()
        assert len(set(strokes)) >= 0.98 * len(strokes)


def test_chosen_categories_progress_and_s3(s3_bucket: str) -> None:
    seen: list[tuple[int, int]] = []
    files = synthesize(9001, ["star", "house"], 1, s3_bucket, lambda done, of: seen.append((done, of)))
    assert files == [f"{s3_bucket}/star.ndjson", f"{s3_bucket}/house.ndjson"]
    assert storage.read_bytes(files[0]).count(b"\n") == 4501
    assert seen[-1] == (9001, 9001)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len(seen) == 4


def test_wrong_requests(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"categories is 400; 1 to {len(DESIGNS)} are designed"):
        synthesize(1000, 400, 0, str(tmp_path))
    with pytest.raises(ValueError, match="drawings is 2, but 5 categories need one each"):
        synthesize(2, 5, 0, str(tmp_path))
    with pytest.raises(ValueError, match=r"category 'hose' is not among the .* did you mean 'house'"):
        synthesize(10, ["cat", "hose"], 0, str(tmp_path))
    with pytest.raises(ValueError, match="each once"):
        synthesize(10, ["cat", "cat"], 0, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_file_is_not_left_behind(tmp_path: Path) -> None:
    def stop(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(10, 1, 0, str(tmp_path), stop)
    assert list(tmp_path.iterdir()) == []
