"""Simplified ndjson: every line becomes a drawing or a reject, however a file is divided and parsed."""

import gzip
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doodle_dist.data import blocks, ndjson, scan, storage
from doodle_dist.data.blocks import line_blocks, plan_line_chunks
from doodle_dist.data.categories import Categories
from doodle_dist.data.records import Batch, Chunk, Source
from doodle_dist.data.storage_errors import StorageError
from doodle_dist.data.strokes import pack_strokes, unpack_strokes

CATEGORIES = Categories(("bat", "cat", "dog"), others=frozenset({"owl"}))
DRAWING = [[[0, 10, 255], [0, 128, 7]], [[3], [4]]]


def line(**changes: Any) -> bytes:
    record = {
        "word": "cat",
        "countrycode": "VE",
        "timestamp": "2017-03-02 23:25:10.07453 UTC",
        "recognized": True,
        "key_id": "5201136883597312",
        "drawing": DRAWING,
    } | changes
    return json.dumps({k: v for k, v in record.items() if v is not ...}, separators=(",", ":")).encode()


def rows(batches: Iterable[Batch]) -> list[tuple[Any, ...]]:
    """The drawings as (line, key_id, label, country, recognized, strokes)."""
    return [
        row
        for b in batches
        for row in zip(
            b.line.tolist(),
            b.key_id.tolist(),
            b.label.tolist(),
            b.countrycode.to_pylist(),
            b.recognized.tolist(),
            b.strokes.to_pylist(),
            strict=True,
        )
    ]


def read(path: Path, data: bytes, categories: Categories = CATEGORIES) -> Batch:
    path.write_bytes(data)
    chunks = ndjson.plan_chunks(Source(str(path), path.stat().st_size, "ndjson"), 1 << 20)
    batches = [batch for chunk in chunks for batch in ndjson.read_chunk(chunk, categories)]
    assert len(batches) == 1
    return batches[0]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cat.ndjson"


def test_a_line_becomes_a_drawing(file: Path) -> None:
    batch = read(
        file, line() + b"\n" + line(word="bat", countrycode="", recognized=False, key_id="7") + b"\n"
    )
    assert rows([batch]) == [
        (0, 5201136883597312, 1, "VE", True, pack_strokes(DRAWING)),
        (1, 7, 0, "", False, pack_strokes(DRAWING)),
    ]
    assert [[x.tolist(), y.tolist()] for x, y in unpack_strokes(batch.strokes[0].as_py())] == DRAWING
    assert batch.key_id.dtype == np.uint64
    assert batch.label.dtype == np.uint16
    assert batch.line.dtype == np.uint32
    assert str(batch.countrycode.type) == "dictionary<values=string, indices=int16, ordered=0>"
    assert (batch.rejects, batch.lines_read, batch.skipped) == ([], 2, 0)


