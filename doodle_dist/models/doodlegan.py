"""DoodleGAN's three systems, for one category of doodles; the label is unused unless a config conditions.

They were written for Keras: "same" padding, eps 1e-3, Glorot's uniform start. Where a layer of theirs upsamples there
is an identity, for the numbers in weights' names, and the convolution behind it does both.
"""

from torch import nn

from doodle_dist.config.model import CriticConfig, GeneratorConfig
from doodle_dist.models.base import Generator, Trunk, same_size
from doodle_dist.models.layers import (
    SLOPE,
    SameConv2d,
    Unflatten,
    UpConv2d,
    initialise_keras,
    initialise_normal,
    keras_norm,
    quarter_of,
)

FIRST_STD = 0.02  # of the first layer's weights, in simple-gan and dcgan


class SimpleGanGenerator(Generator):
    """Dense layers only: 100 -> 256 -> 512 -> 1024 -> 2048 -> 784, 4,388,368 parameters. Width: the first 256."""

    published_width = 256

    def __init__(
        self, config: GeneratorConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        w = self.width
        first = nn.Linear(self.latent_in, w)
        self.layers = nn.Sequential(
            first,
            nn.LeakyReLU(SLOPE),
            nn.Linear(w, 2 * w),
            nn.LeakyReLU(SLOPE),
            nn.Linear(2 * w, 4 * w),
            nn.LeakyReLU(SLOPE),
            nn.Linear(4 * w, 8 * w),
            nn.LeakyReLU(SLOPE),
            nn.Linear(8 * w, channels * side**2),
            nn.Tanh(),
            nn.Unflatten(1, (channels, side, side)),
        )
        initialise_keras(self)
        initialise_normal(first, FIRST_STD)


class SimpleGanCritic(Trunk):
    """784 -> 1024 -> 512 -> 256 -> 1, 1,460,225 parameters with its linear head. Width: the last 256."""

    published_width = 256

    def __init__(
        self, config: CriticConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        w = self.width
        first = nn.Linear(channels * side**2, 4 * w)
        self.layers = nn.Sequential(
            nn.Flatten(),
            first,
            nn.LeakyReLU(SLOPE),
            nn.Dropout(0.4),
            nn.Linear(4 * w, 2 * w),
            nn.LeakyReLU(SLOPE),
            nn.Dropout(0.4),
            nn.Linear(2 * w, w),
            nn.LeakyReLU(SLOPE),
            nn.Dropout(0.4),
        )
        self.features_out = w
        initialise_keras(self)
        initialise_normal(first, FIRST_STD)

    def initialise_head(self, head: nn.Module) -> None:
        initialise_keras(head)


class DcganGenerator(Generator):
    """Dense, then twice upsampled and convolved: 856,065 trainable parameters. Width: the first 128 channels."""

    published_width = 128

    def __init__(
        self, config: GeneratorConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        w, start = self.width, quarter_of(side)
        first = nn.Linear(self.latent_in, w * start**2)
        self.layers = nn.Sequential(
            first,
            nn.ReLU(),
            Unflatten(w, start),
            keras_norm(w, 0.8),
            nn.Identity(),
            UpConv2d(w, w, 3),
            nn.LeakyReLU(SLOPE),
            keras_norm(w, 0.8),
            nn.Identity(),
            UpConv2d(w, w // 2, 3),
            nn.LeakyReLU(SLOPE),
            keras_norm(w // 2, 0.8),
            SameConv2d(w // 2, channels, 3),
            nn.Tanh(),
        )
        initialise_keras(self)
        initialise_normal(first, FIRST_STD)


class DcganCritic(Trunk):
    """Two strided convolutions without normalisation: 212,865 parameters. Width: the first 64 channels."""

    published_width = 64

    def __init__(
        self, config: CriticConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        w = self.width
        first = SameConv2d(channels, w, 5, 2)
        self.layers = nn.Sequential(
            first,
            nn.LeakyReLU(SLOPE),
            nn.Dropout(0.2),
            SameConv2d(w, 2 * w, 5, 2),
            nn.LeakyReLU(SLOPE),
            nn.Dropout(0.2),
        )
        self.features_out = 2 * w * quarter_of(side) ** 2
        initialise_keras(self)
        initialise_normal(first, FIRST_STD)

    def initialise_head(self, head: nn.Module) -> None:
        initialise_keras(head)


class DoodleWganGenerator(Generator):
    """As dcgan's with k4 convolutions and ReLU: 1,028,289 trainable parameters. Width: the first 128 channels.

    What is published leaves BatchNorm's momentum open, here and in the critic: it is dcgan's.
    """

    published_width = 128

    def __init__(
        self, config: GeneratorConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        w, start = self.width, quarter_of(side)
        self.layers = nn.Sequential(
            nn.Linear(self.latent_in, w * start**2),
            nn.ReLU(),
            Unflatten(w, start),
            nn.Identity(),
            UpConv2d(w, w, 4),
            keras_norm(w, 0.8),
            nn.ReLU(),
            nn.Identity(),
            UpConv2d(w, w // 2, 4),
            keras_norm(w // 2, 0.8),
            nn.ReLU(),
            SameConv2d(w // 2, channels, 4),
            nn.Tanh(),
        )
        initialise_keras(self)


class DoodleWganCritic(Trunk):
    """Four k3 convolutions, three of them strided, with BatchNorm and dropout. Width: the first 16 channels.

    Its BatchNorm makes the critic's gradient at one picture depend on the others of the batch, which a
    gradient penalty leaves out of account; ``normalization = "layer"`` is what WGAN-GP's authors advise.
    """

    published_width = 16

    def __init__(
        self, config: CriticConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        w = self.width
        self.layers = nn.Sequential(
            SameConv2d(channels, w, 3, 2),
            nn.LeakyReLU(SLOPE),
            nn.Dropout(0.25),
            SameConv2d(w, 2 * w, 3, 2),
            nn.ZeroPad2d((0, 1, 0, 1)),  # 7×7 to 8×8
            keras_norm(2 * w, 0.8),
            nn.LeakyReLU(SLOPE),
            nn.Dropout(0.25),
            SameConv2d(2 * w, 4 * w, 3, 2),
            keras_norm(4 * w, 0.8),
            nn.LeakyReLU(SLOPE),
            nn.Dropout(0.25),
            SameConv2d(4 * w, 8 * w, 3),
            keras_norm(8 * w, 0.8),
            nn.LeakyReLU(SLOPE),
            nn.Dropout(0.25),
        )
        self.features_out = 8 * w * same_size(quarter_of(side) + 1, 1) ** 2
        initialise_keras(self)

    def initialise_head(self, head: nn.Module) -> None:
        initialise_keras(head)
