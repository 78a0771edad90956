"""Critics: (x [B, channels, side, side] in [-1, 1], y int64 [B]) -> logits [B], unbounded."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from doodle_dist.config.model import CriticConfig
from doodle_dist.models.layers import (
    LEAKY_GAIN,
    GlobalBatchNorm2d,
    LabelPlaneConv2d,
    ResidualBlock,
    conv,
    dense,
    initialise_dcgan,
    initialise_normal,
    leaky,
    quarter_of,
)


class DoodleSmallCritic(nn.Module):
    """Residual critic without normalisation; the label enters by projection.

    logit = w·f(x) + e(y)·f(x) / sqrt(F) (Miyato & Koyama 2018, eq. 5). Half the side is reached by the first
    convolution: at full resolution its 4×4 taps cost a fiftieth of a residual block's.
    """

    def __init__(
        self, config: CriticConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__()
        narrow, wide = config.width, 2 * config.width
        end = (quarter_of(side) + 1) // 2
        self.entry = nn.Conv2d(channels, narrow, 4, 2, 1)
        initialise_normal(self.entry, 1 / math.sqrt(16 * channels))
        self.half_side = nn.ModuleList(ResidualBlock(narrow) for _ in range(config.blocks))
        self.widen = conv(narrow, wide, 1)
        self.quarter_side = nn.ModuleList(ResidualBlock(wide) for _ in range(config.blocks))
        self.shrink = conv(wide, wide, 3, stride=2, gain=LEAKY_GAIN)
        self.features = dense(wide * end**2, config.feature_dim, gain=LEAKY_GAIN)
        self.verdict = dense(config.feature_dim, 1)
        self.embedding = nn.Embedding(num_categories, config.feature_dim)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = self.entry(x)  # [B, width, side/2, side/2]
        for block in self.half_side:
            x = block(x)
        x = F.avg_pool2d(self.widen(x), 2)
        for block in self.quarter_side:
            x = block(x)
        x = leaky(self.shrink(leaky(x)))
        features = leaky(self.features(x.flatten(1)))  # [B, F]
        projection = (features * self.embedding(y)).sum(1) / math.sqrt(features.shape[1])
        return self.verdict(features).squeeze(1) + projection


class CdcganCritic(nn.Module):
    """cDCGAN-Quickdraw's critic on [picture, one-hot label planes]; logits, without the sigmoid.

    With width 128 and 10 categories it has 560,128 parameters, as published.
    """

    def __init__(
        self, config: CriticConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__()
        narrow, wide = config.width, 2 * config.width
        self.entry = LabelPlaneConv2d(channels, num_categories, narrow, kernel=4, stride=2, padding=1)
        self.entry_norm = GlobalBatchNorm2d(narrow)
        self.middle = nn.Conv2d(narrow, wide, 4, 2, 1, bias=False)
        self.middle_norm = GlobalBatchNorm2d(wide)
        self.exit = nn.Conv2d(wide, 1, quarter_of(side), bias=False)
        initialise_dcgan(self)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = leaky(self.entry_norm(self.entry(x, y)))
        x = leaky(self.middle_norm(self.middle(x)))
        return self.exit(x).flatten()
