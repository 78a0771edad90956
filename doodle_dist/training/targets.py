"""The targets of the losses that have some: soft, noisy, flipped and swapped labels (Salimans et al. 2016,
section 3.4, and what practice added)."""

import torch
from torch import Tensor

from doodle_dist.config.gan import LabelConfig
from doodle_dist.training.task import LaneRandom


def critic_targets(random: LaneRandom, config: LabelConfig, rows: int) -> tuple[Tensor, Tensor]:
    """Targets of real and of generated pictures in a critic update, [rows] each."""
    real = _uniform(random, config, config.real_low, config.real_high, rows)
    fake = _uniform(random, config, config.fake_low, config.fake_high, rows)
    kept_real = real
    if config.real_flip_probability:
        flipped = random.uniform(0, 1) < config.real_flip_probability
        real = torch.where(flipped, _uniform(random, config, config.fake_low, config.fake_high, rows), real)
    if config.fake_flip_probability:
        flipped = random.uniform(0, 1) < config.fake_flip_probability
        fake = torch.where(flipped, kept_real, fake)
    return _sides(real, config), _sides(fake, config)


def generator_targets(random: LaneRandom, config: LabelConfig, rows: int) -> Tensor:
    """Targets of generated pictures in a generator update, [rows]."""
    return _sides(_uniform(random, config, config.generator_low, config.generator_high, rows), config)


def _uniform(random: LaneRandom, config: LabelConfig, low: float, high: float, rows: int) -> Tensor:
    """Uniform in [low, high], one a drawing or one for the whole global batch."""
    if low == high:
        targets = torch.full((rows,), low, device=random.device)
    elif config.per == "drawing":
        targets = random.uniform(low, high)
    else:
        targets = random.shared_uniform(low, high).expand(rows)
    return targets.clamp(max=1.0) if config.clip else targets


def _sides(targets: Tensor, config: LabelConfig) -> Tensor:
    return 1 - targets if config.swap else targets
