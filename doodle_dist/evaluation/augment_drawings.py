"""The drawings of the augmentation experiment: nested subsets of real ones, and the batches of each arm. No torch.

What is read is held in memory: at most so many of a category, whatever the dataset's size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from doodle_dist.data.manifest import load_manifest
from doodle_dist.evaluation.drawings import Chunk, chunks, pictures_of, plan_drawings

# Held-out drawings: so many in all, and of a category never fewer than the second where there are as many.
_HELD_OUT, _HELD_OUT_OF_A_CATEGORY = 20_000, 100


@dataclass(frozen=True)
class Drawings:
    """``pixels`` uint8 [N, C, H, W], ``labels`` int64 [N], ``key_ids`` uint64 [N] (0 for generated ones)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    key_ids: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, rows: NDArray[np.int64]) -> Self:
        return type(self)(self.pixels[rows], self.labels[rows], self.key_ids[rows])

    def counts(self, categories: int) -> tuple[int, ...]:
        """Drawings of each label."""
        return tuple(np.bincount(self.labels, minlength=categories).tolist())


def read_pool(uri: str, categories: tuple[str, ...], at_most: int) -> Drawings:
    """The first ``at_most`` training drawings of each category, in the split's fixed order."""
    return _read(uri, "train", categories, at_most)


def read_held_out(uri: str, categories: tuple[str, ...]) -> Drawings:
    """Drawings of the test split to judge by: all, or about 20,000."""
    of_each = max(_HELD_OUT_OF_A_CATEGORY, _HELD_OUT // len(categories))
    return _read(uri, "test", categories, of_each)


def _read(uri: str, split: str, categories: tuple[str, ...], at_most: int) -> Drawings:
    plan = plan_drawings(uri, split, categories)
    manifest = load_manifest(uri)
    counts = dict(zip(manifest.categories, manifest.splits[split].counts, strict=True))
    wanted = np.minimum([counts[name] for name in sorted(categories)], at_most)
    taken = np.zeros(len(categories), np.int64)
    parts = []
    for chunk in chunks(plan, plan.rows):
        labels = chunk.labels
        keep = taken[labels] + _place_among_equals(labels) < wanted[labels]
        if not keep.any():
            continue  # what is still wanted is rare
        table = chunk.table.filter(keep)
        pixels = pictures_of(plan, Chunk(chunk.numbers[keep], table))
        parts.append(Drawings(pixels, labels[keep], table["key_id"].to_numpy()))
        taken += np.bincount(labels[keep], minlength=len(categories))
        if (taken == wanted).all():
            break
    return Drawings(
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.key_ids for part in parts]),
    )


def _place_among_equals(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the same label come before each: [2, 5, 2, 2] -> [0, 0, 1, 2]."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    places = np.empty(len(labels), np.int64)
    places[order] = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    return places


def subset(labels: NDArray[np.int64], k: int | None, seed: int) -> NDArray[np.int64]:
    """The rows of ``k`` drawings of each label, of all for None.

    A function of (labels, k, seed); of one seed a smaller subset lies in every larger one.
    """
    chosen = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        chosen.append(np.random.default_rng((seed, int(label))).permutation(rows)[:k])
    return np.sort(np.concatenate(chosen))


def endless(rows: int, batch: int, steps: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """``steps`` full batches of the numbers below ``rows``: epoch after epoch, each in a new order."""
    order = np.random.default_rng(seed)
    left = np.empty(0, np.int64)
    for _ in range(steps):
        while len(left) < batch:
            left = np.concatenate([left, order.permutation(rows)])
        yield left[:batch]
        left = left[batch:]


def arm_batches(
    real: Drawings, generated: Drawings | None, *, batch: int, steps: int, share: float, seed: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """A classifier's batches: pixels uint8 [B, C, H, W] and labels [B].

    With ``generated`` ones, that ``share`` of each batch's real drawings gives way to generated drawings of
    the same categories. So, whatever the arm, the labels are the same ones in the same order.
    """
    decks = _Decks(generated, seed) if generated is not None else None
    replaced = round(share * batch)
    for rows in endless(len(real), batch, steps, seed):
        pixels, labels = real.pixels[rows], real.labels[rows]
        if decks is not None:
            pixels[:replaced] = decks.deal(labels[:replaced])
        yield pixels, labels


class _Decks:
    """Generated drawings by category: each is dealt once before any comes again, then in a new order."""

    def __init__(self, drawings: Drawings, seed: int) -> None:
        self.drawings = drawings
        self.random = np.random.default_rng((seed, 1))
        self.rows = {int(label): np.flatnonzero(drawings.labels == label) for label in set(drawings.labels)}
        self.left: dict[int, list[int]] = {label: [] for label in self.rows}

    def deal(self, labels: NDArray[np.int64]) -> NDArray[np.uint8]:
        """One drawing of each label [N]: uint8 [N, C, H, W]."""
        rows = []
        for label in labels.tolist():
            if not self.left[label]:
                self.left[label] = self.random.permutation(self.rows[label]).tolist()
            rows.append(self.left[label].pop())
        return self.drawings.pixels[rows]
