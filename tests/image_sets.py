"""Made-up image sets in their official layouts."""

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from doodle_dist.data import sources
from doodle_dist.data.categories import Categories
from doodle_dist.data.records import Batch, PictureOptions


def idx_bytes(array: np.ndarray) -> bytes:
    """An idx file of uint8."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path, stem: str, pixels: np.ndarray, labels: np.ndarray, suffix: str = "") -> Path:
    """Pictures uint8 [N, H, W] and their labels, each a file; the pictures' path."""
    folder.mkdir(parents=True, exist_ok=True)
    images = folder / f"{stem}-images-idx3-ubyte{suffix}"
    for path, array in ((images, pixels), (folder / f"{stem}-labels-idx1-ubyte{suffix}", labels)):
        data = idx_bytes(array.astype(np.uint8))
        path.write_bytes(gzip.compress(data, 1) if suffix else data)
    return images


def write_cifar(folder: Path, name: str, pixels: np.ndarray, labels: np.ndarray) -> Path:
    """Pictures uint8 [N, 3, 32, 32] and their labels in a file of CIFAR-10's binary version."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.concatenate([labels.astype(np.uint8)[:, None], pixels.reshape(len(pixels), 3072)], axis=1)
    (folder / name).write_bytes(rows.tobytes())
    return folder / name


def noise(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def write_folder(root: Path, pictures: dict[str, np.ndarray]) -> None:
    """Pictures uint8 [N, H, W, 3] of each category as ``root/<category>/<number>.png``."""
    for category, pixels in pictures.items():
        (root / category).mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(pixels):
            Image.fromarray(picture).save(root / category / f"{number:04d}.png", compress_level=1)


def write_cub(root: Path, boxes: dict[str, list[tuple[int, int, int, int]]], size: tuple[int, int]) -> None:
    """CUB-200-2011's layout: on black, each picture's box (x, y, width, height) is white."""
    lines: dict[str, list[str]] = {
        name: [] for name in ("images", "image_class_labels", "bounding_boxes", "classes")
    }
    number = 0
    for label, (category, places) in enumerate(boxes.items(), 1):
        lines["classes"].append(f"{label} {category}")
        (root / "images" / category).mkdir(parents=True)
        for k, (x, y, w, h) in enumerate(places):
            number += 1
            picture = np.zeros((size[1], size[0], 3), np.uint8)
            picture[y : y + h, x : x + w] = 255
            Image.fromarray(picture).save(root / "images" / category / f"{k}.jpg", quality=95)
            lines["images"].append(f"{number} {category}/{k}.jpg")
            lines["image_class_labels"].append(f"{number} {label}")
            lines["bounding_boxes"].append(f"{number} {x}.0 {y}.0 {w}.0 {h}.0")
    for name, listed in lines.items():
        (root / f"{name}.txt").write_text("\n".join(listed) + "\n")


def find(*uris: Path | str, **options: object) -> list[sources.Source]:
    return sources.find_sources([str(uri) for uri in uris], None, PictureOptions(**options))  # type: ignore[arg-type]


def read(
    found: list[sources.Source], categories: Categories | None = None, chunk_bytes: int = 1 << 30
) -> Iterator[tuple[str, int, Batch]]:
    """(source, the chunk's first record, batch) of everything in the sources, in order."""
    for source in found:
        first = 0
        for chunk in sources.plan_chunks(source, chunk_bytes):
            lines = 0
            for batch in sources.read_chunk(chunk, categories or sources.categories_of(found)):
                yield source.uri, first, batch
                lines += batch.lines_read
            first += lines


def pixels_of(batch: Batch) -> np.ndarray:
    """uint8 [N, bytes]."""
    rows = batch.pixels.to_pylist() if batch.pixels is not None else []
    return (
        np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1) if rows else np.zeros((0, 0), np.uint8)
    )


def all_of(
    found: list[sources.Source], categories: Categories | None = None, chunk_bytes: int = 1 << 30
) -> tuple[np.ndarray, list[int], list[int], list[int]]:
    """(pixels [N, bytes], labels, key_ids, record numbers) of everything in the sources."""
    batches = list(read(found, categories, chunk_bytes))
    return (
        np.concatenate([pixels_of(b) for _, _, b in batches if len(b)]),
        [int(label) for _, _, b in batches for label in b.label],
        [int(key) for _, _, b in batches for key in b.key_id],
        [first + int(line) for _, first, b in batches for line in b.line],
    )