@pytest.mark.parametrize(
    "good",
    [
        line(key_id=12),
        line(key_id=2**64 - 1),
        line(key_id=str(2**64 - 1)),
        line(countrycode=None),
        line(countrycode=...),
        line(extra={"a": [1, 2]}),
        line(timestamp=...),
        line() + b"\r",
        b"  " + line(),
        json.dumps(json.loads(line()), indent=None).encode(),  # with spaces
        line().replace(b'"cat"', b'"c\\u0061t"'),
        b"\xef\xbb\xbf" + line(),
        line(countrycode="Å"),
    ],
)
def test_unusual_lines_that_are_fine(file: Path, good: bytes) -> None:
    batch = read(file, good + b"\n")
    assert len(batch) == 1
    assert batch.rejects == []
    assert batch.label.tolist() == [1]
    assert batch.strokes.to_pylist() == [pack_strokes(DRAWING)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"{nonsense", "not JSON"),
        (line()[:-20], "not JSON"),
        (line() + b"}", "not JSON"),
        (b"\xff\xfe" + line(), "not JSON"),
        (b"[1,2]", "not a JSON object"),
        (b"17", "not a JSON object"),
        (line(word=...), "word is missing"),
        (line(key_id=...), "key_id is missing"),
        (line(drawing=...), "drawing is missing"),
        (line(recognized=...), "recognized is missing"),
        (line(word=5), "word is not a string"),
        (line(word="kat"), "unknown category 'kat'; did you mean 'cat'?"),
        (line(word="xylophone"), "unknown category 'xylophone'"),
        (line(recognized="yes"), "recognized is not true or false"),
        (line(recognized=1), "recognized is not true or false"),
        (line(countrycode=5), "countrycode is not a string"),
        (line(key_id="12a"), "key_id '12a' is not a number"),
        (line(key_id=""), "key_id '' is not a number"),
        (line(key_id="-5"), "key_id '-5' is not a number"),
        (line(key_id=1.5), "key_id 1.5 is not a number"),
        (line(key_id=True), "key_id True is not a number"),
        (line(key_id=None), "key_id None is not a number"),
        (line(key_id=-5), "key_id does not fit into 64 bits"),
        (line(key_id=str(2**64)), "key_id does not fit into 64 bits"),
        (line(key_id="9" * 5000), "key_id does not fit into 64 bits"),
        (line(drawing=[]), "empty drawing"),
        (line(drawing=[[[], []]]), "empty stroke"),
        (line(drawing="[]"), "strokes are not a list"),
        (line(drawing=None), "strokes are not a list"),
        (line(drawing=[[[1, 2], [1]]]), "differ in length"),
        (line(drawing=[[[1, 2]]]), "sequences, not x and y"),
        (line(drawing=[[[1], [2], [3]]]), "sequences, not x and y"),
        (line(drawing=[[[256], [0]]]), "coordinate 256 outside 0..255"),
        (line(drawing=[[[-1], [0]]]), "coordinate -1 outside 0..255"),
        (line(drawing=[[[1.5], [0]]]), "coordinate 1.5 is not an integer"),
        (line(drawing=[[["1"], [0]]]), "coordinate is not a number"),
        (line(drawing=[[[True], [0]]]), "coordinate is not a number"),
        (line(drawing=[[[None], [0]]]), "coordinate is not a number"),
        (line(drawing=[[5, 6]]), "x or y is not a list"),
        (line(drawing=[7]), "a stroke"),
        (line(drawing=[[[1], [1]]] * 65_536), "strokes, at most 65535"),
        (line(drawing=[[[1] * 65_536, [1] * 65_536]]), "points in a stroke, at most 65535"),
        (line().replace(b"[0,10,255]", b"[0,010,255]"), "not JSON"),
        (b"[" * 2000, "not JSON"),
    ],
)
def test_a_bad_line_is_rejected_and_the_others_stay(file: Path, bad: bytes, reason: str) -> None:
    batch = read(file, line(key_id="1") + b"\n" + bad + b"\n" + line(key_id="2") + b"\n")
    assert batch.key_id.tolist() == [1, 2]
    assert batch.line.tolist() == [0, 2]
    assert batch.lines_read == 3
    assert [reject.line for reject in batch.rejects] == [1]
    assert reason in batch.rejects[0].reason
    assert len(batch.rejects[0].reason) < 150


def test_a_cut_last_line_says_so(file: Path) -> None:
    batch = read(file, line() + b"\n" + line()[:60])
    assert len(batch) == 1
    assert batch.rejects[0].line == 1
    assert batch.rejects[0].reason.startswith("the file ends within this line (not JSON")


def test_a_last_line_without_newline_is_fine(file: Path) -> None:
    batch = read(file, line() + b"\n" + line())
    assert len(batch) == 2
    assert batch.rejects == []


def test_lines_of_any_length_and_kind_are_each_read_or_named(file: Path) -> None:
    """More bad ones than there is room for at first, and good ones as short as there are."""
    short = b'{"word":"cat","countrycode":"","recognized":true,"key_id":1,"drawing":[[[1],[2]]]}'
    assert len(short.replace(b"cat", b"")) > scan._SHORTEST
    lines = [short, b"[]", short, b"", b"-"] * 200
    file.write_bytes(b"\n".join(lines))
    found, rejects, read = _by_chunks(file, 1 << 30)
    assert [row[0] for row in found] == [k for k in range(1000) if k % 5 in (0, 2)]
    assert [number for number, _ in rejects] == [k for k in range(1000) if k % 5 in (1, 4)]
    assert read == 1000


def test_blank_lines_count_as_lines_only(file: Path) -> None:
    batch = read(file, b"\n" + line() + b"\n\n  \r\n" + line() + b"\n\n")
    assert batch.line.tolist() == [1, 4]
    assert (batch.lines_read, batch.rejects) == (6, [])


def test_empty_file(file: Path) -> None:
    file.write_bytes(b"")
    chunks = ndjson.plan_chunks(Source(str(file), 0, "ndjson"), 100)
    assert [batch for chunk in chunks for batch in ndjson.read_chunk(chunk, CATEGORIES)] == []


def test_a_file_whose_length_nobody_tells_is_read_to_its_end(file: Path) -> None:
    """A web server may leave it out, and the length that storage then has is 0."""
    file.write_bytes(b"".join(line(key_id=str(key)) + b"\n" for key in range(50)))
    chunks = ndjson.plan_chunks(Source(str(file), 0, "ndjson"), 100)
    keys = [key for chunk in chunks for b in ndjson.read_chunk(chunk, CATEGORIES) for key in b.key_id]
    assert keys == list(range(50))


