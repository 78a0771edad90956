"""A step on pictures in memory: what came of it is looked at."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from doodle_dist.errors import WorkFailedError
from doodle_dist.evaluation.in_memory import take_step
from doodle_dist.training.task import Clock, Planned, StepInput


def task_whose_health_is(value: float) -> tuple[Any, list[StepInput]]:
    """A task that learns nothing, and the batches that it was given."""
    given: list[StepInput] = []
    plan, health = (
        lambda *_: Planned(None, None, lambda batch: given.append(batch) or {}),
        lambda: torch.tensor(value),
    )
    return SimpleNamespace(plan=plan, health=health), given


def step(value: float) -> StepInput:
    task, given = task_whose_health_is(value)
    pixels, labels = np.full((2, 1, 28, 28), 255, np.uint8), np.array([0, 1])
    take_step(task, pixels, labels, Clock(7, 12_345, 20_000), 0, torch.device("cpu"))
    return given[0]


def test_a_task_is_given_the_pictures_in_its_range() -> None:
    batch = step(0.5)
    assert (batch.images == 1).all()
    assert batch.labels.tolist() == [0, 1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_comes_to_no_number_is_work_that_failed(value: float) -> None:
    with pytest.raises(WorkFailedError, match="not finite at step 7, drawing 12,345"):
        step(value)
