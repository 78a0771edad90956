"""`doodle-dist interpolate`: drawings on the way from one latent to another, or from category to category.

**Latents** go along a great circle (Shoemake 1985, section 3.3; White 2016, section 2.1): halfway between two
Gaussian vectors of many components lies a vector much shorter than any that training has shown. Uniform ones take
the same way as the normal ones with the same probabilities, and so stay uniform.

**Categories** are mixed where the network takes them in, and there linearly. A one-hot vector or an embedding is
read by a linear layer, so that its mixture is that of the layer's outputs; embeddings have no common length that a
circle would keep. Conditional BatchNorm's scales and shifts are mixed as Dumoulin et al. (2017, section 3.2) mix
styles. A generator that doesn't see the category can't be led from one to another.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from doodle_dist.config.model import GeneratorConfig
from doodle_dist.data import locations
from doodle_dist.evaluation.history import gif
from doodle_dist.evaluation.sample import GRID_LIMIT, check_draw, labels_asked_for, latents_of
from doodle_dist.pictures import named_rows, png, to_pixels
from doodle_dist.run.snapshot import Snapshot, best_device, load_snapshot

_BATCH = 256
_FRAME_MS, _END_MS = 80, 600


def great_circle(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """From a to b [latent_dim] at the shares t [S]: [S, latent_dim] (Shoemake 1985, section 3.3).

    Direction turns evenly and length changes evenly; vectors that are (nearly) parallel, and zero, go straight.
    """
    a, b, t = a.double(), b.double(), t.double()[:, None]
    lengths = a.norm(), b.norm()
    product = lengths[0] * lengths[1]
    angle = math.acos(float((a @ b / product).clamp(-1, 1))) if product > 0 else 0.0
    if math.sin(angle) < 1e-6:
        return ((1 - t) * a + t * b).float()
    length = (1 - t) * lengths[0] + t * lengths[1]
    turned = torch.sin((1 - t) * angle) * a / lengths[0] + torch.sin(t * angle) * b / lengths[1]
    return (turned / math.sin(angle) * length).float()


def between_latents(config: GeneratorConfig, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """``great_circle``, for the latents of the config's distribution."""
    if config.latent_distribution == "normal":
        return great_circle(a, b, t)
    # U[-1, 1] to N(0, 1) and back, short of the ends, which are infinitely far away.
    x, y = (math.sqrt(2) * torch.erfinv(end.double().clamp(-1 + 1e-7, 1 - 1e-7)) for end in (a, b))
    return torch.erf(great_circle(x, y, t).double() / math.sqrt(2)).float()


def _draw(snapshot: Snapshot, z: Tensor, weights: Tensor) -> NDArray[np.uint8]:
    """uint8 [S, C, H, W] of latents [S, latent_dim] and mixtures of categories, float [S, K]."""
    device = next(snapshot.generator.parameters()).device
    with torch.no_grad():
        parts = [
            snapshot.generator(a.to(device), w.to(device))
            for a, w in zip(z.split(_BATCH), weights.split(_BATCH), strict=True)
        ]
    return to_pixels(torch.cat(parts))


def along_latents(
    snapshot: Snapshot, label: int, steps: int, *, row: int, seed: int, truncation: float | None = None
) -> NDArray[np.uint8]:
    """Within a category, from its sample 2·row of that seed to the next: uint8 [steps, C, H, W]."""
    config = snapshot.generator_config
    a, b = latents_of(config, label, 2, seed=seed, truncation=truncation, first=2 * row)
    z = between_latents(config, a, b, torch.linspace(0, 1, steps))
    return _draw(snapshot, z, _weights(snapshot, [label], torch.zeros(steps)))


def along_categories(
    snapshot: Snapshot,
    labels: Sequence[int],
    steps: int,
    *,
    row: int,
    seed: int,
    truncation: float | None = None,
) -> NDArray[np.uint8]:
    """One latent, the first category's sample ``row`` of that seed, led from category to category.

    ``steps`` pictures from each to the next, ends counted once: uint8 [(len(labels) - 1)(steps - 1) + 1, C, H, W].
    """
    z = latents_of(snapshot.generator_config, labels[0], 1, seed=seed, truncation=truncation, first=row)
    places = torch.linspace(0, len(labels) - 1, (len(labels) - 1) * (steps - 1) + 1)
    return _draw(snapshot, z.expand(len(places), -1), _weights(snapshot, labels, places))


def _weights(snapshot: Snapshot, labels: Sequence[int], places: Tensor) -> Tensor:
    """[S, K] weights of places [S] on a path: at 1.25 three quarters of ``labels[1]``, a quarter of [2]."""
    weights = torch.zeros(len(places), len(snapshot.categories))
    for k, label in enumerate(labels):
        weights[:, label] += (1 - (places - k).abs()).clamp_min(0)
    return weights


def write_interpolation(
    run: str,
    *,
    categories: tuple[str, ...] = (),
    rows: int = 4,
    steps: int = 9,
    seed: int = 0,
    truncation: float | None = None,
    output: Path,
    which: str = "best",
) -> Path:
    """Write a strip per row as a PNG, or all rows moving as a GIF, by the output's name.

    Two or more ``categories``: each row leads a latent of its own from the first to the last of them. One: each
    row goes between two latents in it. None: the same in every category, ``rows`` in each, or in any
    (labels_asked_for). Raises ValueError as ``write_samples``.
    """
    check_draw(rows, seed, truncation)
    if output.suffix not in (".png", ".gif"):
        raise ValueError(f"-o {output}: should end with .png (strips) or .gif")
    if steps < 2:
        raise ValueError(f"--steps {steps}: should be at least 2, both ends counted")
    for one, next_one in pairwise(categories):
        if one == next_one:
            raise ValueError(f"--categories: from {one} to {next_one} there is no way to go")
    snapshot = load_snapshot(locations.absolute(run), which=which, device=best_device())
    asked = labels_asked_for(snapshot, categories)
    strips = 1 if len(categories) > 1 else len(asked)
    if (pictures := rows * strips * steps * max(len(categories) - 1, 1)) > GRID_LIMIT:
        raise ValueError(f"{pictures:,} pictures are too many (at most {GRID_LIMIT:,}): fewer -n or --steps")
    ways: dict[str, Callable[..., NDArray[np.uint8]]]
    if len(categories) > 1:
        path = [asked[name] for name in categories]
        ways = {" to ".join(categories): partial(along_categories, snapshot, path, steps)}
    else:
        ways = {name: partial(along_latents, snapshot, label, steps) for name, label in asked.items()}
    drawn = [
        (name if row == 0 else "", way(row=row, seed=seed, truncation=truncation))
        for name, way in ways.items()
        for row in range(rows)
    ]
    output.write_bytes(_moving(drawn, rows, steps) if output.suffix == ".gif" else png(named_rows(drawn)))
    return output


def _moving(drawn: list[tuple[str, NDArray[np.uint8]]], rows: int, steps: int) -> bytes:
    """A GIF, there and back again, that rests where a way ends: of each step the pictures of all strips, those of
    one name in one line."""
    count = len(drawn[0][1])
    frames = []
    for step in range(count):
        lines = [
            (drawn[at][0], np.stack([strip[step] for _, strip in drawn[at : at + rows]]))
            for at in range(0, len(drawn), rows)
        ]
        frames.append(named_rows(lines))
    there_and_back = [*range(count), *range(count - 2, 0, -1)]
    durations = [_FRAME_MS if step % (steps - 1) else _END_MS for step in there_and_back]
    return gif([frames[step] for step in there_and_back], durations)
