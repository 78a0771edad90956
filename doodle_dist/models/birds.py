"""The bird GANs (64×64 photographs), written for Keras; one pair of networks for the DCGAN and the WGAN.

The WGAN starts all weights from N(0, 0.01), inside its clip range: ``init = 0.01`` in the config.
"""

from itertools import pairwise

from torch import nn

from doodle_dist.config.model import CriticConfig, GeneratorConfig
from doodle_dist.models.base import Generator, Trunk
from doodle_dist.models.layers import (
    SLOPE,
    SameConv2d,
    SameConvTranspose2d,
    Unflatten,
    fraction_of,
    initialise_keras,
    keras_norm,
)


class BirdGenerator(Generator):
    """Dense to 4×4×512, four transposed convolutions k5 s2: 5,135,363 trainable parameters. Width: the last 64."""

    published_width = 64

    def __init__(
        self, config: GeneratorConfig, *, num_categories: int, side: int = 64, channels: int = 3
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        w, start = self.width, fraction_of(side, 16)
        layers: list[nn.Module] = [
            nn.Linear(self.latent_in, 8 * w * start**2),
            Unflatten(8 * w, start),
            keras_norm(8 * w, 0.5),
            nn.ReLU(),
        ]
        for wide, narrow in pairwise((8 * w, 4 * w, 2 * w, w)):
            layers += [SameConvTranspose2d(wide, narrow, 5, 2), keras_norm(narrow, 0.5), nn.ReLU()]
        self.layers = nn.Sequential(*layers, SameConvTranspose2d(w, channels, 5, 2), nn.Tanh())
        initialise_keras(self)


class BirdCritic(Trunk):
    """Four convolutions k5 s2: 4,316,545 trainable parameters with its linear head. Width: the first 64."""

    published_width = 64

    def __init__(
        self, config: CriticConfig, *, num_categories: int, side: int = 64, channels: int = 3
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        w = self.width
        layers: list[nn.Module] = [SameConv2d(channels, w, 5, 2), nn.LeakyReLU(SLOPE)]
        for narrow, wide in pairwise((w, 2 * w, 4 * w, 8 * w)):
            layers += [SameConv2d(narrow, wide, 5, 2), keras_norm(wide, 0.5), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers)
        self.features_out = 8 * w * fraction_of(side, 16) ** 2
        initialise_keras(self)

    def initialise_head(self, head: nn.Module) -> None:
        initialise_keras(head)
