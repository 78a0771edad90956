"""Soft, noisy, flipped and swapped labels: their ranges, shares and sides."""

import pytest
import torch

from doodle_dist.config.gan import LabelConfig
from doodle_dist.training.targets import critic_targets, generator_targets
from doodle_dist.training.task import LaneRandom

ROWS = 8000
PUBLISHED = {"real_low": 0.7, "real_high": 1.2, "fake_low": 0.0, "fake_high": 0.3}


def targets(**config: object) -> tuple[torch.Tensor, torch.Tensor]:
    random = LaneRandom(0, 0, ((0, ROWS),), torch.device("cpu"))
    return critic_targets(random, LabelConfig(**config), ROWS)  # type: ignore[arg-type]


def test_targets_keep_to_their_range_and_are_clipped() -> None:
    real, fake = targets(**PUBLISHED)
    assert real.max() == 1.0
    assert float(real.min()) == pytest.approx(0.7, abs=0.01)
    assert float((real == 1.0).float().mean()) == pytest.approx(0.4, abs=0.03)
    assert float(fake.min()) == pytest.approx(0.0, abs=0.01)
    assert float(fake.max()) == pytest.approx(0.3, abs=0.01)
    real, _ = targets(**PUBLISHED, clip=False)
    assert 1.19 < float(real.max()) < 1.2


def test_one_target_for_the_whole_batch() -> None:
    real, fake = targets(**PUBLISHED, per="batch")
    assert len(real.unique()) == len(fake.unique()) == 1


def test_flips_give_the_other_side_s_target_to_their_share() -> None:
    real, fake = targets(fake_flip_probability=0.05, real_flip_probability=0.2)
    assert float(fake.mean()) == pytest.approx(0.05, abs=0.01)
    assert float(real.mean()) == pytest.approx(0.8, abs=0.02)


def test_swapped_labels_are_the_complement_for_all_three() -> None:
    """2d_image_gans: real 0, generated U(0.9, 1)."""
    real, fake = targets(swap=True, fake_high=0.1)
    assert real.unique().tolist() == [0.0]
    assert 0.9 <= float(fake.min()) < 0.905
    assert float(fake.max()) <= 1.0
    random = LaneRandom(0, 0, ((0, 4),), torch.device("cpu"))
    assert generator_targets(random, LabelConfig(swap=True), 4).tolist() == [0.0] * 4
