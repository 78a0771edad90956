"""Sums over features: any division of the drawings gives the same, and the distances are the closed forms."""

import numpy as np
import pytest
import torch
from torch import Tensor

from doodle_dist.metrics.moments import Gaussian, KernelMoments, Moments, frechet, kernel_distance


def normal(rows: int, columns: int, seed: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def moments_of(features: Tensor, labels: Tensor, categories: int) -> Moments:
    moments = Moments(features.shape[1], categories)
    for part in range(0, len(labels), 100):
        moments.add(features[part : part + 100], labels[part : part + 100])
    return moments


def kernel_of(features: Tensor, first: int = 0) -> KernelMoments:
    moments = KernelMoments(features.shape[1])
    moments.add(features, torch.arange(first, first + len(features)))
    return moments


def test_means_and_covariances_are_numpys_for_each_category_and_for_all() -> None:
    x, labels = normal(500, 6, 0) * 3 + 50, torch.arange(500) % 3
    moments = moments_of(x, labels, 4)
    assert moments.counts.tolist() == [167, 167, 166, 0]
    for label, rows in [(k, x[labels == k]) for k in range(3)] + [(None, x)]:
        found = moments.gaussian(label)
        assert np.allclose(found.mean, rows.double().mean(0), rtol=1e-12)
        assert np.allclose(found.covariance, np.cov(rows.double().numpy(), rowvar=False), rtol=1e-8)


def test_one_part_and_four_agree_to_a_millionth() -> None:
    x, y, labels = normal(900, 16, 0).relu() * 4, normal(900, 16, 1).relu() * 5, torch.arange(900) % 3
    reference = moments_of(y, labels, 3)
    whole = moments_of(x, labels, 3)
    parts = [moments_of(x[k::4], labels[k::4], 3) for k in range(4)]
    merged = Moments(16, 3)
    for part in parts:
        merged.merge(part)
    # As ranks add up: each tensor over all four.
    tensors = {id(getattr(parts[0], n)): n for n in ("counts", "sums", "products")}
    reduced = parts[0].reduced(lambda t: sum((getattr(p, tensors[id(t)]) for p in parts), torch.zeros(())))
    for label in (None, 0, 1, 2):
        expected = frechet(whole.gaussian(label), reference.gaussian(label))
        assert expected > 0.5
        for other in (merged, reduced):
            assert frechet(other.gaussian(label), reference.gaussian(label)) == pytest.approx(
                expected, rel=1e-6
            )
    numbers = torch.arange(900)
    split = KernelMoments(16)
    for k in range(4):
        part_of_it = KernelMoments(16)
        part_of_it.add(x[k::4], numbers[k::4])
        split.merge(part_of_it)
    one, four = (kernel_distance(moments, kernel_of(y)) for moments in (kernel_of(x), split))
    assert four.value == pytest.approx(one.value, rel=1e-6)
    assert four.standard_error == pytest.approx(one.standard_error, rel=1e-6)


def test_frechet_of_gaussians_is_the_closed_form_and_zero_of_itself() -> None:
    sigma, tau = torch.tensor([1.0, 2.0, 0.5, 0.0]).double(), torch.tensor([3.0, 1.0, 0.5, 0.0]).double()
    shift = torch.tensor([1.0, 0.0, -2.0, 0.0]).double()
    turn = torch.linalg.qr(normal(4, 4, 1).double()).Q
    one = Gaussian(torch.zeros(4).double(), turn @ torch.diag(sigma**2) @ turn.T)
    other = Gaussian(shift, turn @ torch.diag(tau**2) @ turn.T)
    expected = float((shift**2).sum() + ((sigma - tau) ** 2).sum())  # they commute
    assert frechet(one, other) == pytest.approx(expected, rel=1e-9)
    assert frechet(other, one) == pytest.approx(expected, rel=1e-9)
    assert frechet(one, one) == pytest.approx(0, abs=1e-9)


def test_frechet_of_covariances_that_do_not_commute() -> None:
    """For 2×2 the root's trace is sqrt(tr AB + 2 sqrt(det AB)) (Cayley & Hamilton)."""
    a = torch.tensor([[2.0, 0.7], [0.7, 1.0]]).double()
    b = torch.tensor([[1.0, -0.4], [-0.4, 3.0]]).double()
    zero = torch.zeros(2).double()
    root = ((a @ b).trace() + 2 * torch.det(a @ b).sqrt()).sqrt()
    expected = float(a.trace() + b.trace() - 2 * root)
    assert frechet(Gaussian(zero, a), Gaussian(zero, b)) == pytest.approx(expected, rel=1e-9)


def test_features_that_never_fire_do_not_disturb() -> None:
    x, y = normal(400, 8, 0).relu(), normal(400, 8, 1).relu() * 1.1
    labels = torch.zeros(400, dtype=torch.int64)

    def distance(one: Tensor, other: Tensor) -> float:
        return frechet(moments_of(one, labels, 1).gaussian(), moments_of(other, labels, 1).gaussian())

    dead = torch.zeros(400, 8)
    expected = distance(x, y)
    assert distance(torch.cat([x, dead], 1), torch.cat([y, dead], 1)) == pytest.approx(expected, rel=1e-9)
    assert distance(torch.cat([x, dead], 1), torch.cat([x, dead], 1)) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_the_sum_over_all_pairs() -> None:
    x, y = normal(40, 5, 0).double(), normal(50, 5, 1).double() + 0.5

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / 5 + 1) ** 3

    def off_diagonal_mean(k: Tensor) -> Tensor:
        return (k.sum() - k.trace()) / (len(k) * (len(k) - 1))

    expected = float(
        off_diagonal_mean(kernel(x, x)) + off_diagonal_mean(kernel(y, y)) - 2 * kernel(x, y).mean()
    )
    assert kernel_distance(kernel_of(x), kernel_of(y)).value == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
def test_kernel_distance_is_zero_on_average_for_equal_distributions_and_knows_its_error() -> None:
    def over_draws(shift: float) -> tuple[Tensor, Tensor]:
        found = [
            kernel_distance(kernel_of(normal(160, 4, 2 * k)), kernel_of(normal(160, 4, 2 * k + 1) + shift))
            for k in range(150)
        ]
        return torch.tensor([f.value for f in found]), torch.tensor([f.standard_error for f in found])

    values, errors = over_draws(0.0)
    assert abs(float(values.mean())) < 3 * float(values.std()) / len(values) ** 0.5
    assert (values < 0).any(), "an unbiased estimate of 0 is negative at times"
    shifted, errors = over_draws(0.5)
    assert float(shifted.mean()) > 10 * float(values.std())
    assert float(errors.mean()) == pytest.approx(float(shifted.std()), rel=0.2)
