"""What kind of file each source is, which categories it holds, and which reader reads it."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from types import ModuleType
from typing import Any

import orjson

from doodle_dist.data import binary, bitmaps, cifar, idx, images, kaggle, locations, ndjson, raw, storage
from doodle_dist.data.blocks import line_blocks
from doodle_dist.data.categories import NAMED_LISTS, OFFICIAL_345, Categories, unknown_category
from doodle_dist.data.labelled import check_names
from doodle_dist.data.records import (
    HEAD_BYTES,
    PICTURES,
    Batch,
    Chunk,
    Kind,
    PictureOptions,
    Source,
    category_of,
    head,
)

SUFFIXES: dict[str, Kind] = {
    ".ndjson": "ndjson",
    ".ndjson.gz": "ndjson",
    ".bin": "binary",  # or CIFAR-10's, see cifar.py
    ".bin.gz": "binary",
    ".npy": "bitmap",
    ".npy.gz": "bitmap",
    ".csv": "kaggle",
    ".csv.gz": "kaggle",
    "images-idx3-ubyte": "idx",
    "images-idx3-ubyte.gz": "idx",
    "images.idx3-ubyte": "idx",
    "images.idx3-ubyte.gz": "idx",
}
# What the readers look for beside such a file: its labels, and what they stand for.
_COMPANIONS = re.compile(
    rf"labels[-.]idx1-ubyte(\.gz)?$|^({re.escape(idx.CLASSES)}|{re.escape(cifar.META)})$"
)
READERS: dict[Kind, ModuleType] = {
    "ndjson": ndjson,
    "raw": raw,
    "binary": binary,
    "bitmap": bitmaps,
    "kaggle": kaggle,
    "idx": idx,
    "cifar": cifar,
    "image": images,
}


def plan_chunks(source: Source, chunk_bytes: int) -> list[Chunk]:
    """The source's chunks, in the file's order."""
    chunks: list[Chunk] = READERS[source.kind].plan_chunks(source, chunk_bytes)
    return chunks


def read_chunk(chunk: Chunk, categories: Categories) -> Iterator[Batch]:
    """The chunk's drawings, by the reader of its kind."""
    batches: Iterator[Batch] = READERS[chunk.kind].read_chunk(chunk, categories)
    return batches


def find_sources(
    uris: Sequence[str],
    categories: Sequence[str] | None = None,
    options: PictureOptions | None = None,
    warn: Callable[[str], object] = lambda _: None,
) -> list[Source]:
    """What there is to read at ``uris`` (files, folders, globs), sorted by name, each with its kind.

    A folder without any file of a known kind may be one of pictures, see images.py; of one with some, ``warn`` is
    told which others are left out. With ``categories``, files that by their name hold another official category
    are left out, and pictures of other categories. Raises ValueError for an empty folder, an unknown extension, a
    mix of drawings and pictures or of pictures of different shapes, a file that is there twice (plain and
    ``.gz``), pictures that would get the same key_ids, or options that nothing there has a use for; StorageError
    where a location cannot be read.
    """
    if not uris:
        raise ValueError("source: none given")
    options = options or PictureOptions()
    if options.class_names:
        check_names(options.class_names, "--class-names")
    files: dict[str, storage.FileEntry] = {}
    pictures: dict[str, dict[str, images.Picture]] = {}
    for uri in uris:
        entries, shown = _files_at(uri, options, warn)
        files |= {entry.uri: entry for entry in entries}
        for root, some in shown.items():
            pictures.setdefault(root, {}).update({picture.path: picture for picture in some})
    wanted = None if categories is None else set(categories)
    kept = [
        entry
        for entry in files.values()
        if wanted is None or (name := category_of(entry.uri)) in wanted or name not in OFFICIAL_345
    ]
    if not kept and not pictures:
        for name in categories or ():
            if name not in OFFICIAL_345:
                raise ValueError(f"categories: {unknown_category(name, [*OFFICIAL_345, *NAMED_LISTS])}")
        raise ValueError(f"source: no file in {_listed(uris)} holds any of the wanted categories")
    with ThreadPoolExecutor(16) as pool:  # on an object store each look takes tens of milliseconds
        sources = list(pool.map(partial(_look_at, options=options), kept))
    sources += images.sources_of(pictures, wanted, options)
    # A folder with none of the wanted pictures only matters where it is all there is: it knows what there is.
    sources = [source for source in sources if source.kind != "image" or source.records] or sources
    _refuse_twins(sources)
    _refuse_mixtures(sources)
    _refuse_same_ids(sources)
    _refuse_unused(options, sources)
    return sorted(sources, key=lambda source: (locations.basename(source.uri), source.uri))


def categories_of(sources: Sequence[Source], wanted: Sequence[str] | None = None) -> Categories:
    """The categories of a dataset made from ``sources``: those wanted, or all that the sources name.

    Where some are wanted, drawings of other known categories are skipped. Raises ValueError for one that no
    source holds, or can be known to hold: a file that mixes categories of one's own is taken at one's word.
    """
    found = {name for source in sources for name in source.categories}
    if wanted is None:
        return Categories(tuple(sorted(found)))
    image_sets = all(source.kind in PICTURES - {"bitmap"} for source in sources)
    known = found if image_sets else found | {*OFFICIAL_345}
    if any(not source.names_all and not {*OFFICIAL_345}.issuperset(source.categories) for source in sources):
        known = known.union(wanted)
    for name in wanted:
        if name not in known:
            raise ValueError(f"categories: {unknown_category(name, [*sorted(known), *NAMED_LISTS])}")
    missing = [name for name in wanted if name not in found]
    if missing and all(source.names_all for source in sources):
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ValueError(f"categories: no source holds '{missing[0]}'{more}")
    names = tuple(sorted(set(wanted)))
    return Categories(names, frozenset({*OFFICIAL_345, *found}.difference(names)))


