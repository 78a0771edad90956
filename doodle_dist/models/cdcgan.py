"""cDCGAN-Quickdraw: transposed convolutions of [z, one-hot label], and a critic of [picture, label planes].

No biases; weights N(0, 0.02) and BatchNorm scales N(1, 0.02).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from doodle_dist.config.model import CriticConfig, GeneratorConfig
from doodle_dist.models.base import Generator, Trunk
from doodle_dist.models.layers import (
    GlobalBatchNorm2d,
    LabelPlaneConv2d,
    OnePixelConvTranspose2d,
    flat,
    initialise_dcgan,
    leaky,
    quarter_of,
)


class CdcganGenerator(Generator):
    """z and label, BatchNorm, ReLU, tanh. Width: the channels at half the side.

    With width 128, latent_dim 100 and 10 categories it has 1,906,944 parameters, as published.
    """

    published_width = 128
    published_conditioning = "one-hot"

    def __init__(
        self, config: GeneratorConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        wide, narrow = 2 * self.width, self.width
        self.entry = OnePixelConvTranspose2d(self.latent_in, wide, quarter_of(side))
        self.entry_norm = GlobalBatchNorm2d(wide)
        self.middle = nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False)
        self.middle_norm = GlobalBatchNorm2d(narrow)
        self.exit = nn.ConvTranspose2d(narrow, channels, 4, 2, 1, bias=False)
        initialise_dcgan(self)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        x = F.relu(self.entry_norm(self.entry(self.latent(z, y)[:, :, None, None])))
        x = F.relu(self.middle_norm(self.middle(x)))
        return torch.tanh(self.exit(x))


class CdcganCritic(Trunk):
    """Two convolutions; the published third, k7 on 7×7, is the linear head. Width: channels at half the side.

    With width 128 and 10 categories it has 560,128 parameters, as published. The sigmoid is in the loss.
    """

    published_width = 128
    head_bias = False

    def __init__(
        self, config: CriticConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        narrow, wide = self.width, 2 * self.width
        self.entry = LabelPlaneConv2d(channels, num_categories, narrow, kernel=4, stride=2, padding=1)
        self.entry_norm = GlobalBatchNorm2d(narrow)
        self.middle = nn.Conv2d(narrow, wide, 4, 2, 1, bias=False)
        self.middle_norm = GlobalBatchNorm2d(wide)
        self.features_out = wide * quarter_of(side) ** 2
        initialise_dcgan(self)

    def initialise_head(self, head: nn.Module) -> None:
        initialise_dcgan(head)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = leaky(self.entry_norm(self.entry(x, y)))
        return flat(leaky(self.middle_norm(self.middle(x))))
