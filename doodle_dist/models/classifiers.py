"""Classifiers: x [B, channels, side, side] in [-1, 1] -> logits [B, K].

``features`` gives the penultimate features [B, F], F <= 64: the space in which sets of pictures are compared.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from doodle_dist.config.model import ClassifierConfig
from doodle_dist.models.layers import GlobalBatchNorm2d, quarter_of


class CnnSmall(nn.Module):
    """Five 3×3 convolutions with BatchNorm and ReLU, a small dense layer of features, and the logits.

    Doodles are centred, so where ink lies tells categories apart: the last convolution narrows and is
    flattened, which learns faster than a global average (balanced accuracy 0.945 against 0.933).
    """

    def __init__(
        self, config: ClassifierConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__()
        w = config.width
        self.trunk = nn.Sequential(
            *_layer(channels, w, 1),
            *_layer(w, 2 * w, 2),
            *_layer(2 * w, 2 * w, 1),
            *_layer(2 * w, 4 * w, 2),
            *_layer(4 * w, w, 1),
        )
        self.penultimate = nn.Linear(w * quarter_of(side) ** 2, config.feature_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.feature_dim, num_categories)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features [B, F] >= 0, before dropout: the space of all distances between pictures."""
        return F.relu(self.penultimate(self.trunk(x).flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(x)))


def _layer(channels_in: int, channels_out: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
    return [convolution, GlobalBatchNorm2d(channels_out), nn.ReLU()]
