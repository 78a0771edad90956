"""A classifier that sees where ink lies without training, named in a config by its import path."""

import torch
from torch import Tensor, nn

from doodle_dist.config.model import ClassifierConfig
from doodle_dist.models.classifiers import Classifier

PROJECTION = "model.classifier.name=tests.evaluation.readers:Projection"


class Projection(Classifier):
    """Features: random mixtures of how much ink there is in 7×7 places."""

    def __init__(
        self, config: ClassifierConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(7)
        self.mix = nn.Linear(49 * channels, config.feature_dim)
        nn.init.normal_(self.mix.weight)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.feature_dim, num_categories)

    def features(self, x: Tensor) -> Tensor:
        return torch.tanh(self.mix(self.pool(x).flatten(1) + 1))
