"""One GAN, or one classifier, of the augmentation experiment, trained in memory. No Ray in here."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.model import AugmentConfig
from doodle_dist.data.order import step_seed
from doodle_dist.evaluation.augment_drawings import Drawings, arm_batches, endless
from doodle_dist.evaluation.in_memory import take_step
from doodle_dist.evaluation.sample import latents_of
from doodle_dist.metrics.classifier import Confusion
from doodle_dist.pictures import to_images, to_pixels
from doodle_dist.run.snapshot import best_device
from doodle_dist.training.classifier import ClassifierTask
from doodle_dist.training.gan import GanTask
from doodle_dist.training.task import DROPOUT_LANES, Clock, DataShape, Task, as_it_is

_BATCH = 256


@dataclass(frozen=True)
class Score:
    """A classifier on held-out drawings. ``seen`` drawings it was trained on, ``seen_generated`` of them made up."""

    accuracy: float
    macro_f1: float
    seen: int
    seen_generated: int
    seconds: float


@dataclass(frozen=True)
class Made:
    """What a GAN drew after it was trained on ``seen`` drawings."""

    drawings: Drawings
    seen: int
    seconds: float


def train_gan(
    experiment: Experiment, real: Drawings, categories: tuple[str, ...], *, per_category: int, seed: int
) -> Made:
    """Train a GAN on ``real`` alone, for ``train.drawings``, and draw ``per_category`` of each category.

    They are drawn with the averaged (EMA) weights from untruncated latents: truncation would make tidier
    drawings, and what a classifier lacks is variety. Raises WorkFailedError where it diverges.
    """
    began, device = time.monotonic(), best_device()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        task = GanTask(experiment, _shape(real, categories), device=device, world_size=1, wrap=as_it_is)
        task.begin()
        batch = experiment.train.global_batch
        steps = steps_of(experiment)
        batches = ((real.pixels[r], real.labels[r]) for r in endless(len(real), batch, steps, seed))
        seen = _train(task, batches, steps * batch, seed, device)
    config = experiment.model.generator
    assert config is not None
    labels = np.repeat(np.arange(len(categories)), per_category)
    pixels = []
    with torch.no_grad():
        for label in range(len(categories)):
            latents = latents_of(config, label, per_category, seed=seed)
            for z in latents.split(_BATCH):
                y = torch.full((len(z),), label, device=device)
                pixels.append(to_pixels(task.average.net(z.to(device), y)))
    drawn = Drawings(np.concatenate(pixels), labels, np.zeros(len(labels), np.uint64))
    return Made(drawn, seen, time.monotonic() - began)


def train_classifier(
    experiment: Experiment,
    real: Drawings,
    generated: Drawings | None,
    test: Drawings,
    categories: tuple[str, ...],
    *,
    augmented: bool,
    share: float,
    seed: int,
) -> Score:
    """Train on ``real``, with a ``share`` of ``generated`` drawings where there are some, and judge on ``test``.

    All arms of a seed start from the same weights and see as many drawings, ``train.drawings``, of the same
    labels in the same order, at the same learning rates: a generated drawing takes a real one's place.
    ``augmented``: with the preset's own [model.augment], or with none. Raises WorkFailedError where it diverges.
    """
    began, device = time.monotonic(), best_device()
    if not augmented:
        model = experiment.model.model_copy(update={"augment": AugmentConfig()})
        experiment = experiment.model_copy(update={"model": model})
    batch, steps = experiment.train.global_batch, steps_of(experiment)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        task = ClassifierTask(
            experiment, _shape(real, categories), device=device, world_size=1, wrap=as_it_is
        )
        batches = arm_batches(real, generated, batch=batch, steps=steps, share=share, seed=seed)
        seen = _train(task, batches, steps * batch, seed, device)
    scalars = _read(task.average.net, test, len(categories), device)
    made_up = steps * round(share * batch) if generated is not None else 0
    return Score(scalars["top1"], scalars["macro_f1"], seen, made_up, time.monotonic() - began)


def steps_of(experiment: Experiment) -> int:
    """Full batches that a length in drawings comes to."""
    assert experiment.train.drawings is not None
    return -(-experiment.train.drawings // experiment.train.global_batch)


def _train(
    task: Task,
    batches: Iterable[tuple[NDArray[np.uint8], NDArray[np.int64]]],
    total: int,
    seed: int,
    device: torch.device,
) -> int:
    """Take a step for each batch; the drawings seen. Raises WorkFailedError where it diverges."""
    seen = 0
    for step, (pixels, labels) in enumerate(batches):
        torch.manual_seed(step_seed(seed, step, DROPOUT_LANES))
        take_step(task, pixels, labels, Clock(step, seen, total), seed, device)
        seen += len(labels)
    return seen


@torch.no_grad()
def _read(net: nn.Module, test: Drawings, categories: int, device: torch.device) -> dict[str, float]:
    confusion = Confusion(categories, device)
    for at in range(0, len(test), _BATCH):
        images = to_images(test.pixels[at : at + _BATCH], device)
        confusion.add(net(images), torch.from_numpy(test.labels[at : at + _BATCH]).to(device))
    figures = confusion.figures()
    assert figures is not None
    return figures.scalars


def _shape(real: Drawings, categories: tuple[str, ...]) -> DataShape:
    _, channels, side, _ = real.pixels.shape
    return DataShape(categories, real.counts(len(categories)), side, channels)
