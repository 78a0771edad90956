"""The official binary format: round trips, and files that are cut or damaged."""

import gzip
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doodle_dist.data import binary
from doodle_dist.data.categories import Categories
from doodle_dist.data.records import Batch, Chunk, Source
from doodle_dist.data.strokes import pack_strokes

CATEGORIES = Categories(("bat", "cat"), others=frozenset({"dog"}))
STROKES = [[[0, 10, 255], [0, 128, 7]], [[3], [4]]]


def record(key_id: int = 7, country: bytes = b"US", recognized: int = 1, strokes: Any = STROKES) -> bytes:
    """One drawing as Google's files have it (struct formats Q, 2s, b, I, then the strokes)."""
    return struct.pack("<Q2sbI", key_id, country, recognized, 1_488_497_110) + pack_strokes(strokes)


def read(path: Path, data: bytes) -> list[Batch]:
    path.write_bytes(data)
    (chunk,) = binary.plan_chunks(Source(str(path), len(data), "binary"), 10)
    return list(binary.read_chunk(chunk, CATEGORIES))


def joined(batches: list[Batch]) -> tuple[list[Any], list[Any], int]:
    found: list[Any] = []
    for b in batches:
        columns = (b.line.tolist(), b.key_id.tolist(), b.label.tolist(), b.countrycode.to_pylist())
        found += zip(*columns, b.recognized.tolist(), b.strokes.to_pylist(), strict=True)
    return found, [r for b in batches for r in b.rejects], sum(b.lines_read for b in batches)


@pytest.mark.parametrize("name", ["cat.bin", "full_binary_cat.bin", "cat.bin.gz"])
def test_records_are_read(tmp_path: Path, name: str) -> None:
    data = record(2**63 + 5) + record(8, b"\0\0", 0)
    rows, rejects, lines = joined(read(tmp_path / name, gzip.compress(data) if name.endswith("gz") else data))
    packed = pack_strokes(STROKES)
    assert rows == [(0, 2**63 + 5, 1, "US", True, packed), (1, 8, 1, "", False, packed)]
    assert (rejects, lines) == ([], 2)


@pytest.mark.parametrize("cut", [1, 3, 20, 24, 25, 30])
def test_a_cut_file_names_the_byte(tmp_path: Path, cut: int) -> None:
    data = record(1) + record(2) + record(3)
    rows, rejects, lines = joined(read(tmp_path / "cat.bin", data[:-cut]))
    assert [row[1] for row in rows] == ([1, 2] if cut < len(record()) else [1])
    at = len(record()) * len(rows)
    assert rejects == [(len(rows), f"the file ends inside the record at byte {at}")]
    assert lines == len(rows) + 1


def test_bad_records_between_good_ones(tmp_path: Path) -> None:
    empty = struct.pack("<Q2sbIH", 2, b"US", 1, 0, 0)
    empty_stroke = struct.pack("<Q2sbIHH", 3, b"US", 1, 0, 1, 0)
    data = record(1) + empty + empty_stroke + record(4, recognized=5) + record(5, b"\xff\xff") + record(6)
    rows, rejects, lines = joined(read(tmp_path / "cat.bin", data))
    assert [row[1] for row in rows] == [1, 6]
    assert [row[0] for row in rows] == [0, 5]
    assert [tuple(r) for r in rejects] == [
        (1, "empty drawing"),
        (2, "empty stroke"),
        (3, "recognized is not 0 or 1"),
        (4, "countrycode is not two letters"),
    ]
    assert lines == 6


def test_cut_gzip(tmp_path: Path) -> None:
    data = gzip.compress(b"".join(record(i * 7919**3 % 2**60) for i in range(2000)))
    rows, rejects, lines = joined(read(tmp_path / "cat.bin.gz", data[: len(data) // 2]))
    assert 100 < len(rows) < 2000
    assert [tuple(r) for r in rejects] == [(len(rows), "the gzip file is cut off here")]
    assert lines == len(rows) + 1


def test_empty_file_and_other_categories(tmp_path: Path) -> None:
    assert joined(read(tmp_path / "cat.bin", b"")) == ([], [], 0)
    batches = read(tmp_path / "dog.bin", record() * 3)
    assert sum(b.skipped for b in batches) == 3
    assert sum(map(len, batches)) == 0
    with pytest.raises(ValueError, match=r"kat\.bin: unknown category 'kat'; did you mean 'cat'\?"):
        read(tmp_path / "kat.bin", record())


_STROKE = st.integers(1, 5).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 255), min_size=n, max_size=n)] * 2)
)
_RECORD = st.tuples(
    st.integers(0, 2**64 - 1),
    st.sampled_from(["US", "DE", ""]),
    st.booleans(),
    st.lists(_STROKE, min_size=1, max_size=4),
)


@pytest.mark.slow
@settings(deadline=None)
@given(records=st.lists(_RECORD, max_size=20), block=st.integers(1, 200))
def test_round_trip_in_any_blocks(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any], block: int
) -> None:
    path = tmp_path_factory.mktemp("binary") / "bat.bin"
    path.write_bytes(b"".join(record(k, c.encode().ljust(2, b"\0"), r, s) for k, c, r, s in records))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binary, "BLOCK_BYTES", block)
        rows, rejects, lines = joined(
            list(binary.read_chunk(Chunk(str(path), 0, None, "binary"), CATEGORIES))
        )
    assert rows == [(i, k, 0, c, r, pack_strokes(s)) for i, (k, c, r, s) in enumerate(records)]
    assert (rejects, lines) == ([], len(records))
