"""Quick, Draw! simplified ndjson (``.ndjson``, ``.ndjson.gz``): one drawing per line."""

from __future__ import annotations

import functools
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from doodle_dist.data.blocks import LineBlock, line_blocks, plan_line_chunks
from doodle_dist.data.categories import Categories
from doodle_dist.data.records import Batch, Chunk, Columns, NoRecordError, Reject, Source, merge, parse_key_id
from doodle_dist.data.scan import scan_lines
from doodle_dist.data.strokes import pack_strokes


def plan_chunks(source: Source, chunk_bytes: int) -> list[Chunk]:
    """Byte ranges of about ``chunk_bytes``; a ``.gz`` file is one chunk."""
    return plan_line_chunks(source, chunk_bytes, "ndjson")


def read_chunk(chunk: Chunk, categories: Categories) -> Iterator[Batch]:
    """The drawings of the lines that begin in the chunk, in batches of some 35,000."""

    def slow(columns: Columns, line: bytes, number: int) -> None:
        add_record(columns, line, categories, pack_strokes, number)

    first = 0
    for block in text_blocks(chunk):
        batch = parse_fast(block, block.data, categories, first, slow)
        first += batch.lines_read
        yield batch


def read_lines(chunk: Chunk, categories: Categories, pack: Callable[[Any], bytes]) -> Iterator[Batch]:
    """Like ``read_chunk``, for any packing of a line's ``drawing`` (ValueError: why it is a bad one)."""
    first = 0
    for block in text_blocks(chunk):
        columns, lines = Columns(), split_lines(block.data)
        for number, line in enumerate(lines, first):
            if line and not line.isspace():
                try_add(
                    columns, number, functools.partial(add_record, columns, line, categories, pack, number)
                )
        first += len(lines)
        blame_file_end(columns, block, first)
        yield columns.batch(len(lines))


def text_blocks(chunk: Chunk) -> Iterator[LineBlock]:
    """The chunk's blocks of lines, without the byte order mark that the file may begin with."""
    begins = chunk.start == 0
    for block in line_blocks(chunk):
        yield block._replace(data=block.data.removeprefix(BOM_UTF8)) if begins else block
        begins = False


def parse_fast(
    block: LineBlock,
    data: bytes,
    categories: Categories,
    first: int,
    slow: Callable[[Columns, bytes, int], None],
) -> Batch:
    """Simplified drawings: compiled for lines beyond doubt, one by one for the others and for the reasons.

    ``data`` is the block, or its lines rewritten as ndjson; ``slow(columns, line, number)`` adds a line of the
    block itself or raises ValueError with what is wrong with it.
    """
    found = scan_lines(data)
    labels = np.array([categories.labels.get(word, -1) for word in found.words], np.int64)
    label = labels[found.word] if len(labels) else np.zeros(0, np.int64)
    skip = np.array([word in categories.others for word in found.words], np.bool_)
    known = label >= 0
    columns = Columns()
    for row in np.flatnonzero(~known):
        if skip[found.word[row]]:
            columns.skipped += 1
        else:
            reason = categories.unknown(found.words[found.word[row]])
            columns.rejects.append(Reject(first + int(found.line[row]), reason))
    if len(found.left):
        lines = split_lines(block.data)
        for number in found.left[:, 0].tolist():
            try_add(columns, first + number, functools.partial(slow, columns, lines[number], first + number))
    columns.rejects.sort()
    blame_file_end(columns, block, first + found.lines)
    fast = Batch(
        key_id=found.key_id,
        label=label.astype(np.uint16),
        countrycode=pa.DictionaryArray.from_arrays(
            pa.array(found.country), pa.array(found.countries, pa.string())
        ),
        recognized=found.recognized,
        line=found.line + np.uint32(first),
        strokes=pa.Array.from_buffers(
            pa.binary(), len(found.line), [None, pa.py_buffer(found.offsets), pa.py_buffer(found.packed)]
        ),
    )
    if not known.all():
        fast = fast.take(np.flatnonzero(known))
    batch = merge(fast, columns.batch(0)) if columns.line else fast
    batch.rejects, batch.skipped, batch.lines_read = columns.rejects, columns.skipped, found.lines
    batch.is_cut_off = columns.is_cut_off
    return batch


def split_lines(data: bytes) -> list[bytes]:
    """The lines without their newlines; the last one may lack its own."""
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def try_add(columns: Columns, number: int, add: Callable[[], None]) -> None:
    """``add()``, or a reject for line ``number`` with the reason why not."""
    try:
        add()
    except ValueError as error:
        columns.rejects.append(Reject(number, str(error)))
        if isinstance(error, NoRecordError):
            columns.no_record = number


def blame_file_end(columns: Columns, block: LineBlock, next_line: int) -> None:
    """Say of a block's last line that the file ends in it, where that is why it is bad."""
    ends_whole = not block.data or block.data.endswith(b"\n")
    last = next_line if ends_whole else next_line - 1
    blamed = bool(columns.rejects) and columns.rejects[-1].line == last
    if block.problem:
        if blamed:
            columns.rejects.pop()
        columns.rejects.append(Reject(last, block.problem))
        columns.is_cut_off = True
    elif columns.no_record == last and not ends_whole:
        reason = columns.rejects.pop().reason
        columns.rejects.append(Reject(last, f"the file ends within this line ({reason})"))
        columns.is_cut_off = True


def add_record(
    columns: Columns, line: bytes, categories: Categories, pack: Callable[[Any], bytes], number: int
) -> None:
    """Append one line's drawing to ``columns``. Raises ValueError with the reason it is a bad one."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise NoRecordError(f"not JSON: {error.msg} at column {error.colno}") from None
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
