"""Quick, Draw!'s official binary format (``.bin``, ``.bin.gz``): one category per file, named by the file.

Layout, little-endian, after quickdraw-dataset/examples/binary_file_parser.py: ``key_id u64``, ``countrycode
2 bytes``, ``recognized i8``, ``timestamp u32``, then the strokes as this package packs them: ``n_strokes
u16``, per stroke ``n_points u16``, ``x u8[n]``, ``y u8[n]``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from doodle_dist.data import locations
from doodle_dist.data.blocks import BLOCK_BYTES, byte_blocks
from doodle_dist.data.categories import Categories
from doodle_dist.data.kernels.jit import compiled
from doodle_dist.data.records import Batch, Chunk, Reject, Source, category_of, countries

HEADER_BYTES = 15
MAX_RECORD_BYTES = 64 << 20  # more than that without a record's end: not this format
_OK, _EMPTY_DRAWING, _EMPTY_STROKE, _BAD_FLAG, _BAD_COUNTRY = range(5)
_REASONS = {
    _EMPTY_DRAWING: "empty drawing",
    _EMPTY_STROKE: "empty stroke",
    _BAD_FLAG: "recognized is not 0 or 1",
    _BAD_COUNTRY: "countrycode is not two letters",
}


def plan_chunks(source: Source, chunk_bytes: int) -> list[Chunk]:
    """One chunk: where a record begins is only known from the one before it."""
    return [Chunk(source.uri, 0, None, "binary")]


def read_chunk(chunk: Chunk, categories: Categories) -> Iterator[Batch]:
    """The file's drawings. A file that ends inside a record gives a reject with the byte it begins at."""
    category = chunk.category or category_of(chunk.uri)
    label = categories.labels.get(category)
    if label is None and category not in categories.others:
        raise ValueError(f"{locations.public(chunk.uri)}: {categories.unknown(category)}")
    rest, offset, line = b"", 0, 0
    for block in byte_blocks(chunk, BLOCK_BYTES):
        data = rest + block.data
        batch, used = parse_block(data, label, line)
        rest, offset, line = data[used:], offset + used, line + batch.lines_read
        if block.is_last:
            if rest or block.problem:
                reason = block.problem or f"the file ends inside the record at byte {offset}"
                batch.rejects.append(Reject(line, reason))
                batch.lines_read += 1
                batch.is_cut_off = True
        elif len(rest) > MAX_RECORD_BYTES:
            raise ValueError(
                f"{locations.public(chunk.uri)} is not in the official binary format (byte {offset})"
            )
        yield batch


def parse_block(data: bytes, label: int | None, first: int) -> tuple[Batch, int]:
    """(the whole records at the start of ``data``, bytes used). Without a label they are all skipped."""
    raw = np.frombuffer(data, np.uint8)
    starts, used, status = _scan(raw)
    ends = np.append(starts[1:], used)
    good = np.flatnonzero(status == _OK) if label is not None else np.zeros(0, np.int64)
    bad = np.flatnonzero(status) if label is not None else np.zeros(0, np.int64)
    head = raw[starts[good][:, None] + np.arange(HEADER_BYTES)] if len(good) else np.zeros((0, 15), np.uint8)
    lengths = ends[good] - starts[good] - HEADER_BYTES
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    packed = _gather(raw, starts[good] + HEADER_BYTES, offsets)
    codes = np.ascontiguousarray(head[:, 8:10]).view("S2").ravel().astype("U2").tolist()
    batch = Batch(
        key_id=np.ascontiguousarray(head[:, :8]).view("<u8").ravel(),
        label=np.full(len(good), label or 0, np.uint16),
        countrycode=countries(codes),
        recognized=head[:, 10] == 1,
        line=(good + first).astype(np.uint32),
        strokes=pa.Array.from_buffers(
            pa.binary(), len(good), [None, pa.py_buffer(offsets), pa.py_buffer(packed)]
        ),
        rejects=[Reject(first + int(i), _REASONS[int(status[i])]) for i in bad],
        lines_read=len(starts),
        skipped=0 if label is not None else len(starts),
    )
    return batch, int(used)


@compiled
def _scan(data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], int, NDArray[np.uint8]]:
    """Where each whole record begins, the bytes they take together, and what is wrong with each."""
    size = len(data)
    starts = np.empty(size // (HEADER_BYTES + 2) + 1, np.int64)
    status = np.empty(len(starts), np.uint8)
    count, at = 0, 0
    while at + HEADER_BYTES + 2 <= size:
        state = _OK
        if data[at + 10] > 1:
            state = _BAD_FLAG
        for k in (8, 9):
            if data[at + k] > 127:
                state = _BAD_COUNTRY
        n_strokes = int(data[at + 15]) + 256 * int(data[at + 16])
        if n_strokes == 0:
            state = _EMPTY_DRAWING
        end = at + HEADER_BYTES + 2
        whole = True
        for _ in range(n_strokes):
            if end + 2 > size:
                whole = False
                break
            n_points = int(data[end]) + 256 * int(data[end + 1])
            if n_points == 0:
                state = _EMPTY_STROKE
            end += 2 + 2 * n_points
        if not whole or end > size:
            break
        starts[count] = at
        status[count] = state
        count += 1
        at = end
    return starts[:count], at, status[:count]


@compiled
def _gather(
    data: NDArray[np.uint8], starts: NDArray[np.int64], offsets: NDArray[np.int32]
) -> NDArray[np.uint8]:
    out = np.empty(offsets[-1], np.uint8)
    for i in range(len(starts)):
        n = offsets[i + 1] - offsets[i]
        out[offsets[i] : offsets[i + 1]] = data[starts[i] : starts[i] + n]
    return out