def _files_at(
    uri: str, options: PictureOptions, warn: Callable[[str], object]
) -> tuple[list[storage.FileEntry], dict[str, list[images.Picture]]]:
    entries = storage.list_files(uri)
    known = [entry for entry in entries if _suffix_of(entry.uri)]
    if known:
        others = [name for entry in entries if not _suffix_of(name := locations.basename(entry.uri))]
        if others := [name for name in others if not _COMPANIONS.search(name)]:
            warn(
                f"left out of {locations.public(uri)}: {', '.join(others[:3])}"
                f"{f' and {len(others) - 3} more' if len(others) > 3 else ''}, of no known kind"
            )
        return known, {}
    pictures = images.find_pictures(uri, entries, options)
    if pictures:
        return [], pictures
    if not entries:
        raise ValueError(f"source: {locations.public(uri)} holds no files")
    raise ValueError(
        f"source: {locations.public(entries[0].uri)} has an unknown extension; "
        f"expected one of {', '.join(SUFFIXES)}, or folders of .png or .jpg"
    )


def _suffix_of(uri: str) -> str | None:
    name = locations.basename(uri)
    return next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(suffix)), None)


def _look_at(entry: storage.FileEntry, options: PictureOptions) -> Source:
    kind = SUFFIXES[_suffix_of(entry.uri) or ""]
    if kind == "idx":
        return idx.look_at(entry, options.class_names)
    if kind == "binary" and cifar.is_cifar(entry):
        return cifar.look_at(entry, options.class_names)
    category: Any = None
    if kind == "ndjson":
        # Simplified and raw ndjson have the same name; their first drawing tells them apart.
        record = _first_record(head(entry.uri)) or _first_long_record(entry.uri)
        category = record.get("word")
        if _is_raw(record.get("drawing")):
            kind = "raw"
    elif kind == "kaggle":
        category = kaggle.first_word(entry.uri, head(entry.uri))
    if not isinstance(category, str):
        category = category_of(entry.uri)
    return Source(entry.uri, entry.size, kind, (category,))


def _first_record(head: bytes) -> dict[str, Any]:
    for line in head.removeprefix(BOM_UTF8).split(b"\n"):
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        # An empty drawing doesn't tell what the others are.
        if isinstance(record, dict) and isinstance(record.get("drawing"), list) and record["drawing"]:
            return record
    return {}


def _first_long_record(uri: str) -> dict[str, Any]:
    """The first drawing of a file whose head doesn't hold a whole one: of its first two blocks of whole lines.

    Two, since the first may hold nothing but bad lines.
    """
    for block in islice(line_blocks(Chunk(uri, 0, None, "ndjson"), HEAD_BYTES), 2):
        if record := _first_record(block.data):
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
    shown = next((source for source in sources if source.kind in PICTURES), None)
    drawn = next((source for source in sources if source.kind not in PICTURES), None)
    if shown and drawn:
        raise ValueError(
            f"source: {locations.public(shown.uri)} holds pictures and {locations.public(drawn.uri)} drawings; "
            "prepare them as two datasets"
        )
    for source in sources:
        if shown and source.shape != shown.shape:
            raise ValueError(
                f"source: {locations.public(shown.uri)} holds pictures of {shown.shape} and "
                f"{locations.public(source.uri)} of {source.shape}; prepare them as two datasets"
            )


def _refuse_twins(sources: Sequence[Source]) -> None:
    names = {source.uri for source in sources}
    for name in sorted(names):
        if f"{name}.gz" in names:
            raise ValueError(f"source: {locations.public(name)} is there twice, plain and as .gz; keep one")


def _refuse_same_ids(sources: Sequence[Source]) -> None:
    """Pictures bring no ids: these are made from names, which must differ for different pictures."""
    holders: dict[tuple[Kind, str], str] = {}
    for source in sources:
        for name in source.id_names:
            other = holders.setdefault((source.kind, name), source.uri)
            if other != source.uri:
                raise ValueError(
                    f"source: {locations.public(other)} and {locations.public(source.uri)} both name pictures by "
                    f"'{name}', so they would get the same key_ids; rename one, or prepare two datasets"
                )


def _refuse_unused(options: PictureOptions, sources: Sequence[Source]) -> None:
    first = locations.public(sources[0].uri)
    if options.class_names and not any(source.kind in ("idx", "cifar") for source in sources):
        raise ValueError(f"--class-names: only idx and CIFAR-10 files have numbered classes, not {first}")
    if any(source.kind == "image" for source in sources):
        return
    crop = None if options.crop == "centre" else options.crop
    for option, value in (("--side", options.side), ("--channels", options.channels), ("--crop", crop)):
        if value is not None:
            raise ValueError(
                f"{option} {value}: only folders of pictures are cropped and resized, not {first}"
            )


def _listed(uris: Sequence[str]) -> str:
    return ", ".join(locations.public(uri) for uri in uris[:3]) + (", …" if len(uris) > 3 else "")
