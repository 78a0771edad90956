"""The hashes of split.py, compiled."""

# Numba infers the kernels' types, and its arithmetic is not Python's: mypy checks only what is annotated here.
# mypy: allow-untyped-defs, no-check-untyped-defs

import numpy as np

from doodle_dist.data.kernels.jit import inline, jit

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@inline
def mix(x):
    """split.splitmix64 of one number."""
    z = x + GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@jit
def buckets_of(key_id, cuts, last, salts, first, shards):
    """What buckets.bucket_of says of every key_id, from what it reckons of its arguments beforehand."""
    buckets = np.empty(len(key_id), np.int64)
    for i in range(len(key_id)):
        mixed = mix(key_id[i])
        unit = np.float64(mix(mixed ^ salts[0]) >> np.uint64(11)) / 2.0**53
        split = min((unit >= cuts[0]) + (unit >= cuts[1]), last)
        buckets[i] = first[split] + np.int64(mix(mixed ^ salts[1]) % shards[split])
    return buckets
