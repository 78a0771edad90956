"""SNGAN with projection, on the residual CIFAR-10 networks, class-conditional.

Miyato et al. 2018 (spectral normalisation; table 4 of appendix B) and Miyato & Koyama 2018 (projection, and
BatchNorm with a scale and shift for each category), at 28×28 besides 32×32.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from doodle_dist.config.model import CriticConfig, GeneratorConfig
from doodle_dist.models.base import Generator, Trunk
from doodle_dist.models.layers import (
    WEIGHTED,
    ConditionalBatchNorm2d,
    ConvMean2d,
    GlobalBatchNorm2d,
    SameConv2d,
    Unflatten,
    UpConv2d,
    doubled,
    initialise_glorot,
    quarter_of,
)

# The authors' framework (Chainer): its decay 0.9 is torch's momentum 0.1.
EPS, MOMENTUM = 2e-5, 0.1


_Kind = type[SameConv2d] | type[UpConv2d] | type[ConvMean2d]


def _conv(
    channels_in: int, channels_out: int, kernel: int, gain: float = 1.0, kind: _Kind = SameConv2d
) -> nn.Conv2d:
    layer = kind(channels_in, channels_out, kernel)
    initialise_glorot(layer, gain)
    return layer


_RELU_GAIN = math.sqrt(2)


class UpBlock(nn.Module):
    """Conditional norm, ReLU, nearest upsampling (or none), convolution, twice; [B, C, H, W] to the same or ×2."""

    def __init__(self, channels: int, num_categories: int, *, upsample: bool) -> None:
        super().__init__()
        self.upsample = upsample
        self.first_norm = ConditionalBatchNorm2d(channels, num_categories, EPS, MOMENTUM)
        self.first = _conv(channels, channels, 3, _RELU_GAIN, UpConv2d if upsample else SameConv2d)
        self.second_norm = ConditionalBatchNorm2d(channels, num_categories, EPS, MOMENTUM)
        self.second = _conv(channels, channels, 3, _RELU_GAIN)
        self.shortcut = _conv(channels, channels, 1) if upsample else nn.Identity()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.first(F.relu(self.first_norm(x, y)))
        h = self.second(F.relu(self.second_norm(h, y)))
        shortcut = self.shortcut(x)  # 1×1 before upsampling: the same, on fewer pixels
        return h + (doubled(shortcut) if self.upsample else shortcut)


class SnganGenerator(Generator):
    """Three residual blocks of 256 channels. Width: those channels.

    At 32×32 it starts at 4×4 and each block doubles the side, as published; where the side can't be halved
    three times down to 4 or more (28), it starts at a quarter of the side and the first block keeps it. The
    label enters by the norms.
    """

    published_width = 256

    def __init__(
        self, config: GeneratorConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        w = self.width
        eighth = side % 8 == 0 and side >= 32
        start = side // 8 if eighth else quarter_of(side)
        self.entry = nn.Linear(self.latent_in, w * start**2)
        initialise_glorot(self.entry)
        self.unflatten = Unflatten(w, start)
        self.stages = nn.ModuleList(UpBlock(w, num_categories, upsample=up) for up in (eighth, True, True))
        self.exit_norm = GlobalBatchNorm2d(w, eps=EPS, momentum=MOMENTUM)
        self.exit = _conv(w, channels, 3)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        x = self.unflatten(self.entry(self.latent(z, y)))
        for block in self.stages:
            x = block(x, y)
        return torch.tanh(self.exit(F.relu(self.exit_norm(x))))


class DownBlock(nn.Module):
    """ReLU, convolution, twice, then 2×2 means (or none); the first block of all has no ReLU before it."""

    def __init__(self, channels_in: int, channels_out: int, *, downsample: bool, first: bool = False) -> None:
        super().__init__()
        self.downsample, self.is_first = downsample, first
        self.first = _conv(channels_in, channels_out, 3, _RELU_GAIN)
        kind = ConvMean2d if downsample else SameConv2d
        self.second = _conv(channels_out, channels_out, 3, _RELU_GAIN, kind)
        same = channels_in == channels_out and not downsample
        self.shortcut = nn.Identity() if same else _conv(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.second(F.relu(self.first(x if self.is_first else F.relu(x))))
        # The 1×1 shortcut and the means may change places; means first is less work.
        return h + self.shortcut(F.avg_pool2d(x, 2) if self.downsample else x)


class SnganCritic(Trunk):
    """Four residual blocks of 128 channels, the first two halving the side; summed over space. Width: channels.

    As published with spectral normalisation of every weight and a projection head.
    """

    published_width = 128
    published_head = "projection"
    published_spectral_norm = True

    def __init__(
        self, config: CriticConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        quarter_of(side)
        w = self.width
        self.layers = nn.Sequential(
            DownBlock(channels, w, downsample=True, first=True),
            DownBlock(w, w, downsample=True),
            DownBlock(w, w, downsample=False),
            DownBlock(w, w, downsample=False),
            nn.ReLU(),
        )
        self.features_out = w

    def initialise_head(self, head: nn.Module) -> None:
        for layer in head.modules():
            if isinstance(layer, (*WEIGHTED, nn.Embedding)):
                nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.layers(x).sum((2, 3))
