"""2d_image_gans (MNIST, Fashion-MNIST, CIFAR-10), written for Keras: LeakyReLU of slope 0.01, momentum 0.99.

Sides that are multiples of 4; one layout gives the published 28×28×1 and 32×32×3.
"""

from torch import nn

from doodle_dist.config.model import CriticConfig, GeneratorConfig
from doodle_dist.models.base import Generator, Trunk, same_size
from doodle_dist.models.layers import (
    Flatten,
    SameConv2d,
    SameConvTranspose2d,
    Unflatten,
    fraction_of,
    initialise_keras,
    keras_norm,
    keras_norm_flat,
    quarter_of,
)

SLOPE = 0.01


class ImageDcganGenerator(Generator):
    """Dense to as many units as the picture has values, two transposed convolutions k5 s2. Width: 16.

    width × channels feature maps at a quarter of the side, 2 width at half of it: 92,913 trainable
    parameters at 28×28×1, 351,267 at 32×32×3.
    """

    published_width = 16

    def __init__(
        self, config: GeneratorConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        start, wide, middle = quarter_of(side), self.width * channels, 2 * self.width
        self.layers = nn.Sequential(
            nn.Linear(self.latent_in, wide * start**2),
            Unflatten(wide, start),
            keras_norm(wide),
            nn.LeakyReLU(SLOPE),
            SameConvTranspose2d(wide, middle, 5, 2),
            keras_norm(middle),
            nn.LeakyReLU(SLOPE),
            SameConvTranspose2d(middle, channels, 5, 2),
            nn.Tanh(),
        )
        initialise_keras(self)


class ImageDcganCritic(Trunk):
    """Two convolutions k5 s2 and a dense layer as large as the picture. Width: the second's 16 channels.

    631,473 trainable parameters at 28×28×1, 3,173,297 at 32×32×3, with the linear head.
    """

    published_width = 16

    def __init__(
        self, config: CriticConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        w = self.width
        self.features_out = channels * side**2 * w // self.published_width
        self.layers = nn.Sequential(
            SameConv2d(channels, 2 * w, 5, 2),
            nn.LeakyReLU(SLOPE),
            SameConv2d(2 * w, w, 5, 2),
            keras_norm(w),
            nn.LeakyReLU(SLOPE),
            Flatten(),
            nn.Linear(w * quarter_of(side) ** 2, self.features_out),
            keras_norm_flat(self.features_out),
            nn.LeakyReLU(SLOPE),
        )
        initialise_keras(self)

    def initialise_head(self, head: nn.Module) -> None:
        initialise_keras(head)


class ImageSimpleGenerator(Generator):
    """Dense and one transposed convolution k5 s2, with BatchNorm between. Width: channels at half the side, 4.

    Published is that there is one convolution in each network, not its channels: 4 of 14×14 are the 784
    units of the DCGAN's dense layer. ``normalization = "none"`` is the version without tricks.
    """

    published_width = 4

    def __init__(
        self, config: GeneratorConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        start, w = fraction_of(side, 2), self.width * channels
        self.layers = nn.Sequential(
            nn.Linear(self.latent_in, w * start**2),
            Unflatten(w, start),
            keras_norm(w),
            nn.LeakyReLU(SLOPE),
            SameConvTranspose2d(w, channels, 5, 2),
            nn.Tanh(),
        )
        initialise_keras(self)


class ImageSimpleCritic(Trunk):
    """One convolution k5 s2 with BatchNorm. Width: its channels, 32 as the DCGAN's first."""

    published_width = 32

    def __init__(
        self, config: CriticConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        self.layers = nn.Sequential(
            SameConv2d(channels, self.width, 5, 2), keras_norm(self.width), nn.LeakyReLU(SLOPE)
        )
        self.features_out = self.width * same_size(side, 1) ** 2
        initialise_keras(self)

    def initialise_head(self, head: nn.Module) -> None:
        initialise_keras(head)
