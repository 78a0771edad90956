"""What a worker builds from an experiment, without Ray: what a run goes on from and what it refuses, and the drawings
that it is judged on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from socket import gethostname

import pytest
import torch

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import load_experiment
from doodle_dist.data import storage, stream, stream_here
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.storage_errors import StorageError
from doodle_dist.data.stream_plan import Window
from doodle_dist.data.stream_rows import RowGroupsInMemory
from doodle_dist.run.folder import read_events
from doodle_dist.training.checkpoint import save_checkpoint
from doodle_dist.training.checkpoint_store import CheckpointStore
from doodle_dist.training.context import Alone, Context
from doodle_dist.training.cursor import Cursor
from doodle_dist.training.lease import LeaseLostError, _as_json, held
from doodle_dist.training.loop import Run
from doodle_dist.training.metrics_log import MetricsLog
from doodle_dist.training.plan import first_cursor, held_out_plan, training_plan
from doodle_dist.training.reasons import NodeError
from doodle_dist.training.worker import _check_shared, close_run, follow_store, held_out, prepare_run
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
    experiment: Experiment, folder: Path, checkpoint: Path | None = None, context: Context | None = None
) -> Iterator[tuple[Run, Cursor]]:
    """A run as its worker prepares it, its drawings read from memory."""
    manifest = load_manifest(experiment.data.uri)
    memory = RowGroupsInMemory([training_plan(experiment, manifest)])
    context = context or Alone(torch.device("cpu"))
    run, batches, cursor = prepare_run(
        experiment, str(folder / "run"), context, checkpoint=checkpoint, memory=memory
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


def test_a_node_whose_own_copy_of_the_dataset_is_spoilt_says_so(tmp_path: Path) -> None:
    """And is no wrong request, which every rank would meet: the others wait for this one."""
    copy = prepare_here(tmp_path, {"cat": 60, "dog": 60})
    counts = Path(copy, "train", "group_counts.npy")
    counts.write_bytes(counts.read_bytes()[:-2] + b"\1\1")
    experiment = experiment_for(copy, "classifier-small", 'data.categories=["cat"]')
    with pytest.raises(NodeError, match=rf"on {gethostname()}: .*group_counts\.npy: its checksum differs"):
        prepare_run(experiment, str(tmp_path / "run"), Alone(torch.device("cpu")), checkpoint=None)


def test_a_node_that_lacks_a_network_of_ones_own_says_so(data: str, tmp_path: Path) -> None:
    experiment = experiment_for(data, "classifier-small", "model.classifier.name=nowhere_at_all:Net")
    with (
        pytest.raises(NodeError, match=rf"on {gethostname()}: model\.classifier\.name='nowhere_at_all:Net'"),
        prepared(experiment, tmp_path),
    ):
        pass


class Second(Alone):
    """A rank whose node sees what rank 0's does, but for what rank 0 has in its data's place."""

    def __init__(self, theirs: Experiment) -> None:
        super().__init__(torch.device("cpu"))
        manifest = load_manifest(theirs.data.uri)
        self.theirs = first_cursor(theirs, manifest, training_plan(theirs, manifest))

    def agree(self, value: object) -> object:  # type: ignore[override]
        return self.theirs if isinstance(value, Cursor) else value


def test_a_node_that_holds_another_dataset_says_so(data: str, tmp_path: Path) -> None:
    other = prepare_here(tmp_path / "other", {"cat": 300, "dog": 200, "fish": 121})
    with prepared(experiment_for(data), tmp_path, context=Second(experiment_for(data))):
        pass
    with (
        pytest.raises(NodeError, match=rf"on {gethostname()}: {data} holds another dataset than on rank 0's"),
        prepared(experiment_for(data), tmp_path, context=Second(experiment_for(other))),
    ):
        pass


def test_what_became_of_a_checkpoint_is_told_and_noted(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    store = CheckpointStore(str(tmp_path / "run"), 1, None, told.append)
    with prepared(experiment_for(data), tmp_path) as (run, _):
        follow_store(run, store)
        store.warn("checkpoint_1 was not stored")
        assert told == ["checkpoint_1 was not stored"]
        noted = read_events(run.uri)[-1]
        assert (noted["event"], noted["said"]) == ("warning", told[0])

        def away(*_: object, **__: object) -> None:
            raise StorageError("the store is unreachable")

        monkeypatch.setattr(MetricsLog, "note", away)
        store.warn("checkpoint_2 was not stored")
        assert len(told) == 2, "what can't be noted is told all the same"
        assert run.settle == store.settle


def rank_of(rank: int, world_size: int) -> Alone:
    context = Alone(torch.device("cpu"))
    context.rank, context.world_size = rank, world_size
    return context


def judged(experiment: Experiment, world_size: int) -> list[list[int]]:
    """The key_ids of the drawings that each rank is given to judge by."""
    manifest = load_manifest(experiment.data.uri)
    memory = RowGroupsInMemory([held_out_plan(experiment, manifest)])
    found = []
    for rank in range(world_size):
        batches = list(held_out(experiment, manifest, rank_of(rank, world_size), memory))
        for batch in batches:
            rows = sum(rows for _, rows in batch.lane_rows)
            assert len(batch.pixels) == len(batch.labels) == len(batch.key_ids) == rows
        found.append([key for batch in batches for key in batch.key_ids.tolist()])
    return found


@pytest.fixture(scope="module")
def much_held_out(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of 1,400 drawings about 1,260 are held out: more than two steps of them."""
    return prepare_here(tmp_path_factory.mktemp("data"), {"cat": 700, "dog": 700}, (5.0, 90.0, 5.0))


