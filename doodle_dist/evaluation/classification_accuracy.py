"""Classification accuracy score: how well a classifier that saw only samples reads real drawings.

Ravuri & Vinyals 2019, "Classification Accuracy Score for Conditional Generative Models". The classifier is
the preset `evaluator`'s, trained anew.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from doodle_dist.config.load import load_experiment
from doodle_dist.data.stream_plan import StreamPlan
from doodle_dist.evaluation.drawings import chunks, pictures_of
from doodle_dist.evaluation.in_memory import take_step
from doodle_dist.metrics.classifier import Confusion
from doodle_dist.pictures import to_images
from doodle_dist.run.snapshot import best_device
from doodle_dist.training.classifier import ClassifierTask
from doodle_dist.training.task import Clock, DataShape, as_it_is

_EPOCHS = 8


def accuracy_after_training_on(
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    test: StreamPlan,
    categories: tuple[str, ...],
    *,
    epochs: int = _EPOCHS,
    seed: int = 0,
    settings: Sequence[str] = (),
) -> float:
    """Top-1 on all drawings of ``test`` of a classifier trained on uint8 pictures [N, C, H, W] of labels [N].

    ``settings`` are overrides of the preset. Raises WorkFailedError where the training diverges.
    """
    device, total = best_device(), epochs * len(labels)
    length = [f"train.drawings={total}", f"optim.classifier.warmup_drawings={total // 4}"]
    experiment = load_experiment("evaluator", [*length, *settings])
    shape = DataShape(
        categories, tuple(np.bincount(labels, minlength=len(categories)).tolist()), test.side, test.channels
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        task = ClassifierTask(experiment, shape, device=device, world_size=1, wrap=as_it_is)
        batch, step, seen = experiment.train.global_batch, 0, 0
        order = np.random.default_rng(seed)
        for _ in range(epochs):
            shuffled = order.permutation(len(labels))
            for rows in np.split(shuffled, range(batch, len(shuffled), batch)):
                take_step(task, pixels[rows], labels[rows], Clock(step, seen, total), seed, device)
                step, seen = step + 1, seen + len(rows)
    return _top1(task.average.net, test, len(categories), device)


@torch.no_grad()
def _top1(net: nn.Module, plan: StreamPlan, categories: int, device: torch.device) -> float:
    confusion = Confusion(categories, device)
    for chunk in chunks(plan, plan.rows):
        images = to_images(pictures_of(plan, chunk), device)
        confusion.add(net(images), torch.from_numpy(chunk.labels).to(device))
    figures = confusion.figures()
    assert figures is not None
    return figures.scalars["top1"]
