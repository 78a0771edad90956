"""A step of a task on pictures that are held in memory, by one rank."""

import numpy as np
import torch
from numpy.typing import NDArray

from doodle_dist.pictures import to_images
from doodle_dist.training.task import Clock, LaneRandom, StepInput, Task


def take_step(
    task: Task,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    clock: Clock,
    seed: int,
    device: torch.device,
) -> None:
    """One update on uint8 pictures [B, C, H, W] of labels [B], in one lane."""
    random = LaneRandom(seed, clock.step, ((0, len(labels)),), device)
    images, wanted = to_images(pixels, device), torch.from_numpy(labels).to(device)
    task.step(StepInput(images, wanted, len(labels), random), clock)
