"""Figures of a conditional generator in a classifier's features: is it read right, and is it varied?"""

import torch
from torch import Tensor

from doodle_dist.metrics.moments import Gaussian

_PART_ROWS = 1024


def conditional_accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of generated pictures whose requested category the classifier reads. logits [N, K], labels [N]."""
    return float((logits.argmax(1) == labels).double().mean())


def mean_pairwise_distance(features: Tensor) -> float:
    """Mean Euclidean distance over all pairs of rows of features [N, F], N >= 2."""
    parts = features.double().split(_PART_ROWS)
    total = torch.zeros((), dtype=torch.float64, device=features.device)
    # A part at a time: the N² / 2 distances of a large category would not fit.
    for number, part in enumerate(parts):
        total += torch.pdist(part).sum()
        for later in parts[number + 1 :]:
            total += torch.cdist(part, later).sum()
    return float(total) / (len(features) * (len(features) - 1) / 2)


def diversity_ratios(
    generated: Tensor, generated_labels: Tensor, real: Tensor, real_labels: Tensor
) -> dict[int, float]:
    """Per label: how far generated pictures lie from each other, over how far real ones do.

    1 is as varied as the real drawings, 0 is one picture. Features [N, F]; a label that has fewer than two
    of either, or whose real pictures are all the same, is left out.
    """
    ratios = {}
    for label in torch.unique(real_labels).tolist():
        fake, true = generated[generated_labels == label], real[real_labels == label]
        if len(fake) >= 2 and len(true) >= 2 and (of_real := mean_pairwise_distance(true)):
            ratios[int(label)] = mean_pairwise_distance(fake) / of_real
    return ratios


def gaussian_of(features: Tensor, weights: Tensor | None = None) -> Gaussian:
    """The Gaussian fitted to features [N, F], N >= 2. Row i counts ``weights[i]`` >= 0; None: all the same."""
    rows = features.double()
    shares = rows.new_ones(len(rows)) if weights is None else weights.double()
    shares = shares / shares.sum()
    mean = shares @ rows
    centred = rows - mean
    covariance = (centred.T * shares) @ centred / (1 - shares.square().sum())
    return Gaussian(mean, covariance)
