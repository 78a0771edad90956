"""Adding up scalars over a rank's steps and over ranks."""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of every rank's ``tensor``, on every rank; itself where there is one rank."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


class Meter:
    """Mean of each scalar over the steps since the last ``take``, of values that add up over ranks."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        """Add a step's scalars; nothing is waited for on a GPU. A name may be missing from some steps."""
        for name, value in scalars.items():
            held = self.sums.get(name)
            self.sums[name] = value.detach() if held is None else held + value.detach()
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """The means, reduced over ranks in one call, and a fresh start."""
        if not self.sums:
            return {}
        names = sorted(self.sums)
        means = torch.stack([self.sums[name].float() / self.counts[name] for name in names])
        reduced = sum_over_ranks(means).tolist()
        self.sums, self.counts = {}, {}
        return dict(zip(names, reduced, strict=True))
