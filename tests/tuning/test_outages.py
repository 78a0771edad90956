"""A store, a node or a cluster that fails is not a trial's own failure: the trial is tried again, and is not over."""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray.tune
import torch
from ray import cloudpickle
from ray.exceptions import ActorDiedError, ActorUnavailableError, NodeDiedError, RayActorError, RayTaskError
from ray.train import TrainingFailedError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from doodle_dist.config.load import load_experiment
from doodle_dist.config.search import load_search
from doodle_dist.data import retry, storage
from doodle_dist.data.storage_errors import DamagedError, StorageError
from doodle_dist.run.files import COMMIT, META
from doodle_dist.training.loop import NonFiniteError
from doodle_dist.tuning import on_workers
from doodle_dist.tuning import trial as trial_module
from doodle_dist.tuning.follow import Follower
from doodle_dist.tuning.ledger import Ledger, Request, read_search
from doodle_dist.tuning.on_workers import run_trial_on_workers
from doodle_dist.tuning.outages import is_of_the_place, own_reason
from doodle_dist.tuning.resources import TrialResources
from doodle_dist.tuning.trial import POINT, TRIAL, Job, run_trial
from tests.runs import stored_checkpoint

AWAY = StorageError("s3://bucket/run: the store is unreachable")
NODE = RayActorError(
    error_msg="The actor died unexpectedly.\nThe actor died because its node has died. Node Id: 95a1"
)
PROCESS = RayActorError(
    error_msg="The actor died because its worker process was killed due to the node running low on memory"
)


def in_a_task(error: Exception) -> Exception:
    """As Ray Tune is handed what a trial raises."""
    return RayTaskError("train", "a traceback", error).as_instanceof_cause()


def of_workers(*errors: Exception) -> Exception:
    return WorkerGroupError("\n".join(map(str, errors)), dict(enumerate(errors)))


PLACE = {
    "store": AWAY,
    "store, in a task": in_a_task(AWAY),
    "store, of a worker": of_workers(AWAY),
    "node": NODE,
    "node, of a worker whose peer lost it": of_workers(RuntimeError("Connection closed by peer"), NODE),
    "preempted": RayActorError(error_msg="gone", preempted=True),
    "cut off": ActorUnavailableError("The actor is temporarily unavailable", b"0" * 16),
    "node, of a task": NodeDiedError("The node died"),
    "disk": OSError(28, "No space left on device"),
    "connection": in_a_task(ConnectionResetError("Connection reset by peer")),
    "workers that don't start": ControllerError(RuntimeError("the worker group startup timed out")),
}
OWN = {
    "mistake": in_a_task(ArithmeticError("a mistake in a net")),
    "mistake, of a worker": of_workers(ArithmeticError("a mistake in a net")),
    "not finite": NonFiniteError("a loss is not finite"),
    "process": PROCESS,
    "process, of a worker whose peer lost it": of_workers(RuntimeError("Connection closed by peer"), PROCESS),
    "process, nothing known": ActorDiedError(),
    "damaged": DamagedError("part-00000.parquet is damaged"),
    "damaged, in a task": in_a_task(DamagedError("part-00000.parquet is damaged")),
}


@pytest.mark.parametrize("error", PLACE.values(), ids=PLACE)
def test_what_the_place_is_to_blame_for(error: Exception) -> None:
    assert is_of_the_place(error)
    assert is_of_the_place(cloudpickle.loads(cloudpickle.dumps(error)))


@pytest.mark.parametrize("error", OWN.values(), ids=OWN)
def test_what_the_trial_is_to_blame_for(error: Exception) -> None:
    assert not is_of_the_place(error)
    assert not is_of_the_place(cloudpickle.loads(cloudpickle.dumps(error)))


def from_another(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NonFiniteError("a loss is not finite"), "a loss is not finite"),
        (in_a_task(ValueError("no such\ncolumn")), "no such column"),
        (from_another(ValueError("other nets than these"), KeyError("net")), "other nets than these"),
        (of_workers(in_a_task(MemoryError("no room"))), "out of memory: no room"),
        (of_workers(PROCESS), f"RayActorError: {PROCESS}"),
    ],
)
def test_a_trial_s_reason_is_what_was_raised_inside_of_rays_wrappers(error: Exception, reason: str) -> None:
    assert own_reason(error) == reason


