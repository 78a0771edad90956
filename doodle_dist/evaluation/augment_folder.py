"""The experiment's folder: each finished cell, a file of its own, so that an experiment goes on where it was left."""

import io
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import orjson
from pydantic import BaseModel, ValidationError

from doodle_dist.data import locations, storage
from doodle_dist.evaluation.augment_drawings import Drawings
from doodle_dist.evaluation.augment_results import Arm, Cell, GanCell, name_of
from doodle_dist.pictures import named_rows, png

SETTINGS = "settings.json"
_SHOWN = 12  # drawings of a category in a GAN's picture

M = TypeVar("M", bound=BaseModel)


def cell_name(k: int | None, seed: int, arm: Arm | None) -> str:
    """``k30-seed0-classic``; without an arm the GAN's, ``k30-seed0-gan``."""
    return f"k{name_of(k)}-seed{seed}-{arm or 'gan'}"


class Folder:
    """A local folder or a URI; the driver alone writes to it."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def settle(self, settings: Mapping[str, object]) -> None:
        """Note what its cells are made with. Raises ValueError where those that are there were made otherwise."""
        where = locations.join(self.uri, SETTINGS)
        if not storage.exists(where):
            storage.write_atomic(where, orjson.dumps(dict(settings), option=orjson.OPT_INDENT_2))
            return
        try:
            there = orjson.loads(storage.read_bytes(where))
        except orjson.JSONDecodeError as error:
            raise ValueError(f"{where} is damaged: {error}; give another --out") from None
        for key in sorted(set(there) | set(settings)):
            if there.get(key) != settings.get(key):
                raise ValueError(
                    f"--out {self.uri}: its cells were made with {key}={there.get(key)!r}, and "
                    f"{settings.get(key)!r} is asked for; give another --out, or the same settings"
                )

    def classifier(self, k: int | None, seed: int, arm: Arm) -> Cell | None:
        """A finished classifier's cell, None for one that isn't."""
        return self._read(cell_name(k, seed, arm), Cell)

    def gan(self, k: int | None, seed: int) -> GanCell | None:
        """A finished GAN's cell, None for one that isn't."""
        name = cell_name(k, seed, None)
        return self._read(name, GanCell) if storage.exists(self._place(f"{name}.npz")) else None

    def generated(self, k: int | None, seed: int) -> Drawings:
        """What a finished GAN drew."""
        data = storage.read_bytes(self._place(f"{cell_name(k, seed, None)}.npz"))
        with np.load(io.BytesIO(data)) as arrays:
            labels = arrays["labels"]
            return Drawings(arrays["pixels"], labels, np.zeros(len(labels), np.uint64))

    def keep_classifier(self, cell: Cell) -> None:
        self._write(cell_name(cell.k, cell.seed, cell.arm), cell)

    def keep_gan(self, cell: GanCell, drawings: Drawings, categories: tuple[str, ...]) -> None:
        """The drawings and a picture of some first: the cell, written last, says that they are there."""
        name, sink = cell_name(cell.k, cell.seed, None), io.BytesIO()
        np.savez_compressed(sink, pixels=drawings.pixels, labels=drawings.labels)
        storage.write_atomic(self._place(f"{name}.npz"), sink.getvalue())
        rows = [(c, drawings.pixels[drawings.labels == n][:_SHOWN]) for n, c in enumerate(categories)]
        storage.write_atomic(self._place(f"{name}.png"), png(named_rows(rows)))
        self._write(name, cell)

    def _place(self, file: str) -> str:
        return locations.join(self.uri, "cells", file)

    def _write(self, name: str, cell: BaseModel) -> None:
        storage.write_atomic(self._place(f"{name}.json"), cell.model_dump_json(indent=1).encode())

    def _read(self, name: str, kind: type[M]) -> M | None:
        where = self._place(f"{name}.json")
        if not storage.exists(where):
            return None
        try:
            return kind.model_validate_json(storage.read_bytes(where))
        except ValidationError as error:
            raise ValueError(f"{where} is no cell of this release: {error.errors()[0]['msg']}") from None
