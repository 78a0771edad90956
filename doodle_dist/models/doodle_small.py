"""R3GAN's recipe (Huang et al. 2024, section 4) made small: class-conditional doodles on a CPU."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from doodle_dist.config.model import CriticConfig, GeneratorConfig
from doodle_dist.models.base import Generator, Trunk
from doodle_dist.models.layers import (
    LEAKY_GAIN,
    ResidualBlock,
    conv,
    dense,
    flat,
    initialise_normal,
    leaky,
    quarter_of,
)

STYLE_DIM = 128  # components of the mapped latent that modulates the blocks


class DoodleSmallGenerator(Generator):
    """Residual generator without normalisation. Width: the channels at a quarter of the side.

    Fix-up initialised residual blocks and bilinear upsampling as in R3GAN, but dense 3×3 convolutions in
    place of grouped ones, few channels where there are many pixels, and a mapped latent [z, embedding(y)]
    that modulates every block.
    """

    published_width = 96
    published_conditioning = "embedding"

    def __init__(
        self, config: GeneratorConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        self.start = quarter_of(side)
        widths = [self.width, self.width // 2, max(self.width // 6, 8)]
        self.style = dense(self.latent_in, STYLE_DIM)
        self.entry = dense(self.latent_in, self.width * self.start**2)
        self.stages = nn.ModuleList(
            nn.ModuleList(ResidualBlock(width, STYLE_DIM) for _ in range(blocks))
            for width, blocks in zip(widths, (self.blocks, self.blocks, 1), strict=True)
        )
        self.narrow = nn.ModuleList(conv(wide, narrow, 1) for wide, narrow in pairwise(widths))
        self.exit = conv(widths[-1], channels, 3)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        latent = self.latent(z, y)
        style = leaky(self.style(latent))
        # Channels last: the convolutions' fastest layout on CPUs and on tensor cores.
        x = self.entry(latent).view(-1, self.start, self.start, self.width).permute(0, 3, 1, 2)
        for index, blocks in enumerate(self.stages):
            if index > 0:
                x = F.interpolate(self.narrow[index - 1](x), scale_factor=2, mode="bilinear")
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, style)
        return torch.tanh(self.exit(leaky(x)))


class DoodleSmallCritic(Trunk):
    """Residual critic without normalisation; the label enters by projection. Width: the channels at half the side.

    Half the side is reached by the first convolution: at full resolution its 4×4 taps cost a fiftieth of a
    residual block's.
    """

    published_width = 32
    published_head = "projection"

    def __init__(
        self, config: CriticConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        narrow, wide = self.width, 2 * self.width
        end = (quarter_of(side) + 1) // 2
        self.entry = nn.Conv2d(channels, narrow, 4, 2, 1)
        initialise_normal(self.entry, 1 / math.sqrt(16 * channels))
        self.half_side = nn.ModuleList(ResidualBlock(narrow) for _ in range(self.blocks))
        self.widen = conv(narrow, wide, 1)
        self.quarter_side = nn.ModuleList(ResidualBlock(wide) for _ in range(self.blocks))
        self.shrink = conv(wide, wide, 3, stride=2, gain=LEAKY_GAIN)
        self.features = dense(wide * end**2, config.feature_dim, gain=LEAKY_GAIN)
        self.features_out = config.feature_dim

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = self.entry(x)  # [B, width, side/2, side/2]
        for block in self.half_side:
            x = block(x)
        x = self.widen(F.avg_pool2d(x, 2))
        for block in self.quarter_side:
            x = block(x)
        x = leaky(self.shrink(leaky(x)))
        return leaky(self.features(flat(x)))  # [B, F]
