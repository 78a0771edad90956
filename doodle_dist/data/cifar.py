"""CIFAR-10's binary version: ``data_batch_1.bin`` … ``test_batch.bin``, records of a label byte and 3,072 bytes.

Layout after "The CIFAR-10 dataset" (Krizhevsky 2009): the label 0..9, then 32×32 pixels' red, green and blue
planes, each row by row. The python version, pickles, is never read.

``.bin`` is also the suffix of Quick, Draw!'s binary format. A file is taken for CIFAR-10's if it is named as
the archive's files are (``data_batch_<number>.bin``, ``test_batch.bin``), or if its length is a multiple of
3,073 bytes and either "_batch" is in its name or ``batches.meta.txt`` lies beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from doodle_dist.data import locations, storage
from doodle_dist.data.bitmaps import key_ids
from doodle_dist.data.blocks import fixed_rows_of
from doodle_dist.data.categories import Categories
from doodle_dist.data.labelled import labelled_batch, names_beside
from doodle_dist.data.records import Batch, Chunk, Source

SIDE, CHANNELS = 32, 3
RECORD_BYTES = 1 + CHANNELS * SIDE * SIDE
META = "batches.meta.txt"
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_OFFICIAL = re.compile(r"(data_batch_\d+|test_batch)\.bin(\.gz)?")


@dataclass(frozen=True, kw_only=True)
class CifarSource(Source):
    """A file of records; ``names`` are what their labels stand for."""

    names: tuple[str, ...]

    @property
    def id_names(self) -> tuple[str, ...]:
        return (locations.basename(self.uri),)


@dataclass(frozen=True, kw_only=True)
class CifarChunk(Chunk):
    """Bytes [start, end): whole records."""

    names: tuple[str, ...]


def is_cifar(entry: storage.FileEntry) -> bool:
    """Whether a ``.bin`` file is one of CIFAR-10's and not of Quick, Draw!'s format, by the rule above."""
    name = locations.basename(entry.uri)
    if _OFFICIAL.fullmatch(name):
        return True
    if entry.size == 0 or entry.size % RECORD_BYTES or not name.endswith(".bin"):
        return False
    return "_batch" in name or storage.exists(entry.uri[: entry.uri.rindex("/") + 1] + META)


def look_at(entry: storage.FileEntry, class_names: tuple[str, ...] = ()) -> CifarSource:
    """The source that a file makes. Raises ValueError for one that is not a whole number of records."""
    name = locations.public(entry.uri)
    if name.endswith(".gz"):
        raise ValueError(f"{name}: CIFAR-10's files are read as its archive holds them; gunzip it first")
    if entry.size == 0 or entry.size % RECORD_BYTES:
        raise ValueError(
            f"{name} has {entry.size:,} bytes, no multiple of {RECORD_BYTES:,}, CIFAR-10's record: "
            "it is cut off or damaged"
        )
    names = class_names or names_beside(entry.uri, META) or NAMES
    return CifarSource(
        entry.uri,
        entry.size,
        "cifar",
        names,
        side=SIDE,
        channels=CHANNELS,
        records=entry.size // RECORD_BYTES,
        names=names,
    )


def plan_chunks(source: CifarSource, chunk_bytes: int) -> list[Chunk]:
    """Ranges of whole records of about ``chunk_bytes``."""
    step = max(chunk_bytes // RECORD_BYTES, 1) * RECORD_BYTES
    return [
        CifarChunk(source.uri, start, min(start + step, source.size), "cifar", names=source.names)
        for start in range(0, source.size, step)
    ]


def read_chunk(chunk: CifarChunk, categories: Categories) -> Iterator[Batch]:
    """The chunk's pictures, uint8 [N, 3·32·32], planes as stored."""
    assert chunk.end is not None
    first, last = chunk.start // RECORD_BYTES, chunk.end // RECORD_BYTES
    for row, records in fixed_rows_of(chunk, 0, RECORD_BYTES, first, last):
        rows = np.arange(row, row + len(records), dtype=np.uint64)
        ids = key_ids(locations.basename(chunk.uri), rows)
        yield labelled_batch(records[:, 1:], records[:, 0], chunk.names, ids, row - first, categories)
