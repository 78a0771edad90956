"""Kaggle's CSV: every row becomes a drawing or a reject."""

import csv
import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

from doodle_dist.data import kaggle
from doodle_dist.data.blocks import line_blocks
from doodle_dist.data.categories import Categories
from doodle_dist.data.records import Batch, Chunk, Source
from doodle_dist.data.strokes import pack_strokes

CATEGORIES = Categories(("bat", "cat"), others=frozenset({"owl"}))
DRAWING = [[[0, 10, 255], [0, 128, 7]], [[3], [4]]]
HEADER = "countrycode,drawing,key_id,recognized,timestamp,word\n"


def row(**changes: Any) -> str:
    fields = {
        "countrycode": "US",
        "drawing": json.dumps(DRAWING),
        "key_id": "5201136883597312",
        "recognized": "True",
        "timestamp": "2017-03-02 23:25:10.074530",
        "word": "cat",
    } | changes
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(fields.values())
    return out.getvalue()


def read(path: Path, text: str, chunk_bytes: int = 1 << 30) -> Batch:
    """All chunks as one batch, with lines made absolute."""
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    whole = Batch(*[None] * 5, strokes=[], rejects=[])  # type: ignore[arg-type, list-item]
    whole.key_id, whole.line, whole.label, whole.countrycode, whole.recognized = [], [], [], [], []  # type: ignore
    for chunk in kaggle.plan_chunks(Source(str(path), path.stat().st_size, "kaggle"), chunk_bytes):
        first = whole.lines_read
        for batch in kaggle.read_chunk(chunk, CATEGORIES):
            whole.key_id += batch.key_id.tolist()  # type: ignore
            whole.label += batch.label.tolist()  # type: ignore
            whole.line += (batch.line + first).tolist()  # type: ignore
            whole.countrycode += batch.countrycode.to_pylist()
            whole.recognized += batch.recognized.tolist()  # type: ignore
            whole.strokes += batch.strokes.to_pylist()
            whole.rejects += [(r.line + first, r.reason) for r in batch.rejects]  # type: ignore
            whole.lines_read += batch.lines_read
            whole.skipped += batch.skipped
    return whole


@pytest.mark.parametrize("name", ["cat.csv", "cat.csv.gz"])
@pytest.mark.parametrize("chunk_bytes", [50, 200, 1 << 30])
@pytest.mark.parametrize("block_bytes", [100, 1 << 24])
def test_rows_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, chunk_bytes: int, block_bytes: int
) -> None:
    monkeypatch.setattr(line_blocks, "__defaults__", (block_bytes,))
    text = HEADER + row(key_id="1") + row(key_id="2", countrycode="", recognized="False", word="bat") + row()
    batch = read(tmp_path / name, text, chunk_bytes)
    assert batch.key_id == [1, 2, 5201136883597312]
    assert batch.label == [1, 0, 1]
    assert batch.countrycode == ["US", "", "US"]
    assert batch.recognized == [True, False, True]
    assert batch.strokes == [pack_strokes(DRAWING)] * 3
    assert batch.line == [1, 2, 3]
    assert (batch.rejects, batch.lines_read) == ([], 4)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("nonsense\n", "1 columns, expected 6"),
        ('US,"[[[0],[0]]],1,True,2017,cat\n', "not CSV"),
        (row(drawing="[[1,2"), "drawing is not JSON"),
        (row(drawing="[]"), "empty drawing"),
        (row(drawing="[[[300],[0]]]"), "coordinate 300 outside 0..255"),
        (row(key_id="x"), "key_id 'x' is not a number"),
        (row(recognized="maybe"), "recognized is not True or False"),
        (row(word="kat"), "unknown category 'kat'; did you mean 'cat'?"),
        (row()[:-1] + ",extra\n", "7 columns, expected 6"),
        (row().replace(']]]",', ']]]"junk,'), "not CSV"),
        (row().replace('US,"', 'USx"'), "columns, expected 6"),
        (row(word='c"t'), "unknown category 'c\"t'"),
        (row(word="c\\t"), "unknown category"),
        (row(drawing='[[[0],[0]]],"a":[]'), "drawing is not JSON"),
        (row(key_id="5,6"), "key_id '5,6' is not a number"),
    ],
)
def test_a_bad_row_is_rejected_and_the_others_stay(tmp_path: Path, bad: str, reason: str) -> None:
    batch = read(tmp_path / "cat.csv", HEADER + row(key_id="1") + bad + row(key_id="2"))
    assert batch.key_id == [1, 2]
    assert [r[0] for r in batch.rejects] == [2]
    assert reason in batch.rejects[0][1]


def test_cut_last_row(tmp_path: Path) -> None:
    batch = read(tmp_path / "cat.csv", HEADER + row() + row()[:40])
    assert len(batch) == 1
    assert batch.rejects[0][1].startswith("the file ends within this line")


def test_other_column_order_and_windows_newlines(tmp_path: Path) -> None:
    text = 'word,key_id,recognized,drawing,countrycode\r\ncat,5,True,"[[[1],[2]]]",US\r\n'
    batch = read(tmp_path / "cat.csv", text)
    assert (batch.key_id, batch.label, batch.countrycode) == ([5], [1], ["US"])
    assert batch.rejects == []


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "id,drawing,word\n", row()])
def test_files_without_the_columns_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"cat\.csv: the first line has no column .*expected Kaggle's"):
        read(tmp_path / "cat.csv", text)


def test_skipped(tmp_path: Path) -> None:
    batch = read(tmp_path / "cat.csv", HEADER + row(word="owl") + row())
    assert (len(batch), batch.skipped, batch.rejects) == (1, 1, [])


def test_cut_gzip(tmp_path: Path) -> None:
    randomness = random.Random(1)
    data = gzip.compress(
        (HEADER + "".join(row(key_id=randomness.getrandbits(60)) for _ in range(900))).encode()
    )
    for cut in (9, len(data) // 2, len(data) - 1):
        path = tmp_path / "cat.csv.gz"
        path.write_bytes(data[:cut])
        if cut == 9:
            with pytest.raises(ValueError, match="the first line has no column"):
                list(kaggle.read_chunk(Chunk(str(path), 0, None, "kaggle"), CATEGORIES))
            continue
        (batch,) = kaggle.read_chunk(Chunk(str(path), 0, None, "kaggle"), CATEGORIES)
        assert [r.reason for r in batch.rejects] == ["the gzip file is cut off here"]
        assert batch.rejects[0].line == len(batch) + 1
        assert len(batch) == 900 if cut == len(data) - 1 else 0 < len(batch) < 900


def test_a_file_of_one_row_without_a_newline_tells_its_category() -> None:
    head = b'countrycode,drawing,key_id,recognized,timestamp,word\nUS,"[[[1],[2]]]",1,True,2017-01-01,cat'
    assert kaggle.first_word("x.csv", head) == "cat"
    assert kaggle.first_word("x.csv", head + b"\n") == "cat"
