"""What a search may be judged by."""

from pathlib import Path

import pytest
import torch

from doodle_dist.config.load import ConfigError, load_experiment, load_run
from doodle_dist.config.search import SearchConfig, load_search
from doodle_dist.data.manifest import load_manifest
from doodle_dist.tune import plan_search
from doodle_dist.tuning.objectives import FIGURES, with_objective
from tests.datasets import prepare_here
from tests.runs import save_run

COUNTS = {"cat": 60, "dog": 60}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return prepare_here(tmp_path_factory.mktemp("objectives"), COUNTS, (60.0, 30.0, 10.0))


def search(task: str = "classifier", **table: object) -> SearchConfig:
    axis = {"classifier": "optim.classifier.lr", "gan": "optim.critic.lr"}[task]
    return SearchConfig.model_validate({"space": {axis: "loguniform(1e-4, 1e-2)"}} | table)


def test_the_figures_of_a_task_are_those_that_its_checkpoints_have(dataset: str, tmp_path: Path) -> None:
    from doodle_dist.training.context import Alone
    from doodle_dist.training.task import LaneRandom, StepInput
    from doodle_dist.training.worker import build_task

    judge = save_run(tmp_path / "judge", "classifier-small")
    manifest, cpu = load_manifest(dataset), torch.device("cpu")
    labels = torch.arange(64) % 2
    batch = StepInput(torch.rand(64, 1, 28, 28) * 2 - 1, labels, 64, LaneRandom(0, 0, ((0, 64),), cpu))
    presets = {
        "classifier": ("classifier-small", ["model.classifier.width=4"]),
        "gan": (
            "doodle-gan-small",
            ["model.generator.width=8", "model.critic.width=8", f"gan.judge={judge}"],
        ),
        "critic": ("face-critic", ["pretraining.positive=['cat']"]),
    }
    for task, (preset, settings) in presets.items():
        experiment = load_experiment(preset, settings)
        built = build_task(experiment, manifest, manifest.categories, Alone(cpu))
        found = built.evaluate([batch]).scalars
        assert set(FIGURES[task]) <= set(found), task


def test_a_search_without_an_objective_has_its_tasks_first(dataset: str) -> None:
    manifest = load_manifest(dataset)
    for preset, task, objective, mode in (
        ("classifier-small", "classifier", "val/top1", "max"),
        ("doodle-gan-small", "gan", "judge/frechet_distance", "min"),
    ):
        found = with_objective(search(task), load_experiment(preset), manifest)
        assert (found.objective, found.mode) == (objective, mode)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            {"objective": "judge/frechet_distance", "mode": "min"},
            "'judge/frechet_distance': a classifier has no such figure; known: val/top1",
        ),
        ({"objective": "val/top", "mode": "max"}, "a classifier has no such figure; did you mean val/top"),
        ({"objective": "val/top1"}, "search.mode='min': should be 'max' for val/top1"),
        ({"objective": "val/loss", "mode": "max"}, "should be 'min' for val/loss"),
        ({"objective": "val_category/fish", "mode": "max"}, "no such figure"),
    ],
)
def test_an_objective_that_a_task_has_not_is_refused_before_anything_starts(
    dataset: str, table: dict[str, object], said: str
) -> None:
    experiment = load_run("classifier-small", (), {"data.uri": dataset})
    with pytest.raises(ConfigError) as error:
        plan_search(experiment, search(**table), trials=4)
    assert said in str(error.value)


def test_one_category_may_be_searched_by(dataset: str) -> None:
    table = {"objective": "val_category/dog", "mode": "max"}
    assert with_objective(search(**table), load_experiment("classifier-small"), load_manifest(dataset))


def test_a_dataset_without_held_out_drawings_is_refused(tmp_path: Path) -> None:
    whole = prepare_here(tmp_path, COUNTS, (100.0, 0.0, 0.0))
    experiment = load_run("classifier-small", (), {"data.uri": whole})
    with pytest.raises(ConfigError, match=r"val/top1 is measured on held-out drawings, .*--split"):
        plan_search(experiment, load_search("classifier-small", experiment), trials=4)


def test_a_judge_that_cannot_judge_is_refused_before_anything_starts(dataset: str, tmp_path: Path) -> None:
    other = save_run(tmp_path / "other", "classifier-small", ("cat", "fish"))
    for judge, said in (
        (str(other), "other categories than this GAN"),
        (str(tmp_path / "none"), "has no snapshot"),
    ):
        experiment = load_run("doodle-gan-small", (), {"data.uri": dataset, "gan.judge": judge})
        with pytest.raises(ValueError, match=said):
            plan_search(experiment, load_search("doodle-gan-small", experiment), trials=4)
