"""What every reader has in common: sources, chunks of them to read in parallel, and batches of drawings.

A reader is a module with two pure functions, ``plan_chunks(source, chunk_bytes) -> list[Chunk]`` and
``read_chunk(chunk, categories) -> Iterator[Batch]``. One that needs to know more than where its bytes lie has
a Source and a Chunk of its own, derived from these. A bad record never stops a reader: it becomes a
``Reject``. A file that cannot be read at all is a ValueError or a StorageError that names it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from doodle_dist.data import locations, storage

Kind = Literal["ndjson", "raw", "binary", "bitmap", "kaggle", "idx", "cifar", "image"]
PICTURES: frozenset[Kind] = frozenset({"bitmap", "idx", "cifar", "image"})  # the others hold strokes
Crop = Literal["centre", "bounding-box"]

BATCH_ROWS = 32_768
MAX_KEY_ID = 2**64 - 1
HEAD_BYTES = 1 << 16


@dataclass(frozen=True)
class PictureOptions:
    """What is asked of image sets.

    ``side`` and ``channels`` are what pictures in folders are made into: None for ``side`` takes them as they
    are, None for ``channels`` makes them RGB. ``class_names`` are what the labels 0, 1, … of idx and CIFAR-10
    files stand for.
    """

    side: int | None = None
    channels: int | None = None
    crop: Crop = "centre"
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """What is read as one: a file, or files that belong together. ``size`` is the bytes of all.

    ``categories`` are those that it is known to hold; ``records`` how many, where that is known before reading.
    Its pictures are ``side`` × ``side`` with ``channels`` planes; strokes are rasterised to the same.
    """

    uri: str
    size: int
    kind: Kind
    categories: tuple[str, ...] = ()
    side: int = 28
    channels: int = 1
    records: int | None = None

    @property
    def shape(self) -> str:
        """The pictures' shape for a person, such as 32×32×3."""
        return f"{self.side}×{self.side}×{self.channels}"

    @property
    def names_all(self) -> bool:
        """Whether there are no other categories in it: a file not named after its first drawing's may mix."""
        return self.kind in PICTURES or self.categories == (category_of(self.uri),)

    @property
    def id_names(self) -> tuple[str, ...]:
        """The names that its records' key_ids are made from; none where the records bring theirs."""
        return self.categories if self.kind == "bitmap" else ()


@dataclass(frozen=True)
class Chunk:
    """A part of a source that one task reads: bytes [start, end), to the end where ``end`` is None.

    In line formats a chunk owns the lines that *begin* in its range. ``category`` is given where the file's
    name is all that tells it.
    """

    uri: str
    start: int
    end: int | None
    kind: Kind
    category: str | None = None

    def place(self, first: int, line: int) -> tuple[str, int]:
        """(file, line from 1) of the chunk's record ``line``; its first one is line ``first`` of the source."""
        return locations.public(self.uri), first + line


class Reject(NamedTuple):
    """A bad record: its line (0-based, relative to the chunk) and a short reason."""

    line: int
    reason: str


@dataclass
class Batch:
    """Drawings in columns. Row i is the record at ``line[i]``, counted from 0 at the chunk's start.

    ``strokes`` (packed, see data/strokes.py) or ``pixels`` (uint8, rows of side·side·channels) is given,
    never both. ``lines_read`` counts the lines or records this batch stands for, blank, bad and skipped ones
    included, so the lengths of a file's chunks add up to absolute line numbers. ``is_cut_off``: the file ends where
    it should not, at the last of ``rejects``, and nobody knows how many records came after that.
    """

    key_id: NDArray[np.uint64]
    label: NDArray[np.uint16]
    countrycode: pa.DictionaryArray
    recognized: NDArray[np.bool_]
    line: NDArray[np.uint32]
    strokes: pa.Array | None = None
    pixels: pa.Array | None = None
    rejects: list[Reject] = field(default_factory=list)
    lines_read: int = 0
    skipped: int = 0
    is_cut_off: bool = False

    def __len__(self) -> int:
        return len(self.key_id)

    def take(self, rows: NDArray[np.int64]) -> Batch:
        """The rows at these places, in this order; rejects and counts stay behind."""
        return Batch(
            key_id=self.key_id[rows],
            label=self.label[rows],
            countrycode=self.countrycode.take(pa.array(rows)),
            recognized=self.recognized[rows],
            line=self.line[rows],
            strokes=None if self.strokes is None else self.strokes.take(pa.array(rows)),
            pixels=None if self.pixels is None else self.pixels.take(pa.array(rows)),
        )


