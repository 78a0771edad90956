"""Raw ndjson: our simplification against Google's own, and its properties."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doodle_dist.data import raw
from doodle_dist.data.categories import OFFICIAL_345, Categories
from doodle_dist.data.records import Batch, Chunk, Source
from doodle_dist.data.simplify import simplify_packed
from doodle_dist.data.strokes import pack_strokes, unpack_strokes


def simplified(drawing: Any) -> list[list[list[int]]]:
    return [[x.tolist(), y.tolist()] for x, y in unpack_strokes(simplify_packed(drawing))]


def stroke(*points: tuple[float, float]) -> list[list[float]]:
    return [[p[0] for p in points], [p[1] for p in points], [float(i) for i in range(len(points))]]


def test_every_official_pair_is_identical(shared_data: Path) -> None:
    """The drawings that Google published raw and simplified: all of them, bit for bit."""
    pairs = 0
    for path in sorted((shared_data / "raw").glob("*.ndjson.gz")):
        lines = (shared_data / "simplified" / path.name.removesuffix(".gz")).read_bytes().splitlines()
        official = {int(record["key_id"]): record["drawing"] for record in map(json.loads, lines)}
        for batch in raw.read_chunk(Chunk(str(path), 0, None, "raw"), Categories(OFFICIAL_345)):
            assert batch.rejects == []
            for key, packed in zip(batch.key_id.tolist(), batch.strokes.to_pylist(), strict=True):
                if key in official:
                    assert packed == pack_strokes(official[key]), f"{path.name} {key}"
                    pairs += 1
    assert pairs == 2007


def test_known_cases() -> None:
    # aligned to the corner and scaled by the longer side; straight lines keep their ends
    assert simplified([stroke((10, 20), (20, 20)), stroke((10, 20), (10, 25))]) == [
        [[0, 255], [0, 0]],
        [[0, 0], [0, 128]],  # 127.5, to even
    ]
    # a dot: the last point is added to the resampled first one
    assert simplified([stroke((5, 5))]) == [[[0, 0], [0, 0]]]
    assert simplified([stroke((5, 5), (5, 5), (5, 5))]) == [[[0, 0], [0, 0]]]
    # a corner stays
    assert simplified([stroke((0, 0), (100, 0), (100, 100))]) == [[[0, 255, 255], [0, 0, 255]]]
    # a closed square: the farthest point is taken from the shared end
    assert simplified([stroke((0, 0), (9, 0), (9, 9), (0, 9), (0, 0))]) == [
        [[0, 255, 255, 0, 0], [0, 0, 255, 255, 0]]
    ]


@pytest.mark.parametrize(
    ("drawing", "reason"),
    [
        ([], "empty drawing"),
        ("x", "strokes are not a list"),
        ([[[], [], []]], "empty stroke"),
        ([[[1.0], [1.0, 2.0], [0]]], "differ in length"),
        ([[[1.0]]], "not a list of x, y and time"),
        ([[["a"], [1.0], [0]]], "coordinate is not a number"),
        ([[[None], [1.0], [0]]], "coordinate is not a number"),
        ([[[True], [1.0], [0]]], "coordinate is not a number"),
        ([[[1e300], [1.0], [0]]], "coordinate is too large"),
        ([[[10**400], [1.0], [0]]], "coordinate is too large"),
        ([[[0.0, 1.0] * 30_000, [0.0, 1.0] * 30_000, []]], "too long to be a drawing"),
        ([5], "not a list of x, y and time"),
        ([[1, 2, 3]], "x or y is not a list"),
    ],
)
def test_bad_drawings(drawing: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        simplify_packed(drawing)


def test_bad_lines_are_rejected(tmp_path: Path) -> None:
    record = {"word": "cat", "countrycode": "US", "recognized": True, "timestamp": ""}
    good = json.dumps(record | {"key_id": "1", "drawing": [stroke((0, 0), (3.5, 7.25))]})
    bad = json.dumps(record | {"key_id": "2", "drawing": [[[1.0], [], []]]})
    path = tmp_path / "cat.ndjson.gz"
    path.write_bytes(gzip.compress("\n".join([good, bad, "{", good]).encode()))
    (batch,) = raw.read_chunk(Chunk(str(path), 0, None, "raw"), Categories(("cat",)))
    assert isinstance(batch, Batch)
    assert batch.line.tolist() == [0, 3]
    assert [r.line for r in batch.rejects] == [1, 2]
    assert len(raw.plan_chunks(Source("a.ndjson", 1000, "raw"), 300)) == 4


_POINT = st.tuples(*[st.floats(-1e4, 1e4, width=32)] * 2)


@settings(deadline=None)
@given(st.lists(st.lists(_POINT, min_size=1, max_size=12), min_size=1, max_size=4))
def test_simplified_strokes_keep_their_ends(points: list[list[tuple[float, float]]]) -> None:
    strokes = [(np.array([p[0] for p in s]), np.array([p[1] for p in s])) for s in points]
    out = unpack_strokes(simplify_packed([[x.tolist(), y.tolist()] for x, y in strokes]))
    assert len(out) == len(strokes)
    xs, ys = np.concatenate([x for x, _ in strokes]), np.concatenate([y for _, y in strokes])
    span = max(np.ptp(xs), np.ptp(ys))
    for (x, y), (sx, sy) in zip(strokes, out, strict=True):
        assert len(sx) >= 2
        for end in (0, -1):
            assert abs((x[end] - xs.min()) / (span or 1.0) * 255 - sx[end]) <= 0.501
            assert abs((y[end] - ys.min()) / (span or 1.0) * 255 - sy[end]) <= 0.501
