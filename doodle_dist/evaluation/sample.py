"""`doodle-dist sample`: a grid of a trained generator's drawings, with their nearest training drawings."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from doodle_dist.data import storage
from doodle_dist.data.categories import unknown_category
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.stream import Window, pictures, plan_stream, read_window
from doodle_dist.evaluation.pictures import named_rows, png, to_images, to_pixels
from doodle_dist.evaluation.snapshot import Snapshot, load_snapshot
from doodle_dist.models.latents import draw_latents

_BATCH = 256


def generate(snapshot: Snapshot, labels: Tensor, seed: int) -> Tensor:
    """One drawing for each label [N]: float [N, C, H, W] in [-1, 1], the same for the same seed."""
    net, generator = snapshot.generator, torch.Generator().manual_seed(seed)
    config = snapshot.experiment.model.generator
    assert config is not None
    latents = draw_latents(config, len(labels), generator)
    parts = zip(latents.split(_BATCH), labels.split(_BATCH), strict=True)
    with torch.no_grad():
        return torch.cat([net(z, y) for z, y in parts])


def write_samples(
    run: str,
    *,
    categories: tuple[str, ...] = (),
    count: int = 8,
    seed: int = 0,
    output: Path,
    which: str = "best",
    judge: str = "",
    data: str = "",
) -> Path:
    """Write a PNG with one row of ``count`` samples per category; with a ``judge``, neighbours under each row.

    A neighbour is the training drawing of the same category whose features, as the judge sees them, are
    nearest. Raises ValueError where a run is of the wrong kind or a category unknown.
    """
    if which not in ("best", "latest"):
        raise ValueError(f"--checkpoint {which!r}: should be best or latest")
    snapshot = load_snapshot(storage.absolute(run), which=which)
    for name in categories:
        if name not in snapshot.categories:
            raise ValueError(f"--categories: {unknown_category(name, snapshot.categories)}")
    names = categories or snapshot.categories
    labels = torch.tensor([snapshot.categories.index(name) for name in names]).repeat_interleave(count)
    samples = generate(snapshot, labels, seed)
    rows: list[tuple[str, NDArray[np.uint8]]] = []
    nearest = (
        _Neighbours(snapshot, storage.absolute(judge), data and storage.absolute(data)) if judge else None
    )
    for name, drawn in zip(names, samples.split(count), strict=True):
        rows.append((name, to_pixels(drawn)))
        if nearest:
            rows.append(("  nearest real", nearest.of(drawn, name)))
    output.write_bytes(png(named_rows(rows)))
    return output


class _Neighbours:
    """Nearest training drawings in a judge's features."""

    def __init__(self, snapshot: Snapshot, judge: str, data: str) -> None:
        self.judge = load_snapshot(judge).classifier
        self.uri = data or snapshot.experiment.data.uri
        self.manifest = load_manifest(self.uri)

    def of(self, drawn: Tensor, category: str) -> NDArray[np.uint8]:
        """The nearest training drawing of ``category`` to each picture [N, C, H, W]: uint8 [N, C, H, W]."""
        plan = plan_stream(
            self.manifest, self.uri, "train", categories=(category,), lanes=1, global_batch=8192
        )
        wanted = self.judge.features(drawn)
        best = torch.full((len(drawn),), float("inf"))
        found = np.zeros((len(drawn), plan.channels, plan.side, plan.side), np.uint8)
        for step in range(plan.order(0).steps):
            pixels = pictures(plan, read_window(plan, range(1), Window(0, step, step + 1)))
            features = self.judge.features(to_images(pixels, torch.device("cpu")))
            distance, index = torch.cdist(wanted, features).min(dim=1)
            closer = (distance < best).numpy()
            found[closer] = pixels[index.numpy()[closer]]
            best = torch.minimum(best, distance)
        return found
