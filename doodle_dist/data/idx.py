"""MNIST's idx files: ``*-images-idx3-ubyte`` with ``*-labels-idx1-ubyte`` beside it, each also ``.gz``.

Layout, big-endian, after "The MNIST database" (LeCun, Cortes & Burges): two zero bytes, the type (8: u8), the
number of dimensions, each dimension's size as u32, then the values, row by row. Fashion-MNIST's files have the
same names, so what the labels stand for is told by an option or by ``classes.txt`` beside them, one name a
line; otherwise they are digits. Pictures stay as they are stored, white ink on black in both sets.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from doodle_dist.data import locations, storage
from doodle_dist.data.bitmaps import key_ids
from doodle_dist.data.blocks import fixed_rows_of
from doodle_dist.data.categories import Categories
from doodle_dist.data.labelled import labelled_batch, names_beside
from doodle_dist.data.records import Batch, Chunk, Source, head

CLASSES = "classes.txt"
DIGITS = tuple("0123456789")
MAX_SIDE = 512
_IMAGES = re.compile(r"images([-.])idx3-ubyte(\.gz)?$")  # some copies are named "train-images.idx3-ubyte"
_TYPES = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}


@dataclass(frozen=True, kw_only=True)
class IdxSource(Source):
    """A file of pictures and its file of labels; ``names`` are what these stand for."""

    labels: str
    names: tuple[str, ...]

    @property
    def id_names(self) -> tuple[str, ...]:
        return (_id_name(self.uri),)


@dataclass(frozen=True, kw_only=True)
class IdxChunk(Chunk):
    """Bytes [start, end) of the pictures' file, or all of a ``.gz``."""

    labels: str
    names: tuple[str, ...]


def look_at(entry: storage.FileEntry, class_names: tuple[str, ...] = ()) -> IdxSource:
    """The source that a file of pictures makes with its labels.

    Raises ValueError, naming the file and what was expected, for a wrong magic number, type or dimensions, for
    a file of another length than its header says, and for labels that are missing or of another count.
    """
    labels = _labels_of(entry.uri)
    count, height, width = read_header(entry.uri, 3, entry.size)
    (label_count,) = read_header(labels.uri, 1, labels.size)
    name = locations.public(entry.uri)
    if height != width or not 0 < height <= MAX_SIDE:
        raise ValueError(f"{name} holds pictures of {height}×{width}; expected square ones, up to {MAX_SIDE}")
    if count != label_count:
        raise ValueError(
            f"{name} holds {count:,} pictures and {locations.public(labels.uri)} {label_count:,} labels; "
            "expected one for each"
        )
    names = class_names or names_beside(entry.uri, CLASSES) or DIGITS
    return IdxSource(
        entry.uri,
        entry.size + labels.size,
        "idx",
        names,
        side=height,
        records=count,
        labels=labels.uri,
        names=names,
    )


def read_header(uri: str, dimensions: int, size: int | None = None) -> tuple[int, ...]:
    """The sizes of an idx file's dimensions. With ``size`` (bytes), a plain file's length is checked too.

    Raises ValueError that names the file and what was expected.
    """
    name, data = locations.public(uri), head(uri)
    expected = f"expected an idx file of uint8 with {dimensions} dimension{'s' if dimensions > 1 else ''}"
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        raise ValueError(f"{name} begins with 0x{data[:4].hex()}, no idx file's magic number; {expected}")
    if data[2] != 8 or data[3] != dimensions:
        raise ValueError(f"{name} holds {_TYPES[data[2]]} with {data[3]} dimensions; {expected}")
    offset = 4 + 4 * dimensions
    if len(data) < offset:
        raise ValueError(f"{name} ends within its header: it is cut off")
    sizes = struct.unpack_from(f">{dimensions}I", data, 4)
    if size is not None and not locations.is_gzip(uri) and size != offset + prod(sizes):
        raise ValueError(
            f"{name} has {size:,} bytes, its header says {'×'.join(map(str, sizes))} values, "
            f"{offset + prod(sizes):,} bytes: it is cut off or damaged"
        )
    return sizes


def _labels_of(uri: str) -> storage.FileEntry:
    stem = _IMAGES.sub(r"labels\1idx1-ubyte", uri)
    for candidate in (f"{stem}.gz", stem) if locations.is_gzip(uri) else (stem, f"{stem}.gz"):
        if storage.exists(candidate):
            return storage.FileEntry(candidate, storage.size(candidate))
    raise ValueError(
        f"{locations.public(uri)} has no labels: expected {locations.basename(stem)} or "
        f"{locations.basename(stem)}.gz beside it"
    )


def _id_name(uri: str) -> str:
    """What key_ids are made from, with the row: the file's name, the same for each way of writing it."""
    return _IMAGES.sub("images-idx3-ubyte", locations.basename(uri))


def plan_chunks(source: IdxSource, chunk_bytes: int) -> list[Chunk]:
    """Ranges of whole pictures of about ``chunk_bytes``; a ``.gz`` file is one chunk."""
    if locations.is_gzip(source.uri):
        return [IdxChunk(source.uri, 0, None, "idx", labels=source.labels, names=source.names)]
    width, rows = source.side * source.side, source.records or 0
    step = max(chunk_bytes // width, 1)
    return [
        IdxChunk(
            source.uri,
            16 + row * width,
            16 + min(row + step, rows) * width,
            "idx",
            labels=source.labels,
            names=source.names,
        )
        for row in range(0, rows, step)
    ]


def read_chunk(chunk: IdxChunk, categories: Categories) -> Iterator[Batch]:
    """The chunk's pictures, uint8 [N, side·side]. Raises ValueError for a file that ends too early."""
    count, height, side = read_header(chunk.uri, 3)
    width = height * side
    first = max(chunk.start - 16, 0) // width
    last = count if chunk.end is None else (chunk.end - 16) // width
    stored = _read_labels(chunk.labels, first, last)
    for row, pixels in fixed_rows_of(chunk, 16, width, first, last):
        at = row - first
        rows = np.arange(row, row + len(pixels), dtype=np.uint64)
        ids = key_ids(_id_name(chunk.uri), rows)
        yield labelled_batch(pixels, stored[at : at + len(pixels)], chunk.names, ids, at, categories)


def _read_labels(uri: str, first: int, last: int) -> NDArray[np.uint8]:
    whole = Chunk(uri, 0, None, "idx")
    if locations.is_gzip(uri):  # one stream: all of it is read, whichever are asked for
        (count,) = read_header(uri, 1)
        parts = [part for _, part in fixed_rows_of(whole, 8, 1, 0, count)]
        return np.concatenate(parts).ravel()[first:last] if parts else np.zeros(0, np.uint8)
    parts = [part for _, part in fixed_rows_of(whole, 8, 1, first, last)]
    return np.concatenate(parts).ravel() if parts else np.zeros(0, np.uint8)
