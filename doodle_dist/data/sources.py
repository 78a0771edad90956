"""What kind of file each source is, which category it holds, and which reader reads it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import orjson

from doodle_dist.data import binary, bitmaps, kaggle, ndjson, raw, storage
from doodle_dist.data.categories import OFFICIAL_345, Categories, unknown_category
from doodle_dist.data.records import Batch, Chunk, Kind, category_of

SUFFIXES: dict[str, Kind] = {
    ".ndjson": "ndjson",
    ".ndjson.gz": "ndjson",
    ".bin": "binary",
    ".bin.gz": "binary",
    ".npy": "bitmap",
    ".csv": "kaggle",
    ".csv.gz": "kaggle",
}
READERS: dict[Kind, ModuleType] = {
    "ndjson": ndjson,
    "raw": raw,
    "binary": binary,
    "bitmap": bitmaps,
    "kaggle": kaggle,
}
_PEEK_BYTES = 1 << 16


@dataclass(frozen=True)
class Source:
    """An input file. ``category`` is what its name or first record tells, None for a file of several."""

    uri: str
    size: int
    kind: Kind
    category: str | None


def plan_chunks(source: Source, chunk_bytes: int) -> list[Chunk]:
    """The source's chunks, in the file's order."""
    chunks: list[Chunk] = READERS[source.kind].plan_chunks(source.uri, source.size, chunk_bytes)
    return chunks


def read_chunk(chunk: Chunk, categories: Categories) -> Iterator[Batch]:
    """The chunk's drawings, by the reader of its kind."""
    batches: Iterator[Batch] = READERS[chunk.kind].read_chunk(chunk, categories)
    return batches


def find_sources(uris: Sequence[str], categories: Sequence[str] | None = None) -> list[Source]:
    """The input files at ``uris`` (files, folders, globs), sorted by name, each with its kind.

    With ``categories``, files that by their name hold another official category are left out. Raises
    ValueError for an empty folder, an unknown extension, a mix of drawings and bitmaps, or a wanted category
    that no file holds; StorageError where a location cannot be read.
    """
    if not uris:
        raise ValueError("source: none given")
    entries = {entry.uri: entry for uri in uris for entry in _files_at(uri)}
    wanted = None if categories is None else set(categories)
    kept = [
        entry
        for entry in entries.values()
        if wanted is None or (name := category_of(entry.uri)) in wanted or name not in OFFICIAL_345
    ]
    if not kept:
        raise ValueError(f"source: no file in {_listed(uris)} holds any of the wanted categories")
    with ThreadPoolExecutor(16) as pool:  # on an object store each look takes tens of milliseconds
        sources = list(pool.map(_look_at, kept))
    _refuse_mixtures(sources)
    return sorted(sources, key=lambda source: (storage.basename(source.uri), source.uri))


def categories_of(sources: Sequence[Source], wanted: Sequence[str] | None = None) -> Categories:
    """The categories of a dataset made from ``sources``: those wanted, or all that the sources name.

    Where some are wanted, drawings of other known categories are skipped. Raises ValueError for one that no
    source holds.
    """
    found = {source.category for source in sources if source.category is not None}
    if wanted is None:
        if not found:
            raise ValueError("categories: the sources do not tell them; give --categories")
        return Categories(tuple(sorted(found)))
    several = any(source.category is None for source in sources)
    for name in wanted:
        if name not in found and not several:
            raise ValueError(f"categories: no source holds '{name}'; {unknown_category(name, sorted(found))}")
    names = tuple(sorted(set(wanted)))
    return Categories(names, frozenset({*OFFICIAL_345, *found}.difference(names)))


def _files_at(uri: str) -> list[storage.FileEntry]:
    entries = storage.list_files(uri)
    if not entries:
        raise ValueError(f"source: {storage.public(uri)} holds no files")
    known = [entry for entry in entries if _suffix_of(entry.uri)]
    if not known:
        raise ValueError(
            f"source: {storage.public(entries[0].uri)} has an unknown extension; "
            f"expected one of {', '.join(SUFFIXES)}"
        )
    return known


def _suffix_of(uri: str) -> str | None:
    name = storage.basename(uri)
    return next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(suffix)), None)


def _look_at(entry: storage.FileEntry) -> Source:
    kind = SUFFIXES[_suffix_of(entry.uri) or ""]
    name = category_of(entry.uri)
    if kind == "ndjson":
        # Simplified and raw ndjson have the same name; their first drawing tells them apart.
        record = _first_record(entry.uri)
        word = record.get("word")
        if _is_raw(record.get("drawing")):
            kind = "raw"
        return Source(entry.uri, entry.size, kind, word if isinstance(word, str) else name)
    return Source(entry.uri, entry.size, kind, name)


def _first_record(uri: str) -> dict[str, Any]:
    data = storage.read_bytes(uri, 0, _PEEK_BYTES)
    if uri.endswith(".gz"):
        try:
            data = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, 16 * _PEEK_BYTES)
        except zlib.error as error:
            raise ValueError(f"source: {storage.public(uri)} is not a gzip file ({error})") from None
    for line in data.split(b"\n"):
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict) and "drawing" in record:
            return record
    return {}


def _is_raw(drawing: Any) -> bool:
    return (
        isinstance(drawing, list)
        and bool(drawing)
        and isinstance(drawing[0], list)
        and len(drawing[0]) == 3  # x, y and the time; simplified drawings have no time
    )


def _refuse_mixtures(sources: Sequence[Source]) -> None:
    bitmap = next((source for source in sources if source.kind == "bitmap"), None)
    vector = next((source for source in sources if source.kind != "bitmap"), None)
    if bitmap and vector:
        raise ValueError(
            f"source: {storage.public(bitmap.uri)} holds bitmaps and {storage.public(vector.uri)} drawings; "
            "prepare them as two datasets"
        )


def _listed(uris: Sequence[str]) -> str:
    return ", ".join(storage.public(uri) for uri in uris[:3]) + (", …" if len(uris) > 3 else "")
