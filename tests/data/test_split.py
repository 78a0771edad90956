"""Splits and shards: stable, disjoint by construction, and of the sizes asked for."""

import numpy as np
import pytest

from doodle_dist.data.split import place_of, shard_of, split_of, splitmix64, splitmix64_of

KEYS = np.random.default_rng(0).integers(0, 2**63, 200_000, dtype=np.uint64)


def test_splitmix64_matches_the_published_sequence() -> None:
    # The generator seeded with 0 yields these (Vigna's reference splitmix64.c).
    assert splitmix64(np.array([0], np.uint64))[0] == 0xE220A8397B1DCDAF


def test_splitmix64_of_one_number_is_that_of_an_array() -> None:
    numbers = np.random.default_rng(0).integers(0, 2**64, 1_000, dtype=np.uint64)
    numbers = np.concatenate([numbers, np.array([0, 1, 2**63, 2**64 - 1], np.uint64)])
    assert [splitmix64_of(int(x)) for x in numbers] == splitmix64(numbers).tolist()


def test_shares_are_the_percents() -> None:
    split = split_of(KEYS, (70, 10, 20))
    shares = np.bincount(split, minlength=3) / len(KEYS)
    assert np.allclose(shares, [0.7, 0.1, 0.2], atol=0.005)


def test_a_side_depends_on_nothing_but_the_key() -> None:
    split = split_of(KEYS, (98, 1, 1))
    order = np.random.default_rng(1).permutation(len(KEYS))
    assert np.array_equal(split_of(KEYS[order], (98, 1, 1)), split[order])
    assert np.array_equal(split_of(KEYS[:10], (98, 1, 1)), split[:10])


def test_a_larger_training_share_takes_nothing_out_of_training() -> None:
    small, large = split_of(KEYS, (70, 10, 20)), split_of(KEYS, (90, 5, 5))
    assert np.all(large[small == 0] == 0)


@pytest.mark.parametrize(
    ("percents", "used"), [((100, 0, 0), {0}), ((99.9, 0.1, 0), {0, 1}), ((50, 0, 50), {0, 2})]
)
def test_a_percent_of_zero_catches_nothing(percents: tuple[float, float, float], used: set[int]) -> None:
    assert set(np.unique(split_of(KEYS, percents)).tolist()) == used


def test_percents_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="add up to 100"):
        split_of(KEYS, (98, 1, 2))


def test_shards_are_even() -> None:
    shard = shard_of(KEYS, 7)
    assert shard.dtype == np.int64
    assert np.allclose(np.bincount(shard, minlength=7) / len(KEYS), 1 / 7, atol=0.005)
    assert set(np.unique(shard).tolist()) == set(range(7))


def test_split_shard_and_place_are_independent() -> None:
    split, shard, place = split_of(KEYS, (50, 25, 25)), shard_of(KEYS, 4), place_of(KEYS)
    table = np.histogram2d(split, shard, bins=(3, 4))[0] / len(KEYS)
    assert np.allclose(table, np.outer([0.5, 0.25, 0.25], [0.25] * 4), atol=0.005)
    assert abs(np.corrcoef(place.astype(float), shard)[0, 1]) < 0.01
    assert len(np.unique(place)) == len(np.unique(KEYS))
