"""The critic's pre-training: what the experiment says of its precision and of its weights' average is done."""

import pytest
import torch

from doodle_dist.training.critic import CriticTask
from doodle_dist.training.task import Clock, step_at_once
from tests.training.test_tasks import build, experiment_for, part


def trained(*settings: str, steps: int = 3) -> CriticTask:
    task = build(experiment_for("critic", *settings))
    assert isinstance(task, CriticTask)
    for step in range(steps):
        step_at_once(task, part(step), Clock(step, 16 * step, 1000))
    return task


def apart(task: CriticTask) -> float:
    """How far the snapshot's weights lie from the trained ones."""
    kept = task.snapshot()
    return max(
        float((kept[name] - weight.detach()).abs().max()) for name, weight in task.net.named_parameters()
    )


def test_the_snapshot_is_the_average_of_the_weights() -> None:
    assert apart(trained("ema.halflife_drawings=0")) == 0
    assert apart(trained("ema.halflife_drawings=1000", "ema.rampup_fraction=1")) > 0


def test_the_average_goes_on_from_a_checkpoint() -> None:
    before, after = trained("ema.halflife_drawings=1000", "ema.rampup_fraction=1"), trained(steps=0)
    after.load_state_dict(before.state_dict())
    assert all(torch.equal(kept, after.snapshot()[name]) for name, kept in before.snapshot().items())


def test_it_is_trained_in_the_precision_that_is_asked_for() -> None:
    def losses(precision: str) -> list[float]:
        task = build(experiment_for("critic", f"precision={precision}", "model.augment.probability=0"))
        return [
            float(step_at_once(task, part(step), Clock(step, 16 * step, 1000))["loss/critic"])
            for step in range(3)
        ]

    whole, half = losses("fp32"), losses("bf16")
    assert half != whole
    assert half == pytest.approx(whole, rel=0.05)
