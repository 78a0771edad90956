"""What Ray Train is told beside the training: its workers don't wait for their function for ever, and a start of theirs
that fails keeps nothing."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util import placement_group_table

from doodle_dist.training import entry
from doodle_dist.training.entry import GiveBack, HandOver
from doodle_dist.training.ray_trainer import choose_callbacks, died_as_it_began


class Group:
    """A worker group, which is its own state, and how often it was ended."""

    def __init__(self) -> None:
        self.ended = 0

    def get_workers(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(actor=name) for name in ("first", "second")]

    def get_worker_group_state(self) -> "Group":
        return self

    def shutdown(self) -> None:
        self.ended += 1


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The workers that were killed."""
    names: list[str] = []
    monkeypatch.setattr(entry.ray, "kill", names.append)
    return names


def waited_out(watch: HandOver) -> None:
    assert isinstance(watch.timer, threading.Timer)
    watch.timer.join(30)
    assert not watch.timer.is_alive()


def test_workers_that_are_not_handed_their_function_in_time_are_ended(killed: list[str]) -> None:
    watch = HandOver(within_s=0.05)
    watch.after_worker_group_start(Group())
    waited_out(watch)
    assert killed == ["first", "second"]


def test_workers_that_are_go_on(killed: list[str]) -> None:
    watch = HandOver(within_s=0.5)
    watch.after_worker_group_start(Group())
    watch.after_worker_group_training_start(Group())
    waited_out(watch)
    assert killed == []


def test_what_a_start_that_failed_has_reserved_is_given_back_once() -> None:
    give_back, group = GiveBack(), Group()
    give_back.before_controller_execute_failure_decision("retry")  # nothing was started
    give_back.after_worker_group_start(group)
    for _ in range(2):
        give_back.before_controller_execute_failure_decision("retry")
    assert group.ended == 1


def test_what_works_is_ended_by_ray_train() -> None:
    give_back, group = GiveBack(), Group()
    give_back.after_worker_group_start(group)
    give_back.after_worker_group_training_start(group)
    give_back.before_controller_execute_failure_decision("retry")
    assert not group.ended


class DiesTwice(WorkerGroupCallback):
    """Kills the workers of two starts before they have their function; of the first that is noticed at once, of the
    second as it is handed over."""

    def __init__(self) -> None:
        self.starts = 0

    def after_worker_group_start(self, worker_group: Any) -> None:
        self.starts += 1
        ray.kill(worker_group.get_workers()[0].actor)
        try:
            while True:
                worker_group.execute(id, 0)
        except RayActorError:
            if self.starts == 1:
                raise


def reserved() -> int:
    return sum(group["state"] != "REMOVED" for group in placement_group_table().values())


@pytest.mark.cluster
@pytest.mark.slow
def test_a_worker_that_dies_as_it_starts_leaves_its_place_to_the_next(
    local_ray: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "5")
    before = reserved()
    trainer = DataParallelTrainer(
        lambda: None,
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 3}),  # of four
        run_config=RunConfig(
            storage_path=str(tmp_path),
            callbacks=[DiesTwice(), GiveBack()],
            failure_config=FailureConfig(controller_failure_limit=2),
        ),
    )
    choose_callbacks(trainer, without=("DatasetsCallback", "PlacementGroupCleanerCallback"))
    with pytest.raises(ray.train.ControllerError) as error:
        trainer.fit()
    assert isinstance(error.value.controller_failure, RayActorError), "of the second: it had found room"
    assert died_as_it_began(error.value)
    assert reserved() == before
