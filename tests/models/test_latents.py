"""Latents: the distribution that the config names, the same for the same seed."""

import torch

from doodle_dist.config.model import GeneratorConfig
from doodle_dist.models.latents import draw_latents


def draw(distribution: str, seed: int = 0, truncation: float | None = None) -> torch.Tensor:
    config = GeneratorConfig.model_validate({"latent_dim": 50, "latent_distribution": distribution})
    return draw_latents(config, 400, torch.Generator().manual_seed(seed), truncation)


def test_uniform_is_between_minus_one_and_one_and_normal_is_standard() -> None:
    uniform, normal = draw("uniform"), draw("normal")
    assert uniform.shape == normal.shape == (400, 50)
    assert -1 <= uniform.min() < -0.99
    assert 0.99 < uniform.max() <= 1
    assert abs(uniform.var().item() - 1 / 3) < 0.01
    assert abs(normal.mean().item()) < 0.03
    assert abs(normal.std().item() - 1) < 0.03
    assert normal.max() > 3


def test_a_seed_is_a_draw() -> None:
    for distribution in ("normal", "uniform"):
        assert torch.equal(draw(distribution, 3), draw(distribution, 3))
        assert not torch.equal(draw(distribution, 3), draw(distribution, 4))


def test_truncated_ones_have_the_distribution_of_those_that_lie_inside() -> None:
    whole = draw("normal")
    for limit in (0.3, 1.0, 2.5):
        inside, drawn = whole[whole.abs() <= limit], draw("normal", 7, limit)
        assert drawn.abs().max() <= limit
        assert drawn.abs().max() > 0.98 * limit
        assert abs(drawn.std() / inside.std() - 1) < 0.05
        assert abs(drawn.mean()) < 0.05
    assert 0.49 < draw("uniform", truncation=0.5).abs().max() <= 0.5
    assert draw("uniform", truncation=3.0).abs().max() <= 1
