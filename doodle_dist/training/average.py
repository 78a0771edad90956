"""The moving average of a net's weights, with its schedule in drawings seen."""

import torch
from torch import nn

from doodle_dist.config.optim import EmaConfig
from doodle_dist.models.ema import ExponentialMovingAverage
from doodle_dist.schedules import ema_share
from doodle_dist.training.task import Dial


class Average:
    """``plan`` sets what the schedule says of a step, ``update`` takes it; ``net`` has the averaged weights."""

    def __init__(self, net: nn.Module, config: EmaConfig, device: torch.device) -> None:
        self.config = config
        self._ema, self._share = ExponentialMovingAverage(net), Dial(device)
        self.net = self._ema.average

    def plan(self, drawings_seen: float, drawings: float) -> bool:
        """Set the share of the update by ``drawings`` more; whether that is all, and the weights are copied."""
        share = ema_share(self.config, drawings_seen, drawings)
        self._share.set(share)
        return share == 1.0

    def update(self, net: nn.Module, *, copies: bool) -> None:
        """Move the average towards ``net``, as planned."""
        self._ema.update(net, None if copies else self._share.tensor)
