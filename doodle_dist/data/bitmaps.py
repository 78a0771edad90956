"""Google's 28×28 bitmaps: ``.npy`` files, uint8 [N, 784], one category each, read by byte ranges; ``.gz`` whole."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from doodle_dist.data import locations, storage
from doodle_dist.data.blocks import fixed_rows_of
from doodle_dist.data.categories import Categories
from doodle_dist.data.records import Batch, Chunk, Source, category_of, head, picture_batch
from doodle_dist.data.split import GOLDEN, splitmix64

SIDE = 28
ROW_BYTES = SIDE * SIDE
_HEADER_BYTES = 1 << 12  # the header of such a file has 80 to 128 bytes


def plan_chunks(source: Source, chunk_bytes: int) -> list[Chunk]:
    """Ranges of whole rows of about ``chunk_bytes``; of a ``.gz`` all. Raises what ``read_header`` raises."""
    rows, offset = read_header(source.uri, source.size)
    if locations.is_gzip(source.uri):
        return [Chunk(source.uri, 0, None, "bitmap")]
    step = max(chunk_bytes // ROW_BYTES, 1)
    return [
        Chunk(source.uri, offset + row * ROW_BYTES, offset + min(row + step, rows) * ROW_BYTES, "bitmap")
        for row in range(0, rows, step)
    ]


def read_header(uri: str, size: int | None = None) -> tuple[int, int]:
    """(rows, byte at which the first one begins) of an official bitmap file.

    Raises ValueError that names the file and what was expected: for a file that is no .npy file, for another
    shape or type, and for a plain one of another length than its header says. Nothing is ever unpickled.
    """
    name = locations.public(uri)
    zipped = locations.is_gzip(uri)
    data = io.BytesIO(head(uri) if zipped else storage.read_bytes(uri, 0, _HEADER_BYTES))
    try:
        version = np.lib.format.read_magic(data)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version}")
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(data)
    except ValueError as error:
        raise ValueError(f"{name} is not a .npy file of uint8 [N, {ROW_BYTES}]: {error}") from None
    rows = shape[0] if shape else 0
    if dtype != np.uint8 or fortran or shape != (rows, ROW_BYTES):
        order = " in Fortran order" if fortran else ""
        raise ValueError(
            f"{name} holds {dtype} {list(shape)}{order}; expected uint8 [N, {ROW_BYTES}], Google's bitmaps"
        )
    offset = data.tell()
    if zipped:  # its length is seen when it is read
        return rows, offset
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
    return splitmix64(np.uint64(seed) + rows * np.uint64(GOLDEN))


def read_chunk(chunk: Chunk, categories: Categories) -> Iterator[Batch]:
    """The bitmaps of the chunk in batches of some 20,000."""
    category = chunk.category or category_of(chunk.uri)
    rows_in_all, offset = read_header(chunk.uri)
    first = max(chunk.start - offset, 0) // ROW_BYTES
    last = rows_in_all if chunk.end is None else (chunk.end - offset) // ROW_BYTES
    label = categories.labels.get(category)
    if label is None and category not in categories.others:
        raise ValueError(f"{locations.public(chunk.uri)}: {categories.unknown(category)}")
    if label is None:
        none = np.zeros(0, np.uint64)
        pixels = np.zeros((0, ROW_BYTES), np.uint8)
        yield picture_batch(
            none, none.astype(np.uint16), none.astype(np.uint32), pixels, skipped=last - first
        )
        return
    for row, pixels in fixed_rows_of(chunk, offset, ROW_BYTES, first, last):
        rows = np.arange(row, row + len(pixels), dtype=np.uint64)
        labels = np.full(len(rows), label, np.uint16)
        yield picture_batch(
            key_ids(category, rows), labels, (rows - np.uint64(first)).astype(np.uint32), pixels
        )
