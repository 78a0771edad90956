"""What the README and the how-tos show is what works: the files in them are taken from them and used."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

from doodle_dist.config.load import load_experiment, preset_names
from doodle_dist.config.search import load_search
from doodle_dist.training.gan import GanTask
from doodle_dist.training.task import DataShape
from tests.runs import save_run
from tests.training.test_tasks import CATEGORIES, CPU, run_steps, weights

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def block(page: str, language: str, name: str) -> str:
    """The code block of a how-to that begins with a comment naming the file."""
    text = (ROOT / "docs" / "how-to" / page).read_text()
    found = re.search(rf"```{language}\n(# {re.escape(name)}\b.*?)```", text, re.DOTALL)
    assert found, f"{page} has no {name}"
    return found[1]


def test_a_system_of_ones_own_needs_one_module_and_one_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for language, name in (("python", "my_gan.py"), ("toml", "my-gan.toml")):
        (tmp_path / name).write_text(block("own-generator.md", language, name))
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


def test_a_search_space_of_ones_own_is_read(tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(block("own-search-space.md", "toml", "space.toml"))
    experiment = load_experiment("doodle-gan-small")
    search = load_search(
        "doodle-gan-small",
        experiment,
        space=str(tmp_path / "space.toml"),
        extra=["ema.halflife_drawings=loguniform(2_000, 50_000)"],
    )
    assert {"optim.generator.lr", "train.global_batch", "ema.halflife_drawings"} <= set(search.space)


@pytest.mark.slow
def test_a_metric_of_ones_own_reads_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    save_run(run, "doodle-gan-small", CATEGORIES)
    (tmp_path / "ink.py").write_text(block("own-metric.md", "python", "ink.py"))
    monkeypatch.setattr(sys, "argv", ["ink.py", str(run)])
    runpy.run_path(str(tmp_path / "ink.py"), run_name="__main__")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(CATEGORIES)


def test_every_preset_is_listed_and_counted() -> None:
    page = (ROOT / "docs" / "explanation" / "field.md").read_text()
    rows = "".join(line for line in page.splitlines() if line.startswith("| "))
    assert set(re.findall(r"`([a-z0-9-]+)`", rows)) >= set(preset_names())
    assert f"{len(preset_names())} presets" in README
