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
        # One tensor for the steps that gave the same scalars: two launches a step on a GPU, however many they are.
        self.sums: dict[tuple[str, ...], Tensor] = {}
        self.counts: dict[tuple[str, ...], int] = {}

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        """Add a step's scalars; nothing is waited for on a GPU. A name may be missing from some steps."""
        if not scalars:
            return
        names = tuple(scalars)
        values = torch.stack([value.detach().float() for value in scalars.values()])
        held = self.sums.get(names)
        self.sums[names] = values if held is None else held.add_(values)
        self.counts[names] = self.counts.get(names, 0) + 1

    def take(self) -> dict[str, float]:
        """The means, reduced over ranks in one call, and a fresh start."""
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        for names, values in self.sums.items():
            for name, value in zip(names, values.unbind(), strict=True):
                sums[name] = sums[name] + value if name in sums else value
                counts[name] = counts.get(name, 0) + self.counts[names]
        self.sums, self.counts = {}, {}
        if not sums:
            return {}
        ordered = sorted(sums)
        means = torch.stack([sums[name] / counts[name] for name in ordered])
        return dict(zip(ordered, sum_over_ranks(means).tolist(), strict=True))
