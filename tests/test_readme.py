"""What the README shows is what works: its module and preset of one's own are taken from it and trained."""

import re
import sys
from pathlib import Path

import pytest
import torch

from doodle_dist.config.load import load_experiment, preset_names
from doodle_dist.training.gan import GanTask
from doodle_dist.training.task import DataShape
from tests.training.test_tasks import CATEGORIES, CPU, run_steps, weights

README = (Path(__file__).parents[1] / "README.md").read_text()


def block(language: str, name: str) -> str:
    """The README's code block that begins with a comment naming the file."""
    found = re.search(rf"```{language}\n(# {re.escape(name)}\n.*?)```", README, re.DOTALL)
    assert found, f"README has no {name}"
    return found[1]


def test_a_system_of_ones_own_needs_one_module_and_one_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for language, name in (("python", "my_gan.py"), ("toml", "my-gan.toml")):
        (tmp_path / name).write_text(block(language, name))
    monkeypatch.syspath_prepend(str(tmp_path))
    small = ["train.global_batch=16", "data.lanes=4"]
    experiment = load_experiment(str(tmp_path / "my-gan.toml"), small)
    torch.manual_seed(0)
    shape = DataShape(CATEGORIES, (100, 100, 100))
    task = GanTask(experiment, shape, device=CPU, world_size=1, wrap=lambda net: net)
    before = weights(task)
    run_steps(task, 0, 4)
    assert torch.isfinite(task.health())
    assert all(
        not torch.equal(t, before[n]) for n, t in weights(task).items() if n.endswith("layers.0.weight")
    )
    assert type(task.generator).__module__ == "my_gan"
    sys.modules.pop("my_gan")


def test_the_readme_lists_every_preset() -> None:
    listed = set(
        re.findall(r"`([a-z0-9-]+)`", README[README.index("| preset |") : README.index("### The ladder")])
    )
    assert set(preset_names()) <= listed
