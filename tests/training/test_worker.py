"""What a worker builds from an experiment, without Ray: what a run goes on from, and what it refuses."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import load_experiment
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.stream_rows import RowGroupsInMemory
from doodle_dist.training.checkpoint import Cursor, save_checkpoint
from doodle_dist.training.context import Alone
from doodle_dist.training.loop import Run
from doodle_dist.training.plan import training_plan
from doodle_dist.training.worker import close_run, prepare_run
from tests.datasets import prepare_here
from tests.runs import SMALL


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return prepare_here(tmp_path_factory.mktemp("data"), {"cat": 300, "dog": 200, "fish": 120})


def experiment_for(data: str, preset: str = "classifier-small", *settings: str) -> Experiment:
    rest = ["train.global_batch=32", "train.drawings=64", f"data.uri={data}"]
    return load_experiment(preset, [*SMALL[preset], *rest, *settings])


@contextmanager
def prepared(
    experiment: Experiment, folder: Path, checkpoint: Path | None = None
) -> Iterator[tuple[Run, Cursor]]:
    """A run as its worker prepares it, its drawings read from memory."""
    manifest = load_manifest(experiment.data.uri)
    memory = RowGroupsInMemory([training_plan(experiment, manifest)])
    run, batches, cursor = prepare_run(
        experiment, str(folder / "run"), Alone(torch.device("cpu")), checkpoint=checkpoint, memory=memory
    )
    try:
        yield run, cursor
    finally:
        close_run(run, batches)


@pytest.fixture
def checkpoint(data: str, tmp_path: Path) -> Path:
    """A checkpoint of `experiment_for(data)`."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    with prepared(experiment_for(data), tmp_path) as (run, cursor):
        save_checkpoint(
            folder,
            state=run.task.state_dict(),
            cursor=cursor,
            snapshot=run.task.snapshot(),
            experiment=run.experiment,
            meta=run.meta,
        )
    return folder


def test_a_run_goes_on_with_its_dataset_wherever_that_lies(
    data: str, checkpoint: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    Path(data).rename(moved)
    try:
        with prepared(experiment_for(str(moved)), tmp_path, checkpoint) as (_, cursor):
            assert cursor.lanes == 8
            assert cursor.categories == ("cat", "dog", "fish")
    finally:
        moved.rename(data)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["data.lanes=16"], r"data\.lanes=16: this run was begun with 8"),
        (['data.categories=["cat","dog"]'], r"data\.categories: this run was begun with fish"),
    ],
)
def test_a_run_does_not_go_on_in_another_order(
    data: str, checkpoint: Path, tmp_path: Path, settings: list[str], said: str
) -> None:
    with (
        pytest.raises(ValueError, match=said),
        prepared(experiment_for(data, "classifier-small", *settings), tmp_path, checkpoint),
    ):
        pass


def test_a_run_does_not_go_on_with_other_drawings(checkpoint: Path, tmp_path: Path) -> None:
    other = prepare_here(tmp_path / "other", {"cat": 300, "dog": 200, "fish": 121})
    with (
        pytest.raises(ValueError, match=r"data\.uri: .*another dataset"),
        prepared(experiment_for(other), tmp_path, checkpoint),
    ):
        pass


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("doodle-gan-small", []),
        ("classifier-small", ["model.classifier.width=8"]),
        ("classifier-small", ["model.classifier.name=doodle-cnn"]),
        ("classifier-small", ["optim.classifier.name=sgd"]),
    ],
)
def test_a_run_does_not_go_on_with_other_nets(
    data: str, checkpoint: Path, tmp_path: Path, preset: str, settings: list[str]
) -> None:
    with (
        pytest.raises(ValueError, match=r"/run was begun with another task.*another --run"),
        prepared(experiment_for(data, preset, *settings), tmp_path, checkpoint),
    ):
        pass
