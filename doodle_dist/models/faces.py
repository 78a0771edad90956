"""Doodle faces: one category, written for Keras and for pictures in [0, 1].

Ours are in [-1, 1], so the critic maps its input to [0, 1] and the generator its sigmoid to [-1, 1]: the
layers between see what they saw.
"""

import torch
from torch import Tensor, nn

from doodle_dist.config.model import CriticConfig, GeneratorConfig
from doodle_dist.models.base import Generator, Trunk, same_size
from doodle_dist.models.layers import (
    SLOPE,
    SameConv2d,
    SameConvTranspose2d,
    Unflatten,
    UpConvTranspose2d,
    fraction_of,
    initialise_keras,
    keras_norm,
    keras_norm_flat,
)


class FaceGenerator(Generator):
    """Dense, one upsampling, four transposed convolutions k5 of stride 1. Width: the 64 channels they start from.

    The report's table has one upsampling, before the first transposed convolution, and no other stride, so
    the layout that reaches 28×28 starts at 14×14: dense to 14×14×64, ×2, then 32, 16, 8 and 1 channels. The
    64 are ours (twice the first 32, as each layer halves); the report doesn't give them.
    """

    published_width = 64

    def __init__(
        self, config: GeneratorConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        start = fraction_of(side, 2)
        w, a, b, c = (max(self.width // part, 1) for part in (1, 2, 4, 8))
        self.layers = nn.Sequential(
            nn.Linear(self.latent_in, w * start**2),
            keras_norm_flat(w * start**2, 0.9),
            nn.ReLU(),
            Unflatten(w, start),
            nn.Dropout(0.4),
            nn.Identity(),  # the upsampling, which the next one does: weights are named by numbers
            UpConvTranspose2d(w, a, 5),
            keras_norm(a, 0.9),
            nn.ReLU(),
            SameConvTranspose2d(a, b, 5),
            keras_norm(b, 0.9),
            nn.ReLU(),
            SameConvTranspose2d(b, c, 5),
            keras_norm(c, 0.9),
            nn.ReLU(),
            SameConvTranspose2d(c, channels, 5),
        )
        initialise_keras(self)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return 2 * torch.sigmoid(super().forward(z, y)) - 1  # [0, 1] to [-1, 1]


class FaceCritic(Trunk):
    """Convolutions k5 of stride 2, 2, 2, 1 with dropout 0.6. Width: the first 64 channels, doubled three times."""

    published_width = 64

    def __init__(
        self, config: CriticConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        w, layers = self.width, []
        widths = (channels, w, 2 * w, 4 * w, 8 * w)
        for k, stride in enumerate((2, 2, 2, 1)):
            layers += [SameConv2d(widths[k], widths[k + 1], 5, stride), nn.LeakyReLU(SLOPE), nn.Dropout(0.6)]
        self.layers = nn.Sequential(*layers)
        self.features_out = 8 * w * same_size(side, 3) ** 2
        initialise_keras(self)

    def initialise_head(self, head: nn.Module) -> None:
        initialise_keras(head)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return super().forward((x + 1) / 2, y)  # [-1, 1] to [0, 1]
