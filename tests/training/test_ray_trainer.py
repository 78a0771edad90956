"""What Ray Train takes for the end of a run, and isn't; whose callbacks it asks first."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.exceptions import RayActorError, RayTaskError
from ray.train import ControllerError
from torch.distributed import DistNetworkError

from doodle_dist.config.load import load_run, parse_workers
from doodle_dist.training.entry import GiveBack
from doodle_dist.training.ray_trainer import choose_callbacks, died_as_it_began, trainer


def in_a_worker(error: Exception) -> Exception:
    """What Ray raises in the controller where a worker raised it."""
    raised: Exception = RayTaskError("set_up", "a traceback", error).as_instanceof_cause()
    return raised


def as_it_arrives(failure: Exception) -> ControllerError:
    """The controller's failure, once Ray has brought it to the driver."""
    arrived: ControllerError = cloudpickle.loads(cloudpickle.dumps(ControllerError(failure)))
    return arrived


def test_a_worker_that_died_as_it_began_is_worth_another_start_and_other_ends_are_not() -> None:
    assert died_as_it_began(as_it_arrives(RayActorError()))
    assert died_as_it_began(as_it_arrives(in_a_worker(DistNetworkError("Connection closed by peer"))))
    assert not died_as_it_began(as_it_arrives(in_a_worker(ValueError("a mistake"))))
    assert not died_as_it_began(as_it_arrives(RuntimeError("the controller's own")))
    assert not died_as_it_began(RuntimeError("a mistake"))


def test_ours_comes_before_ray_trains_own_callbacks_and_some_are_left_out() -> None:
    class Needed: ...

    class Spare: ...

    needed, ours = Needed(), GiveBack()
    trainer: Any = SimpleNamespace(_create_default_callbacks=lambda: [Spare(), needed, ours])
    choose_callbacks(trainer, without=("Spare",))
    assert trainer._create_default_callbacks() == [ours, needed]


@pytest.mark.parametrize(
    ("workers", "wait_s", "start_s"), [("2", 0.0, None), ("2", 900.0, "900.0"), ("2:4", 900.0, "15.0")]
)
def test_a_lost_node_s_replacement_is_waited_for_as_long_as_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, workers: str, wait_s: float, start_s: str | None
) -> None:
    """Where all workers are to be there; where their number may vary, it goes on with fewer soon."""
    name = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
    monkeypatch.setenv(name, "")
    monkeypatch.delenv(name)
    experiment = load_run("classifier-small", [], {"data.uri": str(tmp_path), **parse_workers(workers)})
    trainer(experiment, str(tmp_path / "mine"), None, wait_s=wait_s)
    assert os.environ.get(name) == start_s