def test_categories_that_are_not_wanted_are_skipped(file: Path) -> None:
    batch = read(file, line(word="owl") + b"\n" + line() + b"\n" + line(word="owl", key_id=-1) + b"\n")
    assert batch.line.tolist() == [1]
    assert (batch.skipped, batch.rejects) == (2, [])


def test_missing_file_is_named(tmp_path: Path) -> None:
    chunk = Chunk(str(tmp_path / "no.ndjson"), 0, None, "ndjson")
    with pytest.raises(StorageError, match=r"no\.ndjson not found"):
        list(ndjson.read_chunk(chunk, CATEGORIES))


# --- gzip ------------------------------------------------------------------------------------------------


def test_gzip(tmp_path: Path) -> None:
    data = b"".join(line(key_id=str(i)) + b"\n" for i in range(1000))
    path = tmp_path / "cat.ndjson.gz"
    batch = read(path, gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :]))
    assert batch.key_id.tolist() == list(range(1000))
    assert ndjson.plan_chunks(Source(str(path), 10**9, "ndjson"), 1000) == [
        Chunk(str(path), 0, None, "ndjson")
    ]


@pytest.mark.parametrize("cut", [5, 9, 4000, -1])
def test_cut_gzip_keeps_what_was_there(tmp_path: Path, cut: int) -> None:
    randomness = random.Random(5)
    data = b"".join(line(key_id=str(randomness.getrandbits(63))) + b"\n" for i in range(1000))
    whole = gzip.compress(data)
    batch = read(tmp_path / "cat.ndjson.gz", whole[:cut])
    assert [r.reason for r in batch.rejects] == ["the gzip file is cut off here"]
    assert batch.rejects[0].line == len(batch)
    assert (0 < len(batch) < 1000) if cut == 4000 else len(batch) == (1000 if cut == -1 else 0)


def test_damaged_gzip_keeps_what_was_before(tmp_path: Path) -> None:
    randomness = random.Random(5)
    data = b"".join(line(key_id=str(randomness.getrandbits(63))) + b"\n" for i in range(20_000))
    whole = bytearray(gzip.compress(data))
    middle = len(whole) // 2
    whole[middle : middle + 200] = b"\xff" * 200
    batch = read(tmp_path / "cat.ndjson.gz", bytes(whole))
    assert 5_000 < len(batch) < 20_000
    assert "damaged" in batch.rejects[-1].reason


def test_what_is_no_gzip_is_one_readable_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cat\.ndjson\.gz is not a gzip file"):
        read(tmp_path / "cat.ndjson.gz", line())


# --- properties ------------------------------------------------------------------------------------------


def _by_chunks(path: Path, chunk_bytes: int) -> tuple[list[Any], list[Any], int]:
    """(drawings, rejects, lines), with line numbers made absolute as `prepare` does."""
    first, found, rejects = 0, [], []
    for chunk in ndjson.plan_chunks(Source(str(path), path.stat().st_size, "ndjson"), chunk_bytes):
        batches = list(ndjson.read_chunk(chunk, CATEGORIES))
        found += [(row[0] + first, *row[1:]) for row in rows(batches)]
        rejects += [(r.line + first, r.reason) for b in batches for r in b.rejects]
        first += sum(b.lines_read for b in batches)
    return found, rejects, first


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(
        st.one_of(
            st.integers(0, 2**64 - 1).map(lambda i: line(key_id=str(i))),
            st.just(b""),
            st.just(b"{"),
            st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")),
        ),
        max_size=30,
    ),
    end=st.sampled_from([b"", b"\n"]),
    chunk_bytes=st.integers(1, 700),
)
def test_chunks_divide_a_file_without_loss(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], end: bytes, chunk_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("chunks") / "cat.ndjson"
    path.write_bytes(b"\n".join(lines) + end)
    assert _by_chunks(path, chunk_bytes) == _by_chunks(path, 1 << 30)


@given(data=st.lists(st.binary(max_size=9), max_size=40).map(b"\n".join), block=st.integers(1, 20))
def test_blocks_join_to_the_file(tmp_path_factory: pytest.TempPathFactory, data: bytes, block: int) -> None:
    path = tmp_path_factory.mktemp("blocks") / "x.ndjson"
    path.write_bytes(data)
    for chunk_bytes in (7, 1000):
        chunks = plan_line_chunks(Source(str(path), len(data), "ndjson"), chunk_bytes, "ndjson")
        blocks = [b.data for chunk in chunks for b in line_blocks(chunk, block)]
        assert b"".join(blocks) == data
        assert all(b.endswith(b"\n") for b in blocks[:-1])
    packed = path.with_suffix(".ndjson.gz")
    packed.write_bytes(gzip.compress(data))
    blocks = [b.data for b in line_blocks(Chunk(str(packed), 0, None, "ndjson"), block)]
    assert b"".join(blocks) == data


