"""The generator's random input."""

import math

import torch
from torch import Tensor

from doodle_dist.config.model import GeneratorConfig


def draw_latents(
    config: GeneratorConfig, count: int, generator: torch.Generator, truncation: float | None = None
) -> Tensor:
    """z [count, latent_dim] of the config's distribution, N(0, 1) or U[-1, 1], on the generator's device.

    With ``truncation`` t > 0 every component is drawn on the condition that it lies in [-t, t] (Brock et al.
    2019, section 3.1): tidier and less varied pictures.
    """
    shape, device = (count, config.latent_dim), generator.device
    if truncation is None and config.latent_distribution == "normal":
        return torch.randn(shape, generator=generator, device=device)
    uniform = torch.rand(shape, generator=generator, device=device) * 2 - 1
    if truncation is None:
        return uniform
    if config.latent_distribution == "uniform":
        return uniform * min(truncation, 1.0)
    # By the inverse of the distribution's function, in double: its ends are where float32 has no digits left.
    inside = math.erf(truncation / math.sqrt(2))
    return (
        (math.sqrt(2) * torch.erfinv(uniform.double() * inside))
        .clamp(-truncation, truncation)
        .to(uniform.dtype)
    )
