"""Frozen classifiers that read drawings, and what their features and verdicts add up to."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from doodle_dist.config.model import GeneratorConfig
from doodle_dist.data import locations
from doodle_dist.data.categories import unknown_category
from doodle_dist.data.order import step_seed
from doodle_dist.data.stream_plan import StreamPlan
from doodle_dist.evaluation.drawings import chunks, pictures_of
from doodle_dist.metrics.moments import KernelMoments, Moments
from doodle_dist.models.classifiers import Classifier
from doodle_dist.models.latents import draw_latents
from doodle_dist.pictures import to_images, to_pixels
from doodle_dist.run.snapshot import best_device, load_snapshot

# More would take more drawings for each category's covariance than categories have, and third moments of F³.
MAX_FEATURES = 64
_BATCH = 256


@dataclass(frozen=True)
class Reader:
    """A run's frozen classifier. ``features`` is the number of its features."""

    run: str
    content_hash: str
    categories: tuple[str, ...]
    net: Classifier

    @property
    def features(self) -> int:
        return self.net.head.in_features

    @property
    def short_hash(self) -> str:
        return self.content_hash[:12]


def load_reader(run: str, shape: tuple[int, int]) -> Reader:
    """The best snapshot of a classifier's run, for pictures of ``shape`` (side, channels).

    Raises ValueError where the run is no classifier's, or reads pictures of another shape.
    """
    snapshot = load_snapshot(locations.absolute(run))
    net = snapshot.classifier
    if (snapshot.side, snapshot.channels) != shape:
        raise ValueError(
            f"{run} reads pictures of side {snapshot.side} with {snapshot.channels} channels; "
            f"here they have side {shape[0]} and {shape[1]}"
        )
    return Reader(run, snapshot.sha256, snapshot.categories, net)


def load_evaluator(run: str, shape: tuple[int, int]) -> Reader:
    """A reader whose features may be compared. Raises ValueError where there are more than MAX_FEATURES."""
    reader = load_reader(run, shape)
    if reader.features > MAX_FEATURES:
        raise ValueError(
            f"--evaluator {run}: its classifier has {reader.features} features, and at most {MAX_FEATURES} "
            "are allowed (`doodle-dist train evaluator` makes one)"
        )
    return reader


def load_judge(run: str, shape: tuple[int, int], evaluator: Reader, categories: tuple[str, ...]) -> Reader:
    """An independent reader that knows ``categories``.

    Raises ValueError where it is the evaluator itself, or does not know one of them.
    """
    reader = load_reader(run, shape)
    if reader.content_hash == evaluator.content_hash:
        raise ValueError(
            f"--judge {run} has the weights of the evaluator ({reader.short_hash}); conditional accuracy "
            "takes an independent classifier"
        )
    for name in categories:
        if name not in reader.categories:
            raise ValueError(f"--judge {run}: {unknown_category(name, reader.categories)}")
    return reader


class Measured:
    """What a set of drawings comes to in a reader's features; parts of it merge.

    Sums are of bounded size; of the features themselves those of the first ``keep`` drawings are kept.
    """

    def __init__(self, features: int, categories: int, keep: int) -> None:
        self.keep = keep
        self.moments = Moments(features, categories)
        self.kernel = KernelMoments(features)
        self.read = torch.zeros(categories, dtype=torch.float64)  # drawings whose category the judge reads
        self.kept: list[tuple[Tensor, Tensor]] = []

    def add(
        self, numbers: NDArray[np.int64], features: Tensor, labels: Tensor, verdicts: Tensor | None
    ) -> None:
        """Count a batch: numbers [B], features [B, F], labels [B], and whether the judge read them [B]."""
        where, features, labels = torch.from_numpy(numbers), features.cpu(), labels.cpu()
        self.moments.add(features, labels)
        self.kernel.add(features, where)
        if verdicts is not None:
            self.read.index_add_(0, labels, verdicts.cpu().double())
        early = where < self.keep
        if early.any():
            self.kept.append((where[early], features[early]))

    def merge(self, other: Self) -> None:
        """Add another part of the same drawings."""
        self.moments.merge(other.moments)
        self.kernel.merge(other.kernel)
        self.read += other.read
        self.kept += other.kept

    def first(self, count: int) -> Tensor:
        """Features [count, F] of the first ``count`` drawings in their order; count <= keep."""
        order = torch.cat([numbers for numbers, _ in self.kept]).argsort()
        return torch.cat([features for _, features in self.kept])[order][:count]

    @property
    def count(self) -> int:
        return int(self.moments.counts.sum())


