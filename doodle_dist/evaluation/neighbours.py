"""The training drawings nearest to samples, in a classifier's features: what shows a generator that memorises."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from doodle_dist.data.stream_plan import StreamPlan
from doodle_dist.evaluation.drawings import Chunk, chunks, pictures_of
from doodle_dist.models.classifiers import Classifier
from doodle_dist.pictures import to_images
from doodle_dist.run.snapshot import best_device

_BATCH = 512


@dataclass(frozen=True)
class Nearest:
    """For each of N samples the nearest drawing found: its distance [N], infinite for none yet, and its picture,
    uint8 [N, C, H, W]."""

    distances: NDArray[np.float32]
    pictures: NDArray[np.uint8]

    def merged(self, other: "Nearest") -> "Nearest":
        """With what was nearer among other drawings. A new one: what comes back from a Ray task can't be written to."""
        closer = other.distances < self.distances
        return Nearest(
            np.where(closer, other.distances, self.distances),
            np.where(closer[:, None, None, None], other.pictures, self.pictures),
        )


@torch.no_grad()
def nearest_drawings(
    plan: StreamPlan,
    limit: int,
    net: Classifier,
    drawn: NDArray[np.uint8],
    labels: NDArray[np.int64] | None,
    part: int = 0,
    parts: int = 1,
) -> Nearest:
    """The nearest to each sample uint8 [N, C, H, W] of the drawings that have its label [N], or any without labels.

    By Euclidean distance of ``net``'s features, over one part of the first ``limit`` drawings of ``plan``. Drawings of
    no sample's label are not rasterised.
    """
    device = best_device()
    net = net.to(device)
    wanted = net.features(to_images(drawn, device))
    found = Nearest(np.full(len(drawn), np.inf, np.float32), np.zeros_like(drawn))
    for chunk in chunks(plan, limit, part, parts):
        rows = np.arange(len(chunk.table))
        if labels is not None:
            rows = np.flatnonzero(np.isin(chunk.labels, labels))
        for some in np.split(rows, range(_BATCH, len(rows), _BATCH)) if len(rows) else ():
            few = Chunk(chunk.numbers[some], chunk.table.take(some))
            pixels = pictures_of(plan, few)
            distances = torch.cdist(wanted, net.features(to_images(pixels, device))).cpu()
            if labels is not None:
                distances[torch.from_numpy(labels[:, None] != few.labels)] = float("inf")
            least, index = (one.numpy() for one in distances.min(dim=1))
            found = found.merged(Nearest(least, pixels[index]))
    return found


def over_nearest(
    name: str, drawn: NDArray[np.uint8], nearest: NDArray[np.uint8]
) -> list[tuple[str, NDArray[np.uint8]]]:
    """Two rows of a contact sheet: samples, and under them the drawings nearest to them."""
    return [(name, drawn), ("  nearest real", nearest)]
