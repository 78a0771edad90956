"""A generator's figures in features: closed forms, and the two ends of each scale."""

from collections.abc import Callable

import pytest
import torch

from doodle_dist.metrics.gan import (
    conditional_accuracy,
    diversity_ratios,
    gaussian_of,
    mean_pairwise_distance,
)
from doodle_dist.metrics.moments import frechet


def normal(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def frechet_distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return frechet(gaussian_of(one), gaussian_of(other))


def whitened(rows: int, columns: int) -> torch.Tensor:
    """Features whose mean is exactly 0 and whose covariance is exactly the identity."""
    x = normal(rows, columns, 0)
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T)).T)


def test_frechet_of_a_set_with_itself_is_zero() -> None:
    x = normal(300, 8, 0)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(x, x.flip(0)) == pytest.approx(0, abs=1e-5)


def test_frechet_of_two_gaussians_is_the_closed_form() -> None:
    x = whitened(500, 3)
    sigma, tau = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([3.0, 1.0, 0.5])
    shift = torch.tensor([1.0, 0.0, -2.0])
    expected = float((shift**2).sum() + ((sigma - tau) ** 2).sum())  # of diagonal covariances
    assert frechet_distance(x * sigma, x * tau + shift) == pytest.approx(expected, rel=1e-6)
    turn = torch.linalg.qr(normal(3, 3, 1)).Q  # a rotation of both changes nothing
    assert frechet_distance(x * sigma @ turn, (x * tau + shift) @ turn) == pytest.approx(expected, rel=1e-6)


def test_frechet_is_symmetric_and_stays_real_for_fewer_rows_than_features() -> None:
    a, b = normal(10, 32, 0), normal(12, 32, 1) + 1
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-4)
    assert frechet_distance(a, b) > 32 * 0.5


def test_mean_pairwise_distance_by_hand() -> None:
    assert mean_pairwise_distance(torch.tensor([[0.0, 0], [3.0, 4], [0.0, 0]])) == pytest.approx(10 / 3)


def test_diversity_is_0_for_one_picture_and_1_for_what_is_as_varied() -> None:
    real, labels = normal(600, 6, 0), torch.arange(3).repeat(200)
    as_varied = diversity_ratios(normal(600, 6, 1), labels, real, labels)
    assert list(as_varied) == [0, 1, 2]
    assert list(as_varied.values()) == pytest.approx([1, 1, 1], abs=0.1)
    collapsed = torch.ones(600, 6) * labels[:, None]  # one picture for each label
    assert list(diversity_ratios(collapsed, labels, real, labels).values()) == [0, 0, 0]


def test_diversity_leaves_out_labels_with_fewer_than_two() -> None:
    x = normal(5, 2, 0)
    few, many = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 0, 1, 1, 2])
    assert set(diversity_ratios(x, few, x, many)) == {0}


def test_a_category_whose_real_pictures_are_all_the_same_has_no_ratio() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    real = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 1.0], [3.0, 1.0]])
    assert set(diversity_ratios(normal(4, 2, 0), labels, real, labels)) == {1}


def test_conditional_accuracy_is_chance_for_shuffled_labels() -> None:
    labels = torch.arange(10).repeat(500)
    logits = torch.nn.functional.one_hot(labels, 10).float()
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    assert conditional_accuracy(logits, labels) == 1.0
    assert conditional_accuracy(logits, shuffled) == pytest.approx(0.1, abs=0.02)
    assert conditional_accuracy(logits, (labels + 1) % 10) == 0.0


def test_a_large_category_is_not_held_as_all_its_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    x = normal(2500, 8, 0)
    expected = float(torch.pdist(x).mean())
    held: list[int] = []
    for name in ("pdist", "cdist"):
        real = getattr(torch, name)

        def measured(*parts: torch.Tensor, real: Callable[..., torch.Tensor] = real) -> torch.Tensor:
            found = real(*parts)
            held.append(found.numel())
            return found

        monkeypatch.setattr(torch, name, measured)
    assert mean_pairwise_distance(x) == pytest.approx(expected, rel=1e-12)
    assert max(held) < 0.5 * sum(held)
    assert sum(held) == 2500 * 2499 / 2
    assert mean_pairwise_distance(torch.ones(1500, 8)) == 0


def test_rows_that_count_twice_are_as_if_they_were_there_twice() -> None:
    x, weights = normal(400, 5, 0), torch.arange(400) % 3
    found, expected = gaussian_of(x, weights), gaussian_of(x.repeat_interleave(weights, 0))
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(found.covariance, expected.covariance, rtol=0.005, atol=0.005)
    equal, plain = gaussian_of(x, torch.full((400,), 7)), gaussian_of(x)
    torch.testing.assert_close(equal.covariance, plain.covariance)
