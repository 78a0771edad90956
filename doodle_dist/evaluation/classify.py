"""`doodle-dist classify`: what a trained classifier reads in drawings (ndjson) and in pictures (PNG, JPEG)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson
import torch
from numpy.typing import NDArray

from doodle_dist import log
from doodle_dist.data import locations, storage
from doodle_dist.data.decode import decode_picture
from doodle_dist.data.ndjson import split_lines, text_blocks
from doodle_dist.data.raster import rasterize_packed
from doodle_dist.data.records import Chunk
from doodle_dist.data.simplify import simplify_packed
from doodle_dist.data.strokes import pack_strokes
from doodle_dist.evaluation.foreign import as_training_picture
from doodle_dist.pictures import grid, png, to_images
from doodle_dist.run.snapshot import Snapshot, best_device, load_snapshot

_BATCH = 256
_DRAWINGS = (".ndjson", ".ndjson.gz", ".jsonl", ".jsonl.gz")
# A sheet of what was seen shows the first so many.
_SHOWN, _COLUMNS = 400, 20


T = TypeVar("T")


def _batched(things: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(things)
    while some := list(islice(rest, _BATCH)):
        yield some


@dataclass(frozen=True)
class Item:
    """Something to read: where it was found, what it is said to be, and its pixels uint8 [C, H, W]."""

    file: str
    line: int | None
    word: str | None
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class Reading:
    """What a classifier reads: the likeliest categories and their probabilities, the likeliest first."""

    file: str
    line: int | None
    word: str | None
    top: tuple[tuple[str, float], ...]

    def as_json(self) -> bytes:
        answer: dict[str, object] = {"file": self.file}
        if self.line is not None:
            answer |= {"line": self.line, "word": self.word}
        answer["top"] = [{"category": name, "probability": share} for name, share in self.top]
        return orjson.dumps(answer)


def read_items(snapshot: Snapshot, files: list[str], *, as_is: bool = False) -> Iterator[Item]:
    """The drawings of ndjson files, line by line, and the pictures, as the snapshot's net takes them.

    Simplified drawings are rasterised, raw ones simplified first; a line that is no drawing is named on stderr.
    A picture is made into what the training drawings are (foreign.py), but ``as_is``, or where the net was
    trained on colour pictures, only its centred square is taken and resized. Raises ValueError for a file that
    is no picture, or holds no drawing.
    """
    for file in files:
        if locations.public(file).lower().endswith(_DRAWINGS):
            if snapshot.channels != 1:
                raise ValueError(
                    f"{locations.public(file)}: {snapshot.uri} was trained on colour pictures; it reads no drawings"
                )
            yield from _drawings(file, snapshot.side)
            continue
        data = storage.read_bytes(file)
        try:
            if as_is or snapshot.channels != 1:
                pixels = decode_picture(data, snapshot.side, snapshot.channels)
            else:
                pixels = as_training_picture(data, snapshot.side)[None]
        except ValueError as error:
            raise ValueError(f"{locations.public(file)}: {error}") from None
        yield Item(locations.public(file), None, None, pixels)


def _drawings(file: str, side: int) -> Iterator[Item]:
    found, first = False, 1
    for block in text_blocks(Chunk(file, 0, None, "ndjson")):
        every = split_lines(block.data)
        lines = [(number, text) for number, text in enumerate(every, first) if text.strip()]
        first += len(every)
        for some in _batched(lines):
            good = []
            for number, text in some:
                try:
                    good.append((number, *_parsed(text)))
                except ValueError as error:
                    log.say(f"{locations.public(file)}:{number}: {error}")
            if good:
                found = True
                packed = [strokes for _, _, strokes in good]
                offsets = np.cumsum([0, *map(len, packed)])
                rasters = rasterize_packed(np.frombuffer(b"".join(packed), np.uint8), offsets, side=side)
                for (number, word, _), raster in zip(good, rasters, strict=True):
                    yield Item(locations.public(file), number, word, raster[None])
        if block.problem:
            log.say(f"{locations.public(file)}: {block.problem}")
    if not found:
        raise ValueError(f"{locations.public(file)} holds no drawing")


def _parsed(text: bytes) -> tuple[str | None, bytes]:
    """(word or None, packed strokes) of an ndjson line, simplified or raw. Raises ValueError with the reason."""
    try:
        record: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(record, dict) or "drawing" not in record:
        raise ValueError("not a JSON object with a drawing")
    drawing, word = record["drawing"], record.get("word")
    try:
        packed = pack_strokes(drawing)
    except ValueError as reason:
        # Raw drawings have times, or coordinates that are no integers in 0..255.
        try:
            packed = simplify_packed(drawing)
        except ValueError:
            raise reason from None
    return word if isinstance(word, str) else None, packed


def classify(snapshot: Snapshot, items: Iterator[Item], top: int = 3) -> Iterator[tuple[Item, Reading]]:
    """Each item with the ``top`` likeliest categories, a batch of them held at a time."""
    net, top = snapshot.classifier, min(top, len(snapshot.categories))
    device = next(net.parameters()).device
    for some in _batched(items):
        with torch.no_grad():
            logits = net(to_images(np.stack([item.pixels for item in some]), device))
        shares, labels = logits.softmax(1).cpu().topk(top, dim=1)
        for item, row, names in zip(some, shares.tolist(), labels.tolist(), strict=True):
            read = tuple((snapshot.categories[k], share) for k, share in zip(names, row, strict=True))
            yield item, Reading(item.file, item.line, item.word, read)


def classify_files(
    run: str,
    files: list[str],
    *,
    top: int = 3,
    as_is: bool = False,
    seen: Path | None = None,
    which: str = "best",
    as_json: bool = False,
) -> None:
    """`doodle-dist classify`: a line for each drawing or picture, as JSON for a program.

    With ``seen``, also a PNG of the first pictures as the classifier sees them.
    """
    snapshot = load_snapshot(locations.absolute(run), which=which, device=best_device())
    _ = snapshot.classifier
    shown: list[NDArray[np.uint8]] = []
    named = right = 0
    for item, reading in classify(snapshot, read_items(snapshot, files, as_is=as_is), top):
        if seen and len(shown) < _SHOWN:
            shown.append(item.pixels)
        named += reading.word in snapshot.categories
        right += reading.word == reading.top[0][0]
        print(reading.as_json().decode() if as_json else _as_line(reading))
    if named and not as_json:
        print(f"{right:,} of {named:,} drawings of the run's categories read as the word they carry")
    if seen:
        seen.write_bytes(png(grid(np.stack(shown), min(_COLUMNS, len(shown)))))


def _as_line(reading: Reading) -> str:
    place = reading.file if reading.line is None else f"{reading.file}:{reading.line}"
    said = f" ({reading.word})" if reading.word else ""
    return f"{place}{said}: " + ", ".join(f"{name} {share:.3f}" for name, share in reading.top)
