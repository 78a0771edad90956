"""Quick, Draw! simplified ndjson (``.ndjson``, ``.ndjson.gz``): one drawing per line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from doodle_dist.data.categories import Categories
from doodle_dist.data.records import (
    Batch,
    Chunk,
    Columns,
    LineBlock,
    Reject,
    line_blocks,
    parse_key_id,
    plan_line_chunks,
)
from doodle_dist.data.strokes import pack_strokes


def plan_chunks(uri: str, size: int, chunk_bytes: int) -> list[Chunk]:
    """Byte ranges of about ``chunk_bytes``; a ``.gz`` file is one chunk."""
    return plan_line_chunks(uri, size, chunk_bytes, "ndjson")


def read_chunk(chunk: Chunk, categories: Categories) -> Iterator[Batch]:
    """The drawings of the lines that begin in the chunk, in batches of some 35,000."""
    return read_lines(chunk, categories, pack_strokes)


def read_lines(chunk: Chunk, categories: Categories, pack: Callable[[Any], bytes]) -> Iterator[Batch]:
    """Like ``read_chunk``, for any packing of a line's ``drawing`` (ValueError: why it is a bad one)."""
    first = 0
    for block in line_blocks(chunk):
        batch = parse_block(block, categories, pack, first, bom=chunk.start == 0 and first == 0)
        first += batch.lines_read
        yield batch


def parse_block(
    block: LineBlock, categories: Categories, pack: Callable[[Any], bytes], first: int, bom: bool = False
) -> Batch:
    """One block of lines, the first of which is line ``first`` of the chunk."""
    data = block.data.removeprefix(b"\xef\xbb\xbf") if bom else block.data
    lines = data.split(b"\n")
    ends_whole = not lines[-1]
    if ends_whole:
        lines.pop()
    columns = Columns()
    for number, line in enumerate(lines, first):
        if not line or line.isspace():
            continue
        try:
            add_record(columns, line, categories, pack, number)
        except ValueError as error:
            columns.rejects.append(Reject(number, str(error)))
    blame_file_end(columns, block.problem, ends_whole, first + len(lines))
    return columns.batch(len(lines))


def blame_file_end(columns: Columns, problem: str | None, ends_whole: bool, next_line: int) -> None:
    """Say of a block's last line that the file ends in it, where that is why it is bad."""
    last = next_line if ends_whole else next_line - 1
    blamed = bool(columns.rejects) and columns.rejects[-1].line == last
    if problem:
        if blamed:
            columns.rejects.pop()
        columns.rejects.append(Reject(last, problem))
    elif blamed and not ends_whole:
        reason = columns.rejects.pop().reason
        columns.rejects.append(Reject(last, f"the file ends within this line ({reason})"))


def add_record(
    columns: Columns, line: bytes, categories: Categories, pack: Callable[[Any], bytes], number: int
) -> None:
    """Append one line's drawing to ``columns``. Raises ValueError with the reason it is a bad one."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    try:
        word, key, drawing, recognized = (
            record["word"],
            record["key_id"],
            record["drawing"],
            record["recognized"],
        )
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing") from None
    append_record(
        columns, categories, number, word, key, record.get("countrycode"), recognized, drawing, pack
    )


def append_record(
    columns: Columns,
    categories: Categories,
    number: int,
    word: Any,
    key: Any,
    country: Any,
    recognized: Any,
    drawing: Any,
    pack: Callable[[Any], bytes],
) -> None:
    """Check one record's fields and append them. Raises ValueError with the reason it is a bad one."""
    label = categories.labels.get(word) if isinstance(word, str) else None
    if label is None:
        if not isinstance(word, str):
            raise ValueError("word is not a string")
        if word in categories.others:
            columns.skipped += 1
            return
        raise ValueError(categories.unknown(word))
    if recognized is not True and recognized is not False:
        raise ValueError("recognized is not true or false")
    if country is not None and not isinstance(country, str):
        raise ValueError("countrycode is not a string")
    key_id = parse_key_id(key)
    columns.strokes.append(pack(drawing))
    columns.key_id.append(key_id)
    columns.label.append(label)
    columns.countrycode.append(country or "")
    columns.recognized.append(recognized)
    columns.line.append(number)
