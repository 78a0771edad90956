"""What generators and critics' trunks have in common. A system of one's own derives from these two classes.

Each system is written as published; what a config changes from outside (heads, normalisation, spectral
norm, another start) is in heads.py, normalization.py and registry.py.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from doodle_dist.config.model import Conditioning, CriticConfig, GeneratorConfig, HeadName
from doodle_dist.models.layers import ConditionalBatchNorm2d, flat, of_label


class Generator(nn.Module):
    """(z [B, latent_dim], y int64 [B]) -> pictures [B, channels, side, side] in [-1, 1].

    In place of labels ``y`` may be weights, float [B, K]: what the label gives the network is then mixed.

    A subclass sets ``layers``, from [B, latent_in] to pictures, or overrides ``forward``.
    """

    published_width: ClassVar[int]
    published_conditioning: ClassVar[Conditioning] = "none"
    published_blocks: ClassVar[int] = 1
    layers: nn.Module

    def __init__(
        self, config: GeneratorConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__()
        self.width = config.width or self.published_width
        self.blocks = config.blocks or self.published_blocks
        self.num_categories, self.side, self.channels = num_categories, side, channels
        self.conditioning: Conditioning = config.conditioning or self.published_conditioning
        embedded = self.conditioning == "embedding"
        self.embedding = nn.Embedding(num_categories, config.embedding_dim) if embedded else None
        extra = {"none": 0, "one-hot": num_categories, "embedding": config.embedding_dim}
        self.latent_in = config.latent_dim + extra[self.conditioning]

    def latent(self, z: Tensor, y: Tensor) -> Tensor:
        """z, with the label's one-hot vector or embedding after it where there is conditioning: [B, latent_in]."""
        if self.embedding is not None:
            return torch.cat([z, of_label(self.embedding, y)], dim=1)
        if self.conditioning == "one-hot":
            one_hot = y if y.is_floating_point() else F.one_hot(y, self.num_categories)
            return torch.cat([z, one_hot.to(z.dtype)], dim=1)
        return z

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.layers(self.latent(z, y))

    def sees_label(self) -> bool:
        """Whether it is told the label at all: beside its latent, or in its norms.

        A subclass that reads ``y`` in a way of its own overrides this.
        """
        by_norms = any(isinstance(layer, ConditionalBatchNorm2d) for layer in self.modules())
        return by_norms or self.conditioning != "none"


class Trunk(nn.Module):
    """A critic up to its head: (x [B, channels, side, side] in [-1, 1], y int64 [B]) -> features [B, features_out].

    A subclass sets ``features_out`` and ``layers``, or overrides ``forward``. The class variables say what the
    critic is as published: its head, whether the head's logit has a bias, whether weights are divided by
    their spectral norm.
    """

    published_width: ClassVar[int]
    published_blocks: ClassVar[int] = 1
    published_head: ClassVar[HeadName] = "linear"
    head_bias: ClassVar[bool] = True
    published_spectral_norm: ClassVar[bool] = False
    features_out: int
    layers: nn.Module

    def __init__(
        self, config: CriticConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__()
        self.width = config.width or self.published_width
        self.blocks = config.blocks or self.published_blocks
        self.num_categories, self.side, self.channels = num_categories, side, channels

    def initialise_head(self, head: nn.Module) -> None:
        """Start the head's weights as the system's are; heads.py's own start unless overridden."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return flat(self.layers(x))


def same_size(side: int, halvings: int) -> int:
    """The side after so many "same"-padded convolutions of stride 2."""
    for _ in range(halvings):
        side = (side + 1) // 2
    return side
