"""R3GAN's networks at 28×28, class-conditional (Huang et al. 2024, section 4 and appendix), for a GPU.

No normalisation. Residual blocks of 1×1, grouped 3×3 and 1×1 convolutions, whose last starts at zero and whose
others are scaled down by the depth (fix-up: Zhang et al. 2019); biases only before the activations inside
the blocks; bilinear resampling, which at exactly half the side is the mean of 2×2. All shapes follow from the
config: nothing depends on values, for torch.compile.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from doodle_dist.config.model import CriticConfig, GeneratorConfig
from doodle_dist.models.base import Generator, Trunk
from doodle_dist.models.layers import LEAKY_GAIN, conv, dense, initialise_normal, leaky, quarter_of

EXPANSION = 2  # the grouped convolution is so many times as wide as the stage
GROUP = 16  # channels of a group, or the most that divide a narrower block


class GroupedBlock(nn.Module):
    """x + project(leaky(grouped(leaky(expand(x))))), [B, C, H, W] to the same; the identity at the start.

    ``depth`` is the number of blocks in the network: with three convolutions a block, the first two start
    with weights depth^(-1/4) times as large as He et al. have them (Zhang et al. 2019, section 3).
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        inner, gain = EXPANSION * channels, LEAKY_GAIN * depth**-0.25
        self.expand = conv(channels, inner, 1, gain=gain)
        self.grouped = conv(inner, inner, 3, gain=gain, groups=inner // math.gcd(inner, GROUP))
        self.project = conv(inner, channels, 1, gain=0.0, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(leaky(self.grouped(leaky(self.expand(x)))))


def _stages(widths: list[int], blocks: int) -> nn.ModuleList:
    depth = blocks * len(widths)
    return nn.ModuleList(
        nn.Sequential(*(GroupedBlock(width, depth) for _ in range(blocks))) for width in widths
    )


class DoodleGenerator(Generator):
    """[z, embedding(y)] -> 7×7 -> 14×14 -> 28×28, two blocks each. Width: the channels at the full side, 256.

    4, 2 and 1 times the width, since R3GAN's equal widths cost most where doodles have least to say. A learnt
    basis [C, 7, 7], scaled by a linear function of the input, is the first feature map.
    """

    published_width = 256
    published_conditioning = "embedding"
    published_blocks = 2

    def __init__(
        self, config: GeneratorConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        widths, start = [4 * self.width, 2 * self.width, self.width], quarter_of(side)
        self.basis = nn.Parameter(torch.randn(widths[0], start, start))
        self.entry = dense(self.latent_in, widths[0], bias=False)
        self.stages = _stages(widths, self.blocks)
        self.narrow = nn.ModuleList(conv(wide, narrow, 1, bias=False) for wide, narrow in pairwise(widths))
        self.exit = conv(widths[-1], channels, 1, bias=False)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        x = self.basis * self.entry(self.latent(z, y))[:, :, None, None]
        for index, stage in enumerate(self.stages):
            if index > 0:
                x = F.interpolate(self.narrow[index - 1](x), scale_factor=2.0, mode="bilinear")
            x = stage(x)
        return torch.tanh(self.exit(x))


class DoodleCritic(Trunk):
    """The generator's mirror: 28×28 -> 14×14 -> 7×7 -> features. Width: the channels at the full side, 256.

    A learnt basis [C, 7, 7] gives one number a channel, a linear map ``feature_dim`` features.
    """

    published_width = 256
    published_blocks = 2
    published_head = "projection"
    head_bias = False

    def __init__(
        self, config: CriticConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        widths, end = [self.width, 2 * self.width, 4 * self.width], quarter_of(side)
        self.entry = conv(channels, widths[0], 1, bias=False)
        self.stages = _stages(widths, self.blocks)
        self.widen = nn.ModuleList(conv(narrow, wide, 1, bias=False) for narrow, wide in pairwise(widths))
        self.basis = nn.Conv2d(widths[-1], widths[-1], end, groups=widths[-1], bias=False)
        initialise_normal(self.basis, 1 / end)
        self.features = dense(widths[-1], config.feature_dim, bias=False)
        self.features_out = config.feature_dim

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = self.entry(x)
        for index, stage in enumerate(self.stages):
            if index > 0:
                x = self.widen[index - 1](F.avg_pool2d(x, 2))
            x = stage(x)
        # What that convolution over the whole picture comes to, without one for each channel in penalties.
        return self.features((x * self.basis.weight[:, 0]).sum((2, 3)))