@pytest.mark.parametrize("wanted", [5, 8, 13, 512, 1000, 1249, 20_000])
def test_all_numbers_of_workers_are_judged_on_the_same_drawings(much_held_out: str, wanted: int) -> None:
    experiment = experiment_for(much_held_out, "classifier-small", f"train.held_out_drawings={wanted}")
    there = load_manifest(much_held_out).splits["val"].rows
    (alone,) = judged(experiment, 1)
    assert len(alone) == len(set(alone)) == min(wanted, there)
    for world_size in (2, 3, 5, 8):
        parts = judged(experiment, world_size)
        if wanted < world_size:
            assert parts == [[]] * world_size, "one rank would wait for the others' figures"
        else:
            assert all(parts)
            assert sorted(key for part in parts for key in part) == sorted(alone)


def test_the_drawings_to_judge_by_are_read_when_they_are_asked_for_and_no_longer(much_held_out: str) -> None:
    def reading() -> list[str]:
        return [
            thread.name for thread in threading.enumerate() if thread.name.startswith(("read", "rasterize"))
        ]

    experiment = experiment_for(much_held_out, "classifier-small", "data.read=worker")
    manifest = load_manifest(much_held_out)
    before = reading()
    batches = held_out(experiment, manifest, rank_of(0, 1), None)
    assert reading() == before
    next(batches)
    assert len(reading()) > len(before)
    batches.close()
    assert reading() == before


def test_what_is_judged_by_is_read_by_the_worker_and_no_more_of_it_than_is_wanted(
    much_held_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipeline of Ray Data takes seconds to start, and would at every evaluation."""
    read: list[Window] = []
    really = stream_here.read_window
    monkeypatch.setattr(stream_here, "read_window", lambda *given: read.append(given[2]) or really(*given))
    monkeypatch.setattr(stream, "windows_read", None)
    settings = ("data.read=tasks", "train.held_out_drawings=600")
    experiment = experiment_for(much_held_out, "classifier-small", *settings)
    batches = list(held_out(experiment, load_manifest(much_held_out), rank_of(0, 1), None))
    assert sum(len(batch.labels) for batch in batches) == 600
    assert max(window.stop for window in read) == 2, "of three steps of 512"


def test_a_node_that_does_not_see_the_driver_s_folder_says_so(tmp_path: Path) -> None:
    with held(str(tmp_path / "run"), lambda _: None) as (lease, _):
        _check_shared(lease)
        with pytest.raises(
            NodeError, match=r"elsewhere on \S+ is not the driver's folder: --storage should be"
        ):
            _check_shared(replace(lease, run_uri=str(tmp_path / "elsewhere")))
    _check_shared(None)


def test_an_older_run_of_the_same_name_on_a_node_s_own_disk_is_not_the_driver_s_folder(
    tmp_path: Path,
) -> None:
    with held(str(tmp_path / "here"), lambda _: None):
        pass
    with held(str(tmp_path / "here"), lambda _: None) as (lease, _):
        with held(str(tmp_path / "there"), lambda _: None):
            pass
        with pytest.raises(NodeError, match="is not the driver's folder"):
            _check_shared(replace(lease, run_uri=str(tmp_path / "there")))
        taken_over = replace(lease, fence=lease.fence + 1, token="another")
        storage.write_atomic(taken_over.uri, _as_json(taken_over))
        with pytest.raises(LeaseLostError, match="taken over by process"):
            _check_shared(lease)
