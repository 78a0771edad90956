"""The steps by which a trial's memory is measured are those that a trial takes, seen without a GPU."""

from pathlib import Path

import pytest
import torch

from doodle_dist.config.load import load_run
from doodle_dist.training.gan import GanTask
from doodle_dist.tuning.probe import peak_gpu_bytes
from tests.datasets import prepare_here


@pytest.mark.parametrize("critic_updates", [1, 5])
def test_a_generators_update_is_among_the_steps(
    critic_updates: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = prepare_here(tmp_path, {"cat": 20, "dog": 20}, (80.0, 10.0, 10.0))
    small = [
        "model.generator.width=8",
        "model.critic.width=8",
        "train.global_batch=8",
        f"gan.updates.critic_updates={critic_updates}",
    ]
    taken = []
    update = GanTask._update_generator
    monkeypatch.setattr(
        GanTask, "_update_generator", lambda *given, **more: (taken.append(1), update(*given, **more))[1]
    )
    experiment = load_run("sngan-proj-small", small, {"data.uri": data})
    assert peak_gpu_bytes(experiment, torch.device("cpu")) == 0
    assert taken
