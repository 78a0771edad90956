"""Folders of pictures, ``root/<category>/<file>.png`` or ``.jpg``: a picture's category is its folder's name.

Each picture is a record of its own: one that cannot be decoded is a reject, with its file as the place. Its
key_id is a hash of ``<category>/<file>``, so it does not depend on where the root lies. A source may also be a
category's own folder, a glob of pictures or one picture, or hold the lists of CUB-200-2011 (see cub.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from doodle_dist.data import cub, locations, storage
from doodle_dist.data.blocks import BLOCK_BYTES
from doodle_dist.data.categories import Categories
from doodle_dist.data.decode import Box, decode_picture, picture_size
from doodle_dist.data.records import Batch, Chunk, PictureOptions, Reject, Source, picture_batch

# Other formats are listed too, so that such a file becomes a reject and is not left out in silence.
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff")
MAX_FILE_BYTES = 64 << 20
MAX_OWN_SIDE = 512  # pictures that are larger are hardly meant to be trained on as they are
FILES_PER_CHUNK = 2048
_READS = 16  # at once: on an object store each takes tens of milliseconds
_READ_AHEAD = 256


class Picture(NamedTuple):
    """A picture's file: its path below the source, ``<category>/<name>``, its bytes, and what to crop it to."""

    path: str
    size: int
    box: Box | None = None

    @property
    def category(self) -> str:
        return self.path.partition("/")[0]


@dataclass(frozen=True, kw_only=True)
class FolderSource(Source):
    """Pictures below ``uri``, made ``side`` × ``side``, or with ``resize`` off refused if they are not."""

    files: tuple[Picture, ...]
    resize: bool

    @property
    def id_names(self) -> tuple[str, ...]:
        return tuple(picture.path for picture in self.files)


@dataclass(frozen=True, kw_only=True)
class FolderChunk(Chunk):
    """Some of a source's pictures; each is a record."""

    files: tuple[Picture, ...]
    side: int
    channels: int
    resize: bool

    def place(self, first: int, line: int) -> tuple[str, int]:
        return locations.join(self.uri, self.files[line].path), 1


# --- what there is --------------------------------------------------------------------------------------


def find_pictures(
    uri: str, listed: Sequence[storage.FileEntry], options: PictureOptions
) -> dict[str, list[Picture]]:
    """The pictures at ``uri`` by the folder that holds their categories' folders; empty where there are none.

    ``listed`` is what `storage.list_files` gives for it. Raises ValueError for pictures that don't lie in
    ``<category>/``, and for bounding boxes where there is no list of them.
    """
    boxes = options.crop == "bounding-box"
    is_folder = not any(entry.uri == uri for entry in listed) and storage.is_folder(uri)
    root = cub.layout_root(uri) if is_folder else None
    if root:
        return _of_lists(root, boxes=boxes)
    entries = storage.list_files(uri, recursive=True, hidden=True) if is_folder else listed
    shown = [entry for entry in entries if _is_picture(entry.uri)]
    if shown and boxes:
        raise ValueError(f"--crop bounding-box: {locations.public(uri)} has no {cub.BOXES}")
    if is_folder:
        _check_depth(uri, shown)
    found: dict[str, list[Picture]] = {}
    for entry in shown:
        above, _, name = locations.absolute(entry.uri).rpartition("/")
        above, _, category = above.rpartition("/")
        if not above.strip("/") or above.endswith("/"):
            raise ValueError(f"{entry.uri} lies in no folder; expected <root>/<category>/{name}")
        found.setdefault(above, []).append(Picture(f"{category}/{name}", entry.size))
    return found


def _is_picture(uri: str) -> bool:
    name = locations.basename(uri)
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _check_depth(uri: str, shown: Sequence[storage.FileEntry]) -> None:
    base = locations.split_uri(uri)[1].rstrip("/") + "/"
    depths = {locations.split_uri(entry.uri)[1][len(base) :].count("/"): entry.uri for entry in shown}
    odd = [example for depth, example in depths.items() if depth != 1]
    if odd and set(depths) != {0}:  # 0: the folder is a category's own
        raise ValueError(
            f"source: {odd[0]} does not lie in {uri}/<category>/; every picture's folder should be its category's"
        )


def _of_lists(root: str, *, boxes: bool) -> dict[str, list[Picture]]:
    images = locations.join(root, "images")
    listed = cub.read_layout(root, boxes=boxes)
    base = len(locations.split_uri(images)[1]) + 1
    sizes = {
        locations.split_uri(entry.uri)[1][base:]: entry.size
        for entry in storage.list_files(images, recursive=True, hidden=True)
    }
    missing = [path for path in listed if path not in sizes]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ValueError(f"{root}/{cub.IMAGES} names {missing[0]}, which is not in {images}{more}")
    return {images: [Picture(path, sizes[path], box) for path, box in listed.items()]}


