"""A classifier's figures: by hand, by brute force, and the same however the drawings are dealt out."""

import numpy as np
import pytest
import torch
from torch import Tensor

from doodle_dist.metrics.classifier import (
    Calibration,
    Confusion,
    Figures,
    category_scores,
    confusion_picture,
    most_confused,
    reliability_picture,
)

CPU = torch.device("cpu")


def figures_of(logits: Tensor, labels: Tensor) -> Figures:
    confusion = Confusion(logits.shape[1], CPU)
    confusion.add(logits, labels)
    figures = confusion.figures()
    assert figures is not None
    return figures


def random_answers(rows: int, categories: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(categories, (rows,), generator=random)
    logits = torch.randn(rows, categories, generator=random)
    return logits + 1.5 * torch.nn.functional.one_hot(labels, categories), labels


def test_four_drawings_by_hand() -> None:
    # The right category comes first, second, third and fourth.
    logits = torch.tensor([[4.0, 3, 2, 1], [3.0, 4, 2, 1], [2.0, 3, 4, 1], [4.0, 3, 2, 1]])
    scalars = figures_of(logits, torch.tensor([0, 0, 0, 3])).scalars
    assert scalars["top1"] == 1 / 4
    assert scalars["top3"] == 3 / 4
    assert scalars["map3"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 4)
    assert scalars["balanced"] == pytest.approx((1 / 3 + 0) / 2)
    # Recall 1/3 of three drawings, and 0 of one: sqrt((1/3 * 2/3 / 3) + 0) / 2.
    assert scalars["balanced_standard_error"] == pytest.approx((2 / 27) ** 0.5 / 2)


@pytest.mark.parametrize("categories", [1, 2, 3, 7])
def test_the_same_as_counting_one_by_one(categories: int) -> None:
    logits, labels = random_answers(200, categories)
    figures = figures_of(logits, labels)
    places = [int((row > row[label]).sum()) + 1 for row, label in zip(logits, labels.tolist(), strict=True)]
    assert figures.scalars["top1"] == pytest.approx(np.mean([place == 1 for place in places]))
    assert figures.scalars["top3"] == pytest.approx(np.mean([place <= 3 for place in places]))
    assert figures.scalars["map3"] == pytest.approx(np.mean([1 / p if p <= 3 else 0.0 for p in places]))
    loss = float(torch.nn.functional.cross_entropy(logits.double(), labels))
    assert figures.scalars["loss"] == pytest.approx(loss, rel=1e-5)
    recalls = [
        np.mean([p == 1 for p, y in zip(places, labels.tolist(), strict=True) if y == k])
        for k in range(categories)
    ]
    assert figures.per_category.tolist() == pytest.approx(recalls)
    assert figures.scalars["balanced"] == pytest.approx(np.mean(recalls))


def test_the_matrix_has_true_labels_in_rows_and_read_ones_in_columns() -> None:
    matrix = figures_of(torch.eye(3)[[1, 1, 2]], torch.tensor([0, 1, 2])).matrix
    assert matrix.tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_batches_and_workers_add_up() -> None:
    logits, labels = random_answers(101, 5)
    whole = figures_of(logits, labels)
    workers = [Confusion(5, CPU), Confusion(5, CPU)]
    for k, (x, y) in enumerate(zip(logits.split(17), labels.split(17), strict=True)):
        workers[k % 2].add(x, y)
    mine, other = workers
    added = mine.reduced(lambda t: t + (other.matrix if t is mine.matrix else other.sums)).figures()
    assert added is not None
    assert np.array_equal(added.matrix, whole.matrix)
    assert added.scalars == pytest.approx(whole.scalars)


def test_the_standard_error_is_the_spread_over_samples() -> None:
    rights = np.random.default_rng(0).random((2000, 2, 50)) < np.array([0.9, 0.6])[:, None]
    spread = rights.mean(axis=2).mean(axis=1).std()
    logits = torch.tensor([[1.0, 0.0]] * 45 + [[0.0, 1.0]] * 5 + [[0.0, 1.0]] * 30 + [[1.0, 0.0]] * 20)
    scalars = figures_of(logits, torch.tensor([0] * 50 + [1] * 50)).scalars
    assert scalars["balanced"] == pytest.approx(0.75)
    assert scalars["balanced_standard_error"] == pytest.approx(spread, rel=0.1)


def test_a_category_without_drawings_counts_nowhere_and_none_at_all_is_no_figure() -> None:
    figures = figures_of(torch.eye(3)[[0, 1]], torch.tensor([0, 1]))
    assert np.isnan(figures.per_category[2])
    assert figures.scalars["balanced"] == 1.0
    assert Confusion(3, CPU).figures() is None


@pytest.mark.parametrize("categories", [3, 41])
def test_the_picture_is_one_for_few_and_for_many(categories: int) -> None:
    picture = confusion_picture(np.eye(categories, dtype=np.int64), [f"c{k}" for k in range(categories)])
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert picture.min() < 128, "nothing was drawn"


def test_scores_of_categories_by_hand() -> None:
    matrix = np.array([[3, 1, 0, 0], [2, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    scores = category_scores(matrix)
    assert scores.recall.tolist() == pytest.approx([3 / 4, 1 / 2, 0, np.nan], nan_ok=True)
    assert scores.precision.tolist() == pytest.approx([3 / 5, 1 / 2, np.nan, np.nan], nan_ok=True)
    assert scores.f1.tolist() == pytest.approx([6 / 9, 1 / 2, 0, np.nan], nan_ok=True)


def test_macro_f1_is_the_mean_over_categories_that_there_are() -> None:
    logits, labels = random_answers(300, 5)
    figures = figures_of(logits, labels)
    read = logits.argmax(1)
    expected = []
    for k in range(5):
        right = int(((read == k) & (labels == k)).sum())
        expected.append(2 * right / int((read == k).sum() + (labels == k).sum()))
    assert figures.scalars["macro_f1"] == pytest.approx(np.mean(expected))


def test_the_most_confused_pairs_are_by_share_of_the_true_category() -> None:
    matrix = np.array([[90, 10, 0], [0, 4, 1], [0, 0, 7]])
    assert most_confused(matrix, 5) == [(1, 2), (0, 1)]
    assert most_confused(matrix, 1) == [(1, 2)]
    assert most_confused(np.eye(3, dtype=np.int64), 5) == []


def calibration_of(confidence: Tensor, right: Tensor) -> Calibration:
    """Two categories; the first is read with the confidence that is given."""
    logits = torch.stack([confidence.double().logit(), torch.zeros(len(confidence)).double()], dim=1)
    found = Calibration()
    found.add(logits, torch.where(right, 0, 1))
    return found


def test_calibration_error_is_zero_where_confidence_is_the_accuracy_and_the_gap_elsewhere() -> None:
    right = torch.arange(1000) % 10 < 8
    assert calibration_of(torch.full((1000,), 0.8), right).error == pytest.approx(0, abs=1e-6)
    assert calibration_of(torch.full((1000,), 0.99), right).error == pytest.approx(0.19)
    half = torch.where(torch.arange(1000) < 500, 0.8, 0.9)
    found = calibration_of(half, right)
    assert found.error == pytest.approx(0.05)
    bins = found.bins()
    assert [n for n, _, _ in bins] == [500, 500]
    assert [c for _, c, _ in bins] == pytest.approx([0.8, 0.9])
    assert [a for _, _, a in bins] == pytest.approx([0.8, 0.8])


def test_calibration_adds_up_over_parts() -> None:
    logits, labels = random_answers(300, 7)
    whole, one, other = Calibration(), Calibration(), Calibration()
    whole.add(logits, labels)
    one.add(logits[::2], labels[::2])
    other.add(logits[1::2], labels[1::2])
    one.merge(other)
    assert one.error == pytest.approx(whole.error, rel=1e-9)
    assert sum(n for n, _, _ in one.bins()) == 300
    picture = reliability_picture(whole.bins(), whole.error)
    assert picture.dtype == np.uint8
    assert picture.min() < 128, "nothing was drawn"


def test_of_equal_logits_the_first_is_read_as_elsewhere() -> None:
    confusion = Confusion(12, torch.device("cpu"))
    confusion.add(torch.zeros(4, 12), torch.zeros(4, dtype=torch.int64))
    assert confusion.matrix[0, 0] == 4
