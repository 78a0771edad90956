"""The generator's random input."""

import torch
from torch import Tensor

from doodle_dist.config.model import GeneratorConfig


def draw_latents(config: GeneratorConfig, count: int, generator: torch.Generator) -> Tensor:
    """z [count, latent_dim] of the config's distribution, N(0, 1) or U[-1, 1], on the generator's device."""
    shape, device = (count, config.latent_dim), generator.device
    if config.latent_distribution == "uniform":
        return torch.rand(shape, generator=generator, device=device) * 2 - 1
    return torch.randn(shape, generator=generator, device=device)