def merge(a: Batch, b: Batch) -> Batch:
    """The drawings of two batches of strokes in the order of their lines; rejects and counts stay behind."""
    codes = pa.chunked_array([a.countrycode, b.countrycode]).unify_dictionaries()
    both = Batch(
        key_id=np.concatenate((a.key_id, b.key_id)),
        label=np.concatenate((a.label, b.label)),
        countrycode=codes.combine_chunks(),
        recognized=np.concatenate((a.recognized, b.recognized)),
        line=np.concatenate((a.line, b.line)),
        strokes=pa.concat_arrays([a.strokes, b.strokes]),
    )
    return both.take(np.argsort(both.line, kind="stable"))


class NoRecordError(ValueError):
    """A line isn't in its file's format at all: the file's last one may be a part of one."""


class Columns:
    """Collects records one by one and turns them into a Batch. ``no_record`` is the last line that is none."""

    def __init__(self) -> None:
        self.key_id: list[int] = []
        self.label: list[int] = []
        self.countrycode: list[str] = []
        self.recognized: list[bool] = []
        self.line: list[int] = []
        self.strokes: list[bytes] = []
        self.rejects: list[Reject] = []
        self.skipped = 0
        self.is_cut_off = False
        self.no_record: int | None = None

    def batch(self, lines_read: int) -> Batch:
        return Batch(
            key_id=np.array(self.key_id, np.uint64),
            label=np.array(self.label, np.uint16),
            countrycode=countries(self.countrycode),
            recognized=np.array(self.recognized, np.bool_),
            line=np.array(self.line, np.uint32),
            strokes=pa.array(self.strokes, pa.binary()),
            rejects=self.rejects,
            lines_read=lines_read,
            skipped=self.skipped,
            is_cut_off=self.is_cut_off,
        )


def countries(codes: list[str]) -> pa.DictionaryArray:
    """Country codes as a dictionary column (int16 indices, so at most 32,768 different ones)."""
    index: dict[str, int] = {}
    indices = np.fromiter((index.setdefault(code, len(index)) for code in codes), np.int16, len(codes))
    return pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(list(index), pa.string()))


def picture_batch(
    key_id: NDArray[np.uint64],
    label: NDArray[np.uint16],
    line: NDArray[np.uint32],
    pixels: NDArray[np.uint8],
    *,
    rejects: list[Reject] | None = None,
    lines_read: int | None = None,
    skipped: int = 0,
) -> Batch:
    """Pictures [N, channels·side·side] as a batch. Each counts as recognised, in country ""."""
    n, width = pixels.shape
    return Batch(
        key_id=key_id,
        label=label,
        countrycode=pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int16)), pa.array([""])),
        recognized=np.ones(n, np.bool_),
        line=line,
        pixels=pa.Array.from_buffers(pa.binary(width), n, [None, pa.py_buffer(np.ascontiguousarray(pixels))]),
        rejects=rejects or [],
        lines_read=n + skipped + len(rejects or []) if lines_read is None else lines_read,
        skipped=skipped,
    )


def parse_key_id(value: Any) -> int:
    """A key_id from a string of digits or a number. Raises ValueError with a short reason."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value) if len(value) < 40 else MAX_KEY_ID + 1
    elif isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"key_id {_short(value)} is not a number")
    if not 0 <= value <= MAX_KEY_ID:
        raise ValueError("key_id does not fit into 64 bits")
    return int(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


_NAME_PREFIXES = ("full_simplified_", "full_raw_", "full_binary_", "full_numpy_bitmap_")
_NAME_SUFFIXES = (".gz", ".ndjson", ".bin", ".npy", ".csv")


def category_of(uri: str) -> str:
    """The category in a file's name: "full_binary_cat.bin", "cat.bin" and "cat.ndjson.gz" hold "cat"."""
    name = locations.basename(uri)
    if uri.lower().startswith(("http://", "https://", "gs://")):
        name = unquote(name)
    for suffix in _NAME_SUFFIXES:
        name = name.removesuffix(suffix)
    for prefix in _NAME_PREFIXES:
        name = name.removeprefix(prefix)
    return name


def head(uri: str) -> bytes:
    """The file's first 64 KB, decompressed if its name ends with ``.gz``. ValueError for one that is no whole gzip."""
    data = storage.read_bytes(uri, 0, HEAD_BYTES)
    if locations.is_gzip(uri):
        try:
            data = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, 16 * HEAD_BYTES)
        except zlib.error as error:
            what = "is damaged" if data[:2] == b"\x1f\x8b" else "is not a gzip file"
            raise ValueError(f"source: {locations.public(uri)} {what} ({error})") from None
    return data
