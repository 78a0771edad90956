"""What idx and CIFAR-10 files share: a byte for each picture's label, and names that the labels stand for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from doodle_dist.data import locations, storage
from doodle_dist.data.categories import Categories
from doodle_dist.data.records import Batch, Reject, picture_batch

MAX_NAMES = 256  # labels are bytes
_SKIP, _UNKNOWN = -1, -2


def check_names(names: Sequence[str], where: str) -> tuple[str, ...]:
    """The names that ``where`` (an option or a file) gives. Raises ValueError for none, empty or repeated ones."""
    if not names:
        raise ValueError(f"{where} names no class")
    if len(names) > MAX_NAMES:
        raise ValueError(f"{where} names {len(names)} classes; labels are bytes, so at most {MAX_NAMES}")
    for k, name in enumerate(names):
        if not name or name in names[:k]:
            raise ValueError(
                f"{where}: " + (f"{name!r} is there twice" if name else f"name {k + 1} is empty")
            )
    return tuple(names)


def names_beside(uri: str, file: str) -> tuple[str, ...] | None:
    """The names in the text file ``file`` in the folder of ``uri``, one a line; None where there is no such file.

    Raises ValueError where it is no such list.
    """
    where = uri[: uri.rindex("/") + 1] + file
    if not storage.exists(where):
        return None
    try:
        text = storage.read_bytes(where).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{locations.public(where)} is not text, one class name a line") from None
    return check_names([line.strip() for line in text.strip().split("\n")], locations.public(where))


def labelled_batch(
    pixels: NDArray[np.uint8],
    stored: NDArray[np.uint8],
    names: tuple[str, ...],
    key_id: NDArray[np.uint64],
    first: int,
    categories: Categories,
) -> Batch:
    """Pictures [N, bytes] whose ``stored`` labels [N] index ``names``; record ``first`` of the chunk and on.

    A label without a name is a bad record; one whose name is not wanted is skipped.
    """
    table = np.full(MAX_NAMES, _UNKNOWN, np.int64)
    for number, name in enumerate(names):
        table[number] = categories.labels.get(name, _SKIP if name in categories.others else _UNKNOWN)
    label = table[stored]
    kept = np.flatnonzero(label >= 0)
    rejects = [
        Reject(first + int(row), _reason(int(stored[row]), names, categories))
        for row in np.flatnonzero(label == _UNKNOWN)
    ]
    return picture_batch(
        key_id[kept],
        label[kept].astype(np.uint16),
        (first + kept).astype(np.uint32),
        pixels if len(kept) == len(pixels) else pixels[kept],
        rejects=rejects,
        skipped=int(np.count_nonzero(label == _SKIP)),
    )


def _reason(stored: int, names: tuple[str, ...], categories: Categories) -> str:
    if stored < len(names):
        return categories.unknown(names[stored])
    return f"label {stored} has no name; there are {len(names)}, for 0 to {len(names) - 1}"
