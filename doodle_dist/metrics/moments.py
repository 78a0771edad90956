"""Sums over features that add up over batches, workers and ranks, and what follows from them alone.

`Moments` are what a Fréchet distance takes, overall and per category; `KernelMoments` what a kernel distance
takes. Both are float64, and of a size that does not depend on the number of drawings.
"""

# A torch function returns Any where its stub has no types.
# mypy: no-warn-return-any

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Gaussian:
    """Mean [F] and covariance [F, F] (unbiased) of feature vectors, float64."""

    mean: Tensor
    covariance: Tensor


class Moments:
    """Per category: how many, the sum of features, and the sum of their outer products."""

    def __init__(self, dims: int, categories: int = 1, device: torch.device = _CPU) -> None:
        self.dims, self.categories = dims, categories
        self.counts = torch.zeros(categories, dtype=torch.float64, device=device)
        self.sums = torch.zeros(categories, dims, dtype=torch.float64, device=device)
        self.products = torch.zeros(categories, dims, dims, dtype=torch.float64, device=device)

    def add(self, features: Tensor, labels: Tensor) -> None:
        """Count a batch: features [B, F], labels int64 [B] below the number of categories."""
        rows, labels = features.to(self.sums), labels.to(self.sums.device)
        sizes = torch.bincount(labels, minlength=self.categories)
        self.counts += sizes
        self.sums.index_add_(0, labels, rows)
        for label, part in enumerate(rows[labels.argsort()].split(sizes.tolist())):
            if len(part):
                self.products[label].addmm_(part.T, part)

    def merge(self, other: "Moments") -> None:
        """Add another part's sums to these."""
        self.counts += other.counts
        self.sums += other.sums
        self.products += other.products

    def reduced(self, add_up: Callable[[Tensor], Tensor]) -> "Moments":
        """The sums of all ranks, given what adds a tensor up over them."""
        total = Moments(self.dims, self.categories, self.sums.device)
        total.counts, total.sums = add_up(self.counts), add_up(self.sums)
        total.products = add_up(self.products)
        return total

    def gaussian(self, label: int | None = None) -> Gaussian:
        """Mean and covariance of one category, or of all drawings. At least two are needed."""
        part = slice(None) if label is None else slice(label, label + 1)
        count, total = self.counts[part].sum(), self.sums[part].sum(0)
        assert count >= 2, "a covariance takes two"
        mean = total / count
        covariance = (self.products[part].sum(0) - torch.outer(total, mean)) / (count - 1)
        return Gaussian(mean, covariance)


def frechet(one: Gaussian, other: Gaussian) -> float:
    """Fréchet distance of two Gaussians (Heusel et al. 2017, eq. 6): |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½).

    The root's trace is the sum of the singular values of C1^½ C2^½. In directions in which neither varies, as
    where a ReLU never fires, that keeps rounding errors of 1e-16 from becoming roots of 1e-8.
    """
    cross = torch.linalg.svdvals(_root(one.covariance).T @ _root(other.covariance)).sum()
    trace = one.covariance.trace() + other.covariance.trace() - 2 * cross
    return max(float(((one.mean - other.mean) ** 2).sum() + trace), 0.0)


def _root(covariance: Tensor) -> Tensor:
    """R with R Rᵀ = covariance; eigenvalues that are zero but for rounding are zero."""
    values, vectors = torch.linalg.eigh(covariance)
    least = len(values) * torch.finfo(torch.float64).eps * values[-1].clamp(min=0)
    return vectors * torch.where(values > least, values, 0.0).sqrt()


class KernelMoments:
    """What the kernel distance takes: sums of x, x⊗x and x⊗x⊗x, in groups by number for its error.

    The kernel of KID, k(x, y) = (x·y / F + 1)³ (Bińkowski et al. 2018, section 4), is a polynomial, so its mean
    over all pairs is one of inner products of these sums. So all pairs count, not subsets of a thousand, and
    the answer is the same for any number of workers.
    """

    GROUPS = 16

    def __init__(self, dims: int) -> None:
        self.dims = dims
        shape = (self.GROUPS,)
        self.counts = torch.zeros(shape, dtype=torch.float64)
        self.first = torch.zeros(*shape, dims, dtype=torch.float64)
        self.second = torch.zeros(*shape, dims * dims, dtype=torch.float64)
        self.third = torch.zeros(*shape, dims * dims * dims, dtype=torch.float64)
        self.own = torch.zeros(shape, dtype=torch.float64)  # sum of k(x, x)

    def add(self, features: Tensor, numbers: Tensor) -> None:
        """Count a batch: features [B, F], and each drawing's number int64 [B], which says its group."""
        features = features.double().cpu()
        groups = numbers.cpu() % self.GROUPS
        for group in groups.unique().tolist():
            x = features[groups == group]
            pairs = (x[:, :, None] * x[:, None, :]).flatten(1)
            self.counts[group] += len(x)
            self.first[group] += x.sum(0)
            self.second[group] += pairs.sum(0)
            self.third[group] += (x.T @ pairs).flatten()
            self.own[group] += ((x.square().sum(1) / self.dims + 1) ** 3).sum()

    def merge(self, other: "KernelMoments") -> None:
        """Add another part's sums to these."""
        for name in ("counts", "first", "second", "third", "own"):
            getattr(self, name).add_(getattr(other, name))

    def pair_sums(self, other: "KernelMoments") -> Tensor:
        """Sum of k(x, y) over all x of a group here and y of a group there: [GROUPS, GROUPS]."""
        f = self.dims
        return (
            torch.outer(self.counts, other.counts)
            + 3 / f * self.first @ other.first.T
            + 3 / f**2 * self.second @ other.second.T
            + 1 / f**3 * self.third @ other.third.T
        )


@dataclass(frozen=True)
class Estimate:
    """A figure and its standard error."""

    value: float
    standard_error: float


def kernel_distance(one: KernelMoments, other: KernelMoments) -> Estimate:
    """KID: the unbiased estimate of the squared maximum mean discrepancy over all pairs (Gretton et al. 2012,
    eq. 3), with the standard error of the jackknife that leaves out one group of drawings at a time.

    Each side needs two drawings outside each group.
    """
    within_one, within_other, across = one.pair_sums(one), other.pair_sums(other), one.pair_sums(other)

    def estimate(kept: Tensor) -> float:
        def mean_within(sums: Tensor, moments: KernelMoments) -> Tensor:
            n = moments.counts @ kept
            return (kept @ sums @ kept - moments.own @ kept) / (n * (n - 1))

        between = (kept @ across @ kept) / ((one.counts @ kept) * (other.counts @ kept))
        return float(mean_within(within_one, one) + mean_within(within_other, other) - 2 * between)

    groups = KernelMoments.GROUPS
    everything = torch.ones(groups, dtype=torch.float64)
    without = torch.tensor([estimate(everything - unit) for unit in torch.eye(groups, dtype=torch.float64)])
    spread = (without - without.mean()).square().sum() * (groups - 1) / groups
    return Estimate(estimate(everything), math.sqrt(float(spread)))
