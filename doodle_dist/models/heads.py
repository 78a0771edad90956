"""The critic: a system's trunk and one of three heads, which turn features [B, F] into verdicts."""

import math

from torch import Tensor, nn

from doodle_dist.config.model import HeadName
from doodle_dist.models.base import Trunk
from doodle_dist.models.layers import dense

Verdicts = tuple[Tensor, Tensor | None]  # logits [B], class logits [B, K]


class LinearHead(nn.Module):
    """w·f + b: blind to the label, unless the trunk sees it."""

    def __init__(self, features: int, *, bias: bool = True) -> None:
        super().__init__()
        self.verdict = dense(features, 1, bias=bias)

    def forward(self, features: Tensor, y: Tensor) -> Verdicts:
        return self.verdict(features).squeeze(1), None


class ProjectionHead(nn.Module):
    """w·f + b + e(y)·f / divisor (Miyato & Koyama 2018, eq. 5).

    The divisor sqrt(F) gives both products the same size at the start. Under spectral normalisation the
    embeddings are about unit vectors, as w is, and it is 1 (``unit``), as in the paper.
    """

    def __init__(self, features: int, num_categories: int, *, bias: bool = True, unit: bool = False) -> None:
        super().__init__()
        self.divisor = 1.0 if unit else math.sqrt(features)
        self.verdict = dense(features, 1, bias=bias)
        self.embedding = nn.Embedding(num_categories, features)

    def forward(self, features: Tensor, y: Tensor) -> Verdicts:
        projection = (features * self.embedding(y)).sum(1) / self.divisor
        return self.verdict(features).squeeze(1) + projection, None


class AuxiliaryHead(nn.Module):
    """A logit, and a logit for each category (ACGAN: Odena et al. 2017, section 3)."""

    def __init__(self, features: int, num_categories: int, *, bias: bool = True) -> None:
        super().__init__()
        self.verdict = dense(features, 1, bias=bias)
        self.classes = dense(features, num_categories)

    def forward(self, features: Tensor, y: Tensor) -> Verdicts:
        return self.verdict(features).squeeze(1), self.classes(features)


def build_head(
    name: HeadName, features: int, num_categories: int, *, bias: bool, unit: bool = False
) -> nn.Module:
    """The head of that name; ``unit`` for a projection on embeddings that spectral norm makes unit vectors."""
    match name:
        case "linear":
            return LinearHead(features, bias=bias)
        case "projection":
            return ProjectionHead(features, num_categories, bias=bias, unit=unit)
        case "auxiliary":
            return AuxiliaryHead(features, num_categories, bias=bias)


class Critic(nn.Module):
    """(x [B, channels, side, side] in [-1, 1], y int64 [B]) -> logits [B], unbounded."""

    def __init__(self, trunk: Trunk, head: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head

    def verdicts(self, x: Tensor, y: Tensor) -> Verdicts:
        """Logits [B], and the auxiliary head's class logits [B, K], None with another head."""
        return self.head(self.trunk(x, y), y)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.verdicts(x, y)[0]
