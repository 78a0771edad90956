"""Where a drawing goes: its split, its shard and its place there, all from hashes of its key_id.

Pure functions of NumPy arrays; nothing here knows of files or Ray.
"""

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "val", "test")

_U64 = NDArray[np.uint64]
_MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15  # what a SplitMix64 stream goes on by


def splitmix64(x: _U64) -> _U64:
    """Mix every u64 of ``x`` into another u64, a bijection (Steele, Lea & Flood 2014, SplitMix64)."""
    with np.errstate(over="ignore"):
        z = x.astype(np.uint64) + np.uint64(GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def splitmix64_of(x: int) -> int:
    """`splitmix64` of one number: what training asks for several times a step, and arrays are slow at."""
    z = (x + GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def keyed_hash(key_id: _U64, purpose: int) -> _U64:
    """One of many independent hashes of ``key_id``; ``purpose`` picks which."""
    salt = splitmix64(np.array([purpose], dtype=np.uint64))[0]
    return splitmix64(splitmix64(key_id) ^ salt)


# The purposes are part of the data contract: changing one moves drawings between splits or shards.
SPLIT_PURPOSE, SHARD_PURPOSE, PLACE_PURPOSE = 1, 2, 3


def split_of(key_id: _U64, percents: tuple[float, float, float]) -> NDArray[np.int8]:
    """Index into SPLITS of every drawing.

    The three percents cut [0, 1) at two points, so growing the training share only moves drawings out of
    the others, and a drawing's side depends on nothing but its key_id and these percents. Raises ValueError for
    percents that don't add up to 100.
    """
    cuts, last = split_cuts(percents)
    unit = (keyed_hash(key_id, SPLIT_PURPOSE) >> np.uint64(11)).astype(np.float64) / 2.0**53
    return np.minimum(np.searchsorted(cuts, unit, side="right"), last).astype(np.int8)


def split_cuts(percents: tuple[float, float, float]) -> tuple[NDArray[np.float64], int]:
    """Where in [0, 1) one split ends and the next begins, and the last that gets any drawings. Errors as `split_of`."""
    if any(p < 0 for p in percents) or abs(sum(percents) - 100) > 1e-6:
        raise ValueError(f"split: {percents} is not three percentages that add up to 100, such as 98,1,1")
    cuts = np.cumsum(np.asarray(percents[:2], dtype=np.float64)) / 100.0
    # A percent of zero must catch nothing, even where rounding puts a cut at 1 - epsilon.
    return cuts, 2 if percents[2] else 1 if percents[1] else 0


def shard_of(key_id: _U64, shards: int) -> NDArray[np.int64]:
    """Which of a split's ``shards`` files holds every drawing: uniform, the same for any input order.

    The rule that buckets.py compiles.
    """
    return (keyed_hash(key_id, SHARD_PURPOSE) % np.uint64(shards)).astype(np.int64)


def place_of(key_id: _U64) -> _U64:
    """Sort key inside a shard. Sorting by it is the global shuffle: every shard is a uniform sample."""
    return keyed_hash(key_id, PLACE_PURPOSE)
