"""Kaggle's ``train_simplified`` CSV (``.csv``, ``.csv.gz``).

Its columns are countrycode,drawing,key_id,recognized,timestamp,word, in any order; ``drawing`` is a quoted
JSON array. A row never spans lines, so the file splits at newlines, and a quote that is never closed spoils
one row and not the rest of the file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator

import orjson

from doodle_dist.data import locations
from doodle_dist.data.blocks import line_blocks, plan_line_chunks
from doodle_dist.data.categories import Categories
from doodle_dist.data.ndjson import append_record, parse_fast, split_lines, text_blocks
from doodle_dist.data.records import HEAD_BYTES, Batch, Chunk, Columns, NoRecordError, Source
from doodle_dist.data.strokes import pack_strokes

FIELDS = ("countrycode", "drawing", "key_id", "recognized", "word")


def plan_chunks(source: Source, chunk_bytes: int) -> list[Chunk]:
    """Byte ranges of about ``chunk_bytes``; a ``.gz`` file is one chunk."""
    return plan_line_chunks(source, chunk_bytes, "kaggle")


def read_chunk(chunk: Chunk, categories: Categories) -> Iterator[Batch]:
    """The drawings of the rows that begin in the chunk. Line 0 of the file is its header.

    Raises ValueError for a file whose first line lacks one of the columns.
    """
    order = read_header(chunk.uri)

    def slow(columns: Columns, line: bytes, number: int) -> None:
        _add_row(columns, line, order, categories, number)

    first = 0
    for block in text_blocks(chunk):
        rows = split_lines(block.data)
        if first == 0 and chunk.start == 0 and rows:
            rows[0] = b""
        data = b"".join([_as_ndjson(row, order) + b"\n" for row in rows])
        batch = parse_fast(block, data, categories, first, slow)
        first += batch.lines_read
        yield batch


_FLAGS = {b"True": b"true", b"False": b"false"}
_NOT_SIMPLE = b"-"  # no JSON, so it is left to the slow parser


def _as_ndjson(row: bytes, order: dict[str, int]) -> bytes:
    """A plain row as a line for the compiled ndjson parser, which checks what this does not."""
    parts = row.split(b'"')
    if len(parts) != 3:
        return b"" if not row or row.isspace() else _NOT_SIMPLE
    before, drawing, after = parts
    after = after.rstrip(b"\r")
    fields = [*before.split(b",")[:-1], drawing, *after.split(b",")[1:]]
    flag = _FLAGS.get(fields[order["recognized"]]) if len(fields) == order["width"] else None
    beside = (b"", b",")
    if flag is None or before[-1:] not in beside or after[:1] not in beside:
        return _NOT_SIMPLE
    if fields[order["drawing"]] is not drawing:
        return _NOT_SIMPLE
    country, key, word = fields[order["countrycode"]], fields[order["key_id"]], fields[order["word"]]
    return b'{"word":"%b","countrycode":"%b","recognized":%b,"key_id":"%b","drawing":%b}' % (
        word, country, flag, key, drawing,
    )  # fmt: skip


def read_header(uri: str) -> dict[str, int]:
    """The place of each column, from the file's first line. Raises ValueError where one is missing."""
    head = next(line_blocks(Chunk(uri, 0, None, "kaggle"), 1 << 12), None)
    return _header(uri, head.data.split(b"\n", 1)[0] if head else b"")


def first_word(uri: str, head: bytes) -> str | None:
    """The category of the first drawing in ``head``, the beginning of the file. Errors as ``read_header``."""
    lines = head.split(b"\n")
    order = _header(uri, lines[0])
    # The last line may be cut off by the head's end, not by the file's.
    for line in lines[1:-1] if len(head) >= HEAD_BYTES else lines[1:]:
        fields = next(csv.reader([line.decode("utf-8", "replace").rstrip("\r")]), [])
        if len(fields) == order["width"]:
            return fields[order["word"]]
    return None


def _header(uri: str, line: bytes) -> dict[str, int]:
    names = line.decode("utf-8-sig", "replace").strip().split(",")
    missing = [name for name in FIELDS if name not in names]
    if missing:
        raise ValueError(
            f"{locations.public(uri)}: the first line has no column {', '.join(missing)}; expected Kaggle's "
            "train_simplified CSV (countrycode,drawing,key_id,recognized,timestamp,word)"
        )
    return {"width": len(names)} | {name: names.index(name) for name in FIELDS}


def _add_row(
    columns: Columns, line: bytes, order: dict[str, int], categories: Categories, number: int
) -> None:
    try:
        text = line.decode()
        row = next(csv.reader([text.rstrip("\r")], strict=True))
    except (UnicodeDecodeError, csv.Error, StopIteration) as error:
        raise NoRecordError(f"not CSV: {error}") from None
    if len(row) != order["width"]:
        raise NoRecordError(f"{len(row)} columns, expected {order['width']}")
    flag = row[order["recognized"]].lower()
    if flag not in ("true", "false"):
        raise ValueError("recognized is not True or False")
    try:
        drawing = orjson.loads(row[order["drawing"]])
    except orjson.JSONDecodeError as error:
        raise NoRecordError(f"drawing is not JSON: {error.msg}") from None
    key, country, word = row[order["key_id"]], row[order["countrycode"]], row[order["word"]]
    append_record(columns, categories, number, word, key, country, flag == "true", drawing, pack_strokes)