def sources_of(
    found: dict[str, dict[str, Picture]], wanted: Collection[str] | None, options: PictureOptions
) -> list[FolderSource]:
    """A source for each folder of categories; with ``wanted``, of the pictures of these only.

    Raises ValueError where ``side`` is not given and the first picture doesn't tell it.
    """
    sources = []
    for root, pictures in found.items():
        files = tuple(
            picture for _, picture in sorted(pictures.items()) if wanted is None or picture.category in wanted
        )
        side = options.side or (_own_side(root, files[0], options) if files else 0)
        source = FolderSource(
            root,
            sum(picture.size for picture in files),
            "image",
            tuple(sorted({picture.category for picture in pictures.values()})),
            side=side,
            channels=options.channels or 3,
            records=len(files),
            files=files,
            resize=options.side is not None,
        )
        sources.append(source)
    return sources


def _own_side(root: str, picture: Picture, options: PictureOptions) -> int:
    uri = locations.join(root, picture.path)
    if options.crop != "centre":
        raise ValueError(f"--crop {options.crop} needs --side, the size that pictures are made")
    try:
        width, height = picture_size(storage.read_bytes(uri, 0, MAX_FILE_BYTES))
    except ValueError as error:
        raise ValueError(f"{uri}: {error}; --side says how large pictures should be") from None
    if width != height or width > MAX_OWN_SIDE:
        raise ValueError(f"{uri} has {width}×{height} pixels; give --side N, and pictures are made N×N")
    return width


# --- reading --------------------------------------------------------------------------------------------


def plan_chunks(source: FolderSource, chunk_bytes: int) -> list[Chunk]:
    """Runs of pictures of about ``chunk_bytes``, at most 2,048: a task for each picture would be a slow one."""
    runs: list[list[Picture]] = []
    size = 0
    for picture in source.files:
        if not runs or size + picture.size > chunk_bytes or len(runs[-1]) == FILES_PER_CHUNK:
            runs.append([])
            size = 0
        runs[-1].append(picture)
        size += picture.size
    return [
        FolderChunk(
            source.uri,
            0,
            None,
            "image",
            files=tuple(run),
            side=source.side,
            channels=source.channels,
            resize=source.resize,
        )
        for run in runs
    ]


def key_ids(paths: Sequence[str]) -> NDArray[np.uint64]:
    """Key ids of pictures, which have none: blake2b of ``<category>/<file>``, 64 bits of it."""
    hashes = (hashlib.blake2b(path.encode(), digest_size=8).digest() for path in paths)
    return np.frombuffer(b"".join(hashes), "<u8").astype(np.uint64)


def read_chunk(chunk: FolderChunk, categories: Categories) -> Iterator[Batch]:
    """The chunk's pictures, uint8 [N, channels·side·side], in batches of at most 256.

    Raises StorageError for a file that has gone since it was listed.
    """
    step = max(min(_READ_AHEAD, BLOCK_BYTES // (chunk.channels * chunk.side**2)), 1)
    with ThreadPoolExecutor(_READS) as pool:
        for first in range(0, len(chunk.files), step):
            part = chunk.files[first : first + step]
            contents = pool.map(lambda picture: _read(chunk.uri, picture, categories), part)
            yield _decode(chunk, part, list(contents), first, categories)


def _read(root: str, picture: Picture, categories: Categories) -> bytes:
    """The file's bytes; none where they are not going to be looked at."""
    if picture.size > MAX_FILE_BYTES or picture.category not in categories.labels:
        return b""
    return storage.read_bytes(locations.join(root, picture.path))


def _decode(
    chunk: FolderChunk, part: Sequence[Picture], contents: list[bytes], first: int, categories: Categories
) -> Batch:
    rows: list[int] = []
    rejects: list[Reject] = []
    pixels = np.empty((len(part), chunk.channels, chunk.side, chunk.side), np.uint8)
    skipped = 0
    for k, (picture, data) in enumerate(zip(part, contents, strict=True)):
        if picture.category in categories.others:
            skipped += 1
            continue
        try:
            if picture.category not in categories.labels:
                raise ValueError(categories.unknown(picture.category))
            if picture.size > MAX_FILE_BYTES:
                raise ValueError(f"a file of more than {MAX_FILE_BYTES >> 20} MB")
            pixels[len(rows)] = decode_picture(
                data, chunk.side, chunk.channels, box=picture.box, resize=chunk.resize
            )
            rows.append(k)
        except ValueError as error:
            rejects.append(Reject(first + k, str(error)))
    return picture_batch(
        key_ids([part[k].path for k in rows]),
        np.array([categories.labels[part[k].category] for k in rows], np.uint16),
        np.array(rows, np.uint32) + np.uint32(first),
        pixels[: len(rows)].reshape(len(rows), chunk.channels * chunk.side**2),
        rejects=rejects,
        skipped=skipped,
    )
