"""Precision, recall, density and coverage: who lies among whose nearest neighbours."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Neighbours that span a neighbourhood: Naeem et al. 2020, section 5.
NEIGHBOURS = 5
_ROWS = 1024


@dataclass(frozen=True)
class Overlap:
    """How a set of pictures lies over the real ones. 1 is good; density may be above."""

    precision: float
    recall: float
    density: float
    coverage: float


class Neighbourhoods:
    """Feature vectors [N, F], N > NEIGHBOURS, each with the ball that reaches to its fifth neighbour."""

    def __init__(self, features: Tensor) -> None:
        if len(features) <= NEIGHBOURS:
            raise ValueError(f"{len(features)} drawings: neighbourhoods take at least {NEIGHBOURS + 1}")
        # In float64, so that equal vectors are at distance 0 though distances are found through products.
        self.features = features.double()
        radii = []
        for first, rows in self._parts():
            distances = torch.cdist(rows, self.features)
            distances[torch.arange(len(rows)), torch.arange(first, first + len(rows))] = torch.inf
            radii.append(distances.kthvalue(NEIGHBOURS, dim=1).values)
        self.radii = torch.cat(radii)

    def _parts(self) -> Iterator[tuple[int, Tensor]]:
        for first in range(0, len(self.features), _ROWS):
            yield first, self.features[first : first + _ROWS]


def overlap(real: Neighbourhoods, generated: Neighbourhoods) -> Overlap:
    """Precision and recall (Kynkäänniemi et al. 2019, eq. 1-3), density and coverage (Naeem et al. 2020, eq. 3, 4).

    Precision: generated pictures within a real one's ball; recall: real ones within a generated one's; density:
    real balls that a generated picture lies in, over the neighbours that span one; coverage: real balls that
    hold a generated picture. Balls are closed. Of two sets that are the same, all are 1, but density 1.2.
    """
    inside_real = torch.zeros(len(generated.features))
    recalled, covered = 0, 0
    for first, rows in real._parts():
        distances = torch.cdist(rows, generated.features)  # [real part, generated]
        in_balls = distances <= real.radii[first : first + len(rows), None]
        inside_real += in_balls.sum(0)
        covered += int(in_balls.any(1).sum())
        recalled += int((distances <= generated.radii).any(1).sum())
    return Overlap(
        precision=float((inside_real > 0).double().mean()),
        recall=recalled / len(real.features),
        density=float(inside_real.double().mean()) / NEIGHBOURS,
        coverage=covered / len(real.features),
    )
