"""Figures of a conditional generator in a classifier's features: is it read right, and is it varied?"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def conditional_accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of generated pictures whose requested category the classifier reads. logits [N, K], labels [N]."""
    return float((logits.argmax(1) == labels).double().mean())


def mean_pairwise_distance(features: Tensor) -> float:
    """Mean Euclidean distance over all pairs of rows of features [N, F], N >= 2."""
    return float(torch.pdist(features.double()).mean())


def diversity_ratios(
    generated: Tensor, generated_labels: Tensor, real: Tensor, real_labels: Tensor
) -> dict[int, float]:
    """Per label: how far generated pictures lie from each other, over how far real ones do.

    1 is as varied as the real drawings, 0 is one picture. Features [N, F]; a label that has fewer than two
    of either is left out.
    """
    ratios = {}
    for label in torch.unique(real_labels).tolist():
        fake, true = generated[generated_labels == label], real[real_labels == label]
        if len(fake) >= 2 and len(true) >= 2:
            ratios[int(label)] = mean_pairwise_distance(fake) / mean_pairwise_distance(true)
    return ratios


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Fréchet distance of the Gaussians fitted to two sets of features [N, F] (Heusel et al. 2017, eq. 6).

    |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½), the root's trace being the sum of the roots of C1 C2's
    eigenvalues, which are real and not negative but for rounding.
    """
    a, b = one.double().cpu().numpy(), other.double().cpu().numpy()
    return _frechet(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))


def _frechet(
    m1: NDArray[np.float64], c1: NDArray[np.float64], m2: NDArray[np.float64], c2: NDArray[np.float64]
) -> float:
    eigenvalues = np.linalg.eigvals(c1 @ c2).real.clip(min=0)
    trace = np.trace(c1) + np.trace(c2) - 2 * np.sqrt(eigenvalues).sum()
    return float(((m1 - m2) ** 2).sum() + trace)
