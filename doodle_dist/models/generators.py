"""Generators: (z [B, latent_dim], y int64 [B]) -> pictures [B, channels, side, side] in [-1, 1]."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from doodle_dist.config.model import GeneratorConfig
from doodle_dist.models.layers import (
    GlobalBatchNorm2d,
    LabelConvTranspose2d,
    ResidualBlock,
    conv,
    dense,
    initialise_dcgan,
    leaky,
    quarter_of,
)

STYLE_DIM = 128  # components of the mapped latent that modulates the blocks


class DoodleSmallGenerator(nn.Module):
    """Residual generator without normalisation, for 28×28 doodles on a CPU.

    R3GAN's generator (Huang et al. 2024, section 4) made small: fix-up initialised residual blocks and
    bilinear upsampling, but dense 3×3 convolutions in place of grouped ones, few channels where there are
    many pixels, and a mapped latent [z, embedding(y)] that modulates every block.
    """

    def __init__(
        self, config: GeneratorConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__()
        self.start = quarter_of(side)
        self.width = config.width
        widths = [config.width, config.width // 2, max(config.width // 6, 8)]
        latent = config.latent_dim + config.embedding_dim
        self.embedding = nn.Embedding(num_categories, config.embedding_dim)
        self.style = dense(latent, STYLE_DIM)
        self.entry = dense(latent, config.width * self.start**2)
        self.stages = nn.ModuleList(
            nn.ModuleList(ResidualBlock(width, STYLE_DIM) for _ in range(blocks))
            for width, blocks in zip(widths, (config.blocks, config.blocks, 1), strict=True)
        )
        self.narrow = nn.ModuleList(conv(wide, narrow, 1) for wide, narrow in pairwise(widths))
        self.exit = conv(widths[-1], channels, 3)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        latent = torch.cat([z, self.embedding(y)], dim=1)
        style = leaky(self.style(latent))
        # Channels last: the convolutions' fastest layout on CPUs and on tensor cores.
        x = self.entry(latent).view(-1, self.start, self.start, self.width).permute(0, 3, 1, 2)
        for index, blocks in enumerate(self.stages):
            if index > 0:
                x = F.interpolate(self.narrow[index - 1](x), scale_factor=2, mode="bilinear")
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, style)
        return torch.tanh(self.exit(leaky(x)))


class CdcganGenerator(nn.Module):
    """cDCGAN-Quickdraw's generator: transposed convolutions of [z, one-hot label], BatchNorm, ReLU, tanh.

    With width 128, latent_dim 100 and 10 categories it has 1,906,944 parameters, as published.
    """

    def __init__(
        self, config: GeneratorConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__()
        wide, narrow = 2 * config.width, config.width
        self.entry = LabelConvTranspose2d(config.latent_dim, num_categories, wide, quarter_of(side))
        self.entry_norm = GlobalBatchNorm2d(wide)
        self.middle = nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False)
        self.middle_norm = GlobalBatchNorm2d(narrow)
        self.exit = nn.ConvTranspose2d(narrow, channels, 4, 2, 1, bias=False)
        initialise_dcgan(self)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        x = F.relu(self.entry_norm(self.entry(z, y)))
        x = F.relu(self.middle_norm(self.middle(x)))
        return torch.tanh(self.exit(x))
