"""Exponential moving average of a network's weights, with the decay given as a half-life in drawings."""

import copy

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """Keeps ``average``, a copy of a network in evaluation mode whose parameters follow it slowly.

    After a half-life of drawings, what was in the average counts half (EDM2: Karras et al. 2024, section 3,
    in its first form; R3GAN: Huang et al. 2024, settings). Buffers such as BatchNorm's running statistics
    are copied as they are. Save and load it by ``average.state_dict()``.
    """

    def __init__(self, network: nn.Module) -> None:
        self.average = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, share: Tensor | None) -> None:
        """Move the average ``share`` of the way towards ``network``: a scalar on its device; None copies it."""
        ours: list[Tensor] = list(self.average.parameters())
        theirs: list[Tensor] = list(network.parameters())
        if share is None:
            torch._foreach_copy_(ours, theirs)
        else:
            way = torch._foreach_sub(theirs, ours)
            torch._foreach_mul_(way, share)
            torch._foreach_add_(ours, way)
        for mine, its in zip(self.average.buffers(), network.buffers(), strict=True):
            mine.copy_(its)
