"""Google's 28×28 bitmaps: ``.npy`` files, uint8 [N, 784], one category each, read by byte ranges."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from doodle_dist.data import storage
from doodle_dist.data.categories import Categories
from doodle_dist.data.records import BATCH_ROWS, Batch, Chunk, category_of

SIDE = 28
ROW_BYTES = SIDE * SIDE
_HEADER_BYTES = 1 << 12  # the header of such a file has 80 to 128 bytes


def plan_chunks(uri: str, size: int, chunk_bytes: int) -> list[Chunk]:
    """Ranges of whole rows of about ``chunk_bytes``. Raises what ``read_header`` raises."""
    rows, offset = read_header(uri, size)
    step = max(chunk_bytes // ROW_BYTES, 1)
    return [
        Chunk(uri, offset + row * ROW_BYTES, offset + min(row + step, rows) * ROW_BYTES, "bitmap")
        for row in range(0, rows, step)
    ]


def read_header(uri: str, size: int | None = None) -> tuple[int, int]:
    """(rows, byte at which the first one begins) of an official bitmap file.

    Raises ValueError that names the file and what was expected: for a file that is no .npy file, for another
    shape or type, and for one that is shorter than its header says. Nothing is ever unpickled.
    """
    name = storage.public(uri)
    head = io.BytesIO(storage.read_bytes(uri, 0, _HEADER_BYTES))
    try:
        version = np.lib.format.read_magic(head)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version}")
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(head)
    except ValueError as error:
        raise ValueError(f"{name} is not a .npy file of uint8 [N, {ROW_BYTES}]: {error}") from None
    rows = shape[0] if shape else 0
    if dtype != np.uint8 or fortran or shape != (rows, ROW_BYTES):
        order = " in Fortran order" if fortran else ""
        raise ValueError(
            f"{name} holds {dtype} {list(shape)}{order}; expected uint8 [N, {ROW_BYTES}], Google's bitmaps"
        )
    offset = head.tell()
    size = storage.size(uri) if size is None else size
    if size != offset + rows * ROW_BYTES:
        raise ValueError(
            f"{name} has {size} bytes, its header says {rows} rows, {offset + rows * ROW_BYTES} bytes: "
            "it is cut off or damaged"
        )
    return rows, offset


def key_ids(category: str, rows: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Key ids of bitmaps, which have none: a 64-bit hash of the category's name and the row.

    They don't depend on where the file lies. blake2b of the name seeds a splitmix64 stream (Steele, Lea and
    Flood, 2014), whose finaliser is a bijection, so two rows of a category never share an id.
    """
    seed = int.from_bytes(hashlib.blake2b(category.encode(), digest_size=8).digest(), "little")
    z = np.uint64(seed) + (rows + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def read_chunk(chunk: Chunk, categories: Categories) -> Iterator[Batch]:
    """The bitmaps of the chunk in batches of 32,768. Every one counts as recognised, in country ""."""
    category = chunk.category or category_of(chunk.uri)
    _, offset = read_header(chunk.uri)
    end = chunk.end if chunk.end is not None else storage.size(chunk.uri)
    first, last = (max(chunk.start - offset, 0)) // ROW_BYTES, (end - offset) // ROW_BYTES
    label = categories.labels.get(category)
    if label is None and category not in categories.others:
        raise ValueError(f"{storage.public(chunk.uri)}: {categories.unknown(category)}")
    with storage.open_input(chunk.uri) as source:
        for row in range(first, last, BATCH_ROWS):
            n = min(BATCH_ROWS, last - row)
            if label is None:
                yield _batch(category, row, first, 0, 0, b"", skipped=n)
                continue
            with storage.errors_about(chunk.uri):
                source.seek(offset + row * ROW_BYTES)
                data = source.read(n * ROW_BYTES)
            if len(data) != n * ROW_BYTES:
                raise ValueError(f"{storage.public(chunk.uri)} was cut short while it was read")
            yield _batch(category, row, first, n, label, data)


def _batch(category: str, row: int, first: int, n: int, label: int, data: bytes, skipped: int = 0) -> Batch:
    rows = np.arange(row, row + n, dtype=np.uint64)
    return Batch(
        key_id=key_ids(category, rows),
        label=np.full(n, label, np.uint16),
        countrycode=pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int16)), pa.array([""])),
        recognized=np.ones(n, np.bool_),
        line=(rows - np.uint64(first)).astype(np.uint32),
        pixels=pa.Array.from_buffers(pa.binary(ROW_BYTES), n, [None, pa.py_buffer(data)]),
        lines_read=n + skipped,
        skipped=skipped,
    )
