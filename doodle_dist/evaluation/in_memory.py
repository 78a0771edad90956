"""A step of a task on pictures that are held in memory, by one rank."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from doodle_dist.errors import WorkFailedError
from doodle_dist.pictures import to_device, to_images
from doodle_dist.training.task import Clock, LaneRandom, StepInput, Task, step_at_once


def take_step(
    task: Task,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    clock: Clock,
    seed: int,
    device: torch.device,
) -> None:
    """One update on uint8 pictures [B, C, H, W] of labels [B], in one lane.

    Raises WorkFailedError where its loss or a gradient is not finite.
    """
    random = LaneRandom(seed, clock.step, ((0, len(labels)),), device)
    images, wanted = to_images(pixels, device), to_device(labels, device)
    step_at_once(task, StepInput(images, wanted, len(labels), random), clock)
    if not math.isfinite(float(task.health())):
        raise WorkFailedError(
            f"a loss or gradient is not finite at step {clock.step}, drawing {clock.drawings_seen:,}"
        )