@dataclass(frozen=True)
class Eyes:
    """Evaluator and judge as they travel to a worker. ``judge_labels`` are the judge's of each category [K]."""

    evaluator: Classifier
    judge: Classifier | None
    judge_labels: Tensor
    features: int
    keep: int

    @classmethod
    def of(cls, evaluator: Reader, judge: Reader | None, categories: tuple[str, ...], keep: int) -> "Eyes":
        labels = [judge.categories.index(name) for name in categories] if judge else [0] * len(categories)
        return cls(
            evaluator.net, judge.net if judge else None, torch.tensor(labels), evaluator.features, keep
        )

    def nothing_yet(self) -> Measured:
        return Measured(self.features, len(self.judge_labels), self.keep)

    @torch.no_grad()
    def look(
        self, into: Measured, numbers: NDArray[np.int64], pixels: NDArray[np.uint8], labels: NDArray[np.int64]
    ) -> None:
        """Add uint8 pictures [N, C, H, W] of labels [N] to what was measured."""
        device = next(self.evaluator.parameters()).device
        for at in range(0, len(numbers), _BATCH):
            part = slice(at, at + _BATCH)
            images, wanted = to_images(pixels[part], device), torch.from_numpy(labels[part])
            verdicts = None
            if self.judge is not None:
                verdicts = self.judge(images).argmax(1).cpu() == self.judge_labels[wanted]
            into.add(numbers[part], self.evaluator.features(images), wanted, verdicts)

    def on(self, device: torch.device) -> "Eyes":
        judge = self.judge.to(device) if self.judge is not None else None
        return Eyes(self.evaluator.to(device), judge, self.judge_labels, self.features, self.keep)


def measure_drawings(plan: StreamPlan, limit: int, eyes: Eyes, part: int, parts: int) -> Measured:
    """One part of the first ``limit`` drawings of a split."""
    eyes = eyes.on(best_device())
    measured = eyes.nothing_yet()
    for chunk in chunks(plan, limit, part, parts):
        eyes.look(measured, chunk.numbers, pictures_of(plan, chunk), chunk.labels)
    return measured


def measure_samples(
    generator: nn.Module,
    config: GeneratorConfig,
    labels: NDArray[np.int64],
    seed: int,
    eyes: Eyes,
    part: int,
    parts: int,
) -> Measured:
    """One part of a generator's samples, one for each label [N]."""
    device = best_device()
    eyes, generator = eyes.on(device), generator.to(device)
    measured = eyes.nothing_yet()
    for first in range(part * _BATCH, len(labels), parts * _BATCH):
        numbers = np.arange(first, min(first + _BATCH, len(labels)))
        eyes.look(
            measured, numbers, samples(generator, config, numbers, labels[numbers], seed), labels[numbers]
        )
    return measured


@torch.no_grad()
def samples(
    generator: nn.Module,
    config: GeneratorConfig,
    numbers: NDArray[np.int64],
    labels: NDArray[np.int64],
    seed: int,
) -> NDArray[np.uint8]:
    """Samples as a person gets them, uint8 [N, C, H, W]. A sample's latent is a function of (seed, number)."""
    device = next(generator.parameters()).device
    latents = torch.cat(
        [
            draw_latents(config, 1, torch.Generator().manual_seed(step_seed(seed, int(number), 0)))
            for number in numbers
        ]
    )
    return to_pixels(generator(latents.to(device), torch.from_numpy(labels).to(device)))