def test_a_trial_that_found_no_room_in_its_share_of_a_gpu_says_what_gives_more(
    reported: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a trial takes is measured beforehand, and one of them may take more."""
    said = "out of memory in its share of the GPU (0.07; --gpus-per-trial gives more): CUDA out of memory"
    allowed: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", allowed.append)
    for share, reason in ((1 / 14, said), (1.0, "out of memory: CUDA out of memory")):
        assigned = SimpleNamespace(get_assigned_resources=lambda share=share: {"CPU": 1.0, "GPU": share})
        monkeypatch.setattr(trial_module.ray, "get_runtime_context", lambda assigned=assigned: assigned)
        one_worker(torch.OutOfMemoryError("CUDA out of memory"), monkeypatch)
        assert reported.pop() == {"reason": reason}
    assert allowed == [1 / 14], "who has a whole GPU has all of its memory"
    assert own_reason(MemoryError("no room"), gpu_share=0.5) == "out of memory: no room", "the machine's"


class _Trial:
    """As much of Ray Tune's trial as a follower asks for."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number, self.folder = number, folder
        self.config = {POINT: {TRIAL: number, "optim.generator.lr": 1e-3}}
        self.pickled_error_file: str | None = None

    def __str__(self) -> str:
        return f"trial-{self.number:05d}"

    def failed_with(self, error: Exception) -> "_Trial":
        file = self.folder / f"error-{self.number}.pkl"
        file.write_bytes(cloudpickle.dumps(error))
        self.pickled_error_file = str(file)
        return self


def follower_of(folder: Path, trials: int) -> Follower:
    base = load_experiment("doodle-gan-small")
    search = load_search("doodle-gan-small", base)
    request = Request(
        base.model_dump(mode="json"), search.model_dump(mode="json"), trials, "asha", "random", 0
    )
    ledger = Ledger(str(folder / "search"), request)
    return Follower(ledger, 2, TrialResources(1.0, 0.0, 1, 0.0), threading.Event(), quiet=True)


def test_a_trial_that_was_interrupted_is_not_over_and_goes_on(tmp_path: Path) -> None:
    follower = follower_of(tmp_path, 3)
    interrupted, failed, died = (_Trial(number, tmp_path) for number in range(3))
    for trial in (interrupted, failed, died):
        follower.on_trial_start(0, [], trial)
    follower.on_trial_error(1, [], interrupted.failed_with(in_a_task(AWAY)))
    follower.on_trial_error(1, [], failed.failed_with(PROCESS))
    follower.on_trial_error(1, [], died)
    follower.ledger.close()
    record = read_search(str(tmp_path / "search"))
    assert record is not None
    assert [record.trials[n].status for n in range(3)] == ["interrupted", "failed", "failed"]
    assert [record.trials[n].is_over for n in range(3)] == [False, True, True]
    assert not record.is_over
    assert record.interruptions == f"1 of its trials were interrupted: {AWAY}"

    again = follower_of(tmp_path, 3)
    again.on_trial_start(0, [], interrupted)
    assert again.ledger.record.trials[0].status == "running"
    assert again.ledger.record.interruptions == ""
    again.on_trial_complete(1, [], interrupted)
    assert again.ledger.record.is_over


def test_a_reason_in_brackets_is_told_as_it_is(tmp_path: Path) -> None:
    follower, trial = follower_of(tmp_path, 1), _Trial(0, tmp_path)
    follower.on_trial_start(0, [], trial)
    reason = "[/pytorch/gloo/transport/tcp/pair.cc:547] Connection closed by peer"
    follower.on_trial_error(1, [], trial.failed_with(of_workers(RuntimeError(reason))))
    assert follower.ledger.record.trials[0].reason == reason


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What a trial reports, by itself and outside of a cluster."""
    told: list[dict[str, object]] = []
    monkeypatch.setattr(ray.tune, "report", told.append)
    monkeypatch.setattr(retry, "_process_patience_s", 1.0)  # a trial's own is for all that comes after it
    for module in (on_workers, trial_module):
        monkeypatch.setattr(module, "this_trial", lambda: 3)
    return told


JOB = Job(load_experiment("doodle-gan-small").model_dump(mode="json"), "nowhere", (), "judge", 1, {})


def one_worker(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: object) -> None:
        raise error

    monkeypatch.setattr(trial_module, "_train", train)
    run_trial({POINT: {}}, JOB, None)


def test_of_several_workers_a_report_that_was_lost_is_told_again(
    tmp_path: Path, reported: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Train goes on from the run's last checkpoint, and tells nothing of it."""
    trained: list[str] = []

    class Trainer:
        def fit(self) -> None:
            trained.append("again")

    monkeypatch.setattr(on_workers, "TuneReportCallback", object)
    monkeypatch.setattr(on_workers, "trainer", lambda *_, **__: Trainer())
    experiment = load_experiment("doodle-gan-small", ["train.drawings=200"]).model_dump(mode="json")
    job = Job(experiment, str(tmp_path), (100, 200), "score", 1, {})
    run = str(tmp_path / "trial-00003")
    run_trial_on_workers({POINT: {}}, job)
    assert (reported, trained) == ([], ["again"])
    stored_checkpoint(run, tmp_path, 100, 0.25)
    run_trial_on_workers({POINT: {}}, job)
    assert (reported, trained) == ([], ["again"] * 2), "not at its end"
    end = stored_checkpoint(run, tmp_path, 200, 0.5)
    run_trial_on_workers({POINT: {}}, job)
    assert [(one["drawings_seen"], one["score"]) for one in reported] == [(200, 0.5)]
    assert trained == ["again"] * 2, "nothing is left to train"
    for damaged in (META, COMMIT):
        storage.write_atomic(f"{end}/{damaged}", b"{}")
        run_trial_on_workers({POINT: {}}, job)
    assert (len(reported), trained) == (1, ["again"] * 4), "the workers go on from the one before"
    stored_checkpoint(run, tmp_path, 208, float("nan"))
    run_trial_on_workers({POINT: {}}, job)
    assert reported[1]["drawings_seen"] == 208
    assert "score" not in reported[1], "Ray Tune's schedulers reckon with what they are told"


def several_workers(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    class Trainer:
        def fit(self) -> None:
            raise of_workers(error)

    monkeypatch.setattr(on_workers, "TuneReportCallback", object)
    monkeypatch.setattr(on_workers, "trainer", lambda *_, **__: Trainer())
    run_trial_on_workers({POINT: {}}, JOB)


@pytest.mark.parametrize("run", [one_worker, several_workers])
@pytest.mark.parametrize("error", [AWAY, NODE, OSError(28, "No space left on device")])
def test_ray_tune_is_left_to_start_a_trial_again_whose_place_failed(
    run: Callable[[Exception, pytest.MonkeyPatch], None],
    error: Exception,
    reported: list[dict[str, object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises((type(error), TrainingFailedError)):
        run(error, monkeypatch)
    assert reported == []


def test_a_process_of_ray_data_that_dies_is_not_a_trial_s_own(
    reported: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RayActorError):
        one_worker(PROCESS, monkeypatch)
    assert reported == []


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_process_whose_gpu_is_lost_is_given_no_other_trial(
    is_lost: bool, reported: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def synchronize() -> None:
        if is_lost:
            raise torch.AcceleratorError("an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    with pytest.raises(RuntimeError, match="illegal") if is_lost else nullcontext():
        one_worker(RuntimeError("an illegal memory access"), monkeypatch)
    assert len(reported) == (not is_lost)


@pytest.mark.parametrize("run", [one_worker, several_workers])
@pytest.mark.parametrize("wrapped", [lambda error: error, in_a_task], ids=["as it is", "in a task"])
def test_a_trial_s_own_mistake_is_reported_once(
    run: Callable[[Exception, pytest.MonkeyPatch], None],
    wrapped: Callable[[Exception], Exception],
    reported: list[dict[str, object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(wrapped(ArithmeticError("a mistake in a net")), monkeypatch)
    assert reported == [{"reason": "ArithmeticError: a mistake in a net"}]
