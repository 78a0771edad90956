"""The compiled pass over key_ids says what the hashes say that it stands for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doodle_dist.data.buckets import bucket_of
from doodle_dist.data.split import shard_of, split_of

PERCENTS = [(98, 1, 1), (70, 10, 20), (100, 0, 0), (0, 100, 0), (0, 0, 100), (50, 50, 0), (99.9, 0.05, 0.05)]


@given(
    seed=st.integers(0, 2**32),
    percents=st.sampled_from(PERCENTS),
    shards=st.tuples(*[st.integers(1, 70_000)] * 3),
)
def test_it_is_the_split_and_then_the_shard(
    seed: int, percents: tuple[float, float, float], shards: tuple[int, int, int]
) -> None:
    keys = np.random.default_rng(seed).integers(0, 2**64 - 1, 500, dtype=np.uint64, endpoint=True)
    split = split_of(keys, percents)
    first = np.cumsum([0, *shards[:2]])
    expected = np.zeros(len(keys), np.int64)
    for k, count in enumerate(shards):
        expected[split == k] = first[k] + shard_of(keys[split == k], count)
    assert bucket_of(keys, percents, shards).tolist() == expected.tolist()


def test_percents_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="three percentages"):
        bucket_of(np.zeros(1, np.uint64), (98, 1, 2), (1, 1, 1))
