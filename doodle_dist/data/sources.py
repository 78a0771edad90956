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
from doodle_dist.data.categories import OFFICIAL_345, Categories
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
    """An input file (bytes). ``category`` is what its first drawing, or else its name, tells."""

    uri: str
    size: int
    kind: Kind
    category: str


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
    ValueError for an empty folder, an unknown extension, a mix of drawings and bitmaps, or a file that is
    there twice (plain and ``.gz``); StorageError where a location cannot be read.
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
    _refuse_twins(sources)
    return sorted(sources, key=lambda source: (storage.basename(source.uri), source.uri))


def categories_of(sources: Sequence[Source], wanted: Sequence[str] | None = None) -> Categories:
    """The categories of a dataset made from ``sources``: those wanted, or all that the sources name.

    Where some are wanted, drawings of other known categories are skipped. Raises ValueError for one that no
    source holds.
    """
    found = {source.category for source in sources}
    if wanted is None:
        return Categories(tuple(sorted(found)))
    # A file that is not named after its first drawing's category may hold several.
    several = any(source.category != category_of(source.uri) for source in sources)
    missing = [name for name in wanted if name not in found]
    if missing and not several:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ValueError(f"categories: no source holds '{missing[0]}'{more}")
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
    category: Any = None
    if kind == "ndjson":
        # Simplified and raw ndjson have the same name; their first drawing tells them apart.
        record = _first_record(_head(entry.uri))
        category = record.get("word")
        if _is_raw(record.get("drawing")):
            kind = "raw"
    elif kind == "kaggle":
        category = kaggle.first_word(entry.uri, _head(entry.uri))
    if not isinstance(category, str):
        category = category_of(entry.uri)
    return Source(entry.uri, entry.size, kind, category)


def _head(uri: str) -> bytes:
    data = storage.read_bytes(uri, 0, _PEEK_BYTES)
    if uri.endswith(".gz"):
        try:
            data = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, 16 * _PEEK_BYTES)
        except zlib.error as error:
            raise ValueError(f"source: {storage.public(uri)} is not a gzip file ({error})") from None
    return data


def _first_record(head: bytes) -> dict[str, Any]:
    for line in head.split(b"\n"):
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


def _refuse_twins(sources: Sequence[Source]) -> None:
    names = {source.uri for source in sources}
    for name in sorted(names):
        if f"{name}.gz" in names:
            raise ValueError(f"source: {storage.public(name)} is there twice, plain and as .gz; keep one")


def _listed(uris: Sequence[str]) -> str:
    return ", ".join(storage.public(uri) for uri in uris[:3]) + (", …" if len(uris) > 3 else "")
