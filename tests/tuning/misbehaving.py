"""Classifiers that go wrong in the ways that trials do, by their feature_dim."""

import os
import signal

import torch
from torch import Tensor

from doodle_dist.config.model import ClassifierConfig
from doodle_dist.models.classifiers import CnnSmall

GOOD, NOT_FINITE, OUT_OF_MEMORY, DIES, RAISES = 8, 9, 10, 11, 12


class Misbehaving(CnnSmall):
    def __init__(
        self, config: ClassifierConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        self.fault = config.feature_dim

    def features(self, x: Tensor) -> Tensor:
        match self.fault:
            case 9:
                return super().features(x) * torch.nan
            case 10:
                raise MemoryError("no room for another picture")
            case 11:
                os.kill(os.getpid(), signal.SIGKILL)
            case 12:
                raise ArithmeticError("a mistake in a net")
        return super().features(x)
