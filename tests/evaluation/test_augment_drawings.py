"""The experiment's drawings: nested subsets, no test drawing in training, the same labels in every arm."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doodle_dist.evaluation.augment_drawings import (
    Drawings,
    arm_batches,
    endless,
    read_held_out,
    read_pool,
    subset,
)
from tests.datasets import prepare_here

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=200).map(lambda x: np.array(x, np.int64))


@given(labels=LABELS, seed=st.integers(0, 2**31), small=st.integers(1, 30), more=st.integers(0, 30))
def test_a_smaller_subset_lies_in_every_larger_one(
    labels: np.ndarray, seed: int, small: int, more: int
) -> None:
    few, many = subset(labels, small, seed), subset(labels, small + more, seed)
    assert set(few) <= set(many) <= set(subset(labels, None, seed)) == set(range(len(labels)))
    assert len(set(few)) == len(few)
    for label, there in zip(*np.unique(labels, return_counts=True), strict=True):
        assert (labels[few] == label).sum() == min(small, there)
    assert np.array_equal(few, subset(labels, small, seed))


def test_seeds_have_subsets_of_their_own() -> None:
    labels = np.repeat(np.arange(3), 200)
    assert len(set(subset(labels, 20, 0)) & set(subset(labels, 20, 1))) < 30


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return prepare_here(tmp_path_factory.mktemp("augment"), {"cat": 300, "dog": 200, "fish": 60})


def test_no_test_drawing_is_in_the_pool(data: str) -> None:
    categories = ("cat", "dog", "fish")
    pool, test = read_pool(data, categories, 1000), read_held_out(data, categories)
    assert not set(pool.key_ids.tolist()) & set(test.key_ids.tolist())
    assert len(set(pool.key_ids.tolist())) == len(pool)
    assert len(pool) + len(test) < 560, "the validation split is in neither"
    assert len(test) > 100
    assert pool.pixels.shape == (len(pool), 1, 28, 28)


def test_a_capped_pool_has_so_many_of_each_category_and_lies_in_the_whole_one(data: str) -> None:
    whole, capped = (read_pool(data, ("cat", "dog", "fish"), at_most) for at_most in (1000, 50))
    counts = np.minimum(whole.counts(3), 50)
    assert capped.counts(3) == tuple(counts)
    place = {key: row for row, key in enumerate(whole.key_ids.tolist())}
    rows = np.array([place[key] for key in capped.key_ids.tolist()])
    assert np.array_equal(capped.pixels, whole.pixels[rows])
    assert np.array_equal(capped.labels, whole.labels[rows])


def test_a_pool_of_some_categories_is_labelled_in_sorted_order(data: str) -> None:
    whole, some = read_pool(data, ("cat", "dog", "fish"), 1000), read_pool(data, ("dog", "fish"), 1000)
    of_all = dict(zip(whole.key_ids.tolist(), whole.labels.tolist(), strict=True))
    assert [of_all[key] - 1 for key in some.key_ids.tolist()] == some.labels.tolist()


@given(rows=st.integers(1, 50), batch=st.integers(1, 64), steps=st.integers(1, 20))
def test_endless_batches_are_full_and_no_drawing_is_ahead_of_another(
    rows: int, batch: int, steps: int
) -> None:
    batches = list(endless(rows, batch, steps, seed=0))
    assert [len(b) for b in batches] == [batch] * steps
    times = np.bincount(np.concatenate(batches), minlength=rows)
    assert times.max() - times.min() <= 1


def numbered(counts: tuple[int, ...], first: int) -> Drawings:
    """Pictures of one pixel that hold their own number."""
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = np.arange(first, first + len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return Drawings(pixels, labels, np.arange(len(labels), dtype=np.uint64))


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_arms_see_the_same_labels_and_a_share_of_generated_drawings(share: float) -> None:
    real, made = numbered((20, 7, 3), 0), numbered((10, 10, 10), 100)
    settings = {"batch": 16, "steps": 30, "share": share, "seed": 5}
    alone = list(arm_batches(real, None, **settings))
    mixed = list(arm_batches(real, made, **settings))
    for (pixels, labels), (with_made, its_labels) in zip(alone, mixed, strict=True):
        assert np.array_equal(labels, its_labels)
        generated = with_made.ravel() >= 100
        assert generated.sum() == round(16 * share)
        assert np.array_equal(with_made[~generated], pixels[~generated])
        assert np.array_equal(made.labels[with_made.ravel()[generated] - 100], labels[generated])
    dealt = np.concatenate([pixels.ravel() for pixels, _ in mixed])
    times = np.bincount(dealt[dealt >= 100] - 100, minlength=30).reshape(3, 10)
    assert (times.max(axis=1) - times.min(axis=1) <= 1).all(), "each once before any again"
    assert real.pixels.max() < 100, "the real drawings themselves stay as they are"


def test_a_rare_category_is_found_past_chunks_that_have_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = prepare_here(tmp_path, {"cat": 300, "dog": 20})
    whole = read_pool(data, ("cat", "dog"), 1000).counts(2)
    monkeypatch.setattr("doodle_dist.evaluation.drawings._CHUNK", 8)
    assert read_pool(data, ("cat", "dog"), 20).counts(2) == (20, min(20, whole[1]))