@pytest.mark.parametrize("chunk_bytes", [200, 999, 1000, 3000, 4500, 6000])
def test_a_line_that_is_too_long_is_one_reject_wherever_the_chunks_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    """Its middle isn't kept; the lines behind it keep their numbers."""
    monkeypatch.setattr(blocks, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(line_blocks, "__defaults__", (300,))
    path = tmp_path / "cat.ndjson"
    good = [line(key_id=str(key)) for key in range(20)]
    for long in (0, 3, 19):
        path.write_bytes(b"\n".join([*good[:long], b"[" + 5000 * b"1", *good[long:]]) + b"\n")
        found, rejects, lines = _by_chunks(path, chunk_bytes)
        assert [row[0] for row in found] == [k for k in range(21) if k != long]
        assert [number for number, _ in rejects] == [long]
        assert lines == 21


_AXIS = st.lists(st.integers(-3, 270), max_size=4)
_LINE = st.fixed_dictionaries(
    {
        "word": st.sampled_from(["cat", "dog", "bat", "owl", "kat", "Åé", 'c"t', "", 3]),
        "key_id": st.one_of(st.integers(-5, 2**65), st.integers(0, 2**65).map(str), st.text(max_size=3)),
        "recognized": st.sampled_from([True, True, False, None, 0]),
        "drawing": st.lists(st.tuples(_AXIS, _AXIS), max_size=3),
        "countrycode": st.sampled_from(["VE", "US", "", "Å", None, 5]),
    }
).map(lambda record: json.dumps(record).encode())
_GOOD = st.builds(
    lambda key, n, x: line(key_id=key, drawing=[[[x] * n, [x] * n]] * n),
    st.integers(0, 2**64 - 1).map(str),
    st.integers(1, 4),
    st.integers(0, 255),
)


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(_GOOD))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 2))] = draw(
            st.sampled_from(
                [b"", b"0", b"9", b",", b"[", b"]", b'"', b"{", b"}", b" ", b"\\", b"-", b".", b"\xc3"]
            )
        )
    return bytes(data).replace(b"\n", b"")


@pytest.fixture(scope="module")
def agree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples: pytest looks through all of its own for another's name."""
    return tmp_path_factory.mktemp("agree")


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(lines=st.lists(st.one_of(_LINE, _GOOD, _mutated()), min_size=1, max_size=8))
def test_the_compiled_parser_and_the_slow_one_agree(agree: Path, lines: list[bytes]) -> None:
    path = agree / "cat.ndjson"
    path.write_bytes(b"\n".join(lines))
    chunk = Chunk(str(path), 0, None, "ndjson")
    fast = list(ndjson.read_chunk(chunk, CATEGORIES))
    slow = list(ndjson.read_lines(chunk, CATEGORIES, pack_strokes))
    assert rows(fast) == rows(slow)
    assert [(b.rejects, b.lines_read) for b in fast] == [(b.rejects, b.lines_read) for b in slow]


def test_real_drawings_are_all_read(shared_data: Path) -> None:
    from doodle_dist.data.categories import OFFICIAL_345

    path = shared_data / "simplified" / "cat.ndjson"
    categories = Categories(OFFICIAL_345)
    chunks = ndjson.plan_chunks(Source(str(path), path.stat().st_size, "ndjson"), 100_000)
    batches = [batch for chunk in chunks for batch in ndjson.read_chunk(chunk, categories)]
    assert sum(len(batch) for batch in batches) == 1000
    assert not any(batch.rejects for batch in batches)
    record = json.loads(path.read_bytes().split(b"\n", 1)[0])
    assert int(batches[0].key_id[0]) == int(record["key_id"])
    assert batches[0].strokes[0].as_py() == pack_strokes(record["drawing"])


def test_on_s3(s3_bucket: str) -> None:
    uri = f"{s3_bucket}/full/cat.ndjson"
    storage.write_atomic(uri, b"".join(line(key_id=str(i)) + b"\n" for i in range(500)))
    chunks = ndjson.plan_chunks(Source(uri, storage.size(uri), "ndjson"), 20_000)
    assert len(chunks) > 3
    keys = [int(k) for chunk in chunks for b in ndjson.read_chunk(chunk, CATEGORIES) for k in b.key_id]
    assert keys == list(range(500))
