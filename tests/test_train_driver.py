"""What the driver refuses before anything starts, what it makes of a run's end, and what it prints of one."""

import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from ray.exceptions import RayActorError
from ray.train import ControllerError, WorkerGroupError

from doodle_dist import train as driver
from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import load_run
from doodle_dist.data import locations
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.storage_errors import StorageError
from doodle_dist.errors import WorkFailedError
from doodle_dist.run.files import CURSOR, EXPERIMENT
from doodle_dist.run.stopped import note_reason
from doodle_dist.train import TrainResult, print_result, train
from doodle_dist.training import progress
from doodle_dist.training.asked import Asked
from doodle_dist.training.checkpoint_store import new_name, store
from doodle_dist.training.plan import first_cursor, training_plan
from tests.datasets import prepare_here
from tests.runs import local_checkpoint, save_run, stored_checkpoint


def test_a_figure_that_was_not_finite_is_printed_as_that(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(TrainResult("run", {"val/top1": 0.25, "val/loss": None}, "run/checkpoint"), as_json=False)
    figures = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert figures["val/top1"] == "0.2500"
    assert figures["val/loss"] == "not finite"


@pytest.mark.parametrize(
    ("uri", "watch"),
    [
        ("s3://bucket/runs/mine", "tensorboard --logdir s3://bucket/runs/mine/tensorboard"),
        ("gs://bucket/runs/mine", "doodle-dist runs watch gs://bucket/runs/mine"),
    ],
)
def test_what_is_told_to_watch_a_run_can_read_its_store(
    uri: str, watch: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_result(TrainResult(uri, {}, None), as_json=False)
    assert capsys.readouterr().out.splitlines()[-1] == f"watch       {watch}"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return prepare_here(tmp_path_factory.mktemp("data"), {"cat": 90, "dog": 90}, (80.0, 10.0, 10.0))


@pytest.fixture
def ask(dataset: str, tmp_path: Path) -> Callable[..., Experiment]:
    def of(preset: str, *settings: str) -> Experiment:
        options = {"data.uri": dataset, "storage": str(tmp_path / "runs"), "run": "mine"}
        return load_run(preset, ["train.drawings=640", *settings], options)

    return of


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object, **__: object) -> None:
        pytest.fail("Ray was asked for")

    monkeypatch.setattr(driver, "connect", connect)


@pytest.mark.usefixtures("nothing_starts")
def test_a_run_that_is_at_its_end_is_not_another_net_s(
    ask: Callable[..., Experiment], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = ask("doodle-gan-small")
    manifest = load_manifest(mine.data.uri)
    beginning = first_cursor(mine, manifest, training_plan(mine, manifest))
    folder = local_checkpoint(tmp_path / "end", 640)
    (folder / CURSOR).write_bytes(orjson.dumps(asdict(replace(beginning, drawings_seen=640))))
    (folder / EXPERIMENT).write_text(mine.model_dump_json())
    store(folder, locations.join(mine.storage, "mine", new_name(640, 1)))
    train(mine)
    assert "nothing is left to train" in capsys.readouterr().err
    with pytest.raises(
        ValueError, match=r"model\.generator\.name=sngan: this run was begun with doodle-small"
    ):
        train(ask("sngan-proj-small"))


@pytest.mark.usefixtures("nothing_starts")
def test_a_category_that_the_data_lack_is_refused_before_anything_starts(
    ask: Callable[..., Experiment],
) -> None:
    with pytest.raises(ValueError, match=r"pretraining\.positive: unknown category 'face'"):
        train(ask("face-critic"))


@pytest.mark.usefixtures("nothing_starts")
def test_a_judge_of_other_categories_is_refused_before_anything_starts(
    ask: Callable[..., Experiment], tmp_path: Path
) -> None:
    save_run(tmp_path / "judge", "classifier-small", ("cat", "fish"))
    with pytest.raises(ValueError, match=r"gan\.judge: the judge was trained on other categories"):
        train(ask("doodle-gan-small", f"gan.judge={tmp_path}/judge"))


Workers = Callable[[str, Asked], object]


@pytest.fixture
def trained(
    ask: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Workers, int], TrainResult]:
    """Train on workers that do what they are given to, and tell the board of so many drawings."""

    def by(workers: Workers, told: int) -> TrainResult:
        def run(_: object, run_uri: str, __: object, ___: object, asked: Asked, *____: object) -> None:
            workers(run_uri, asked)

        def nothing(*_: Any, **__: Any) -> None: ...

        for name in ("connect", "check_resources"):
            monkeypatch.setattr(driver, name, nothing)
        monkeypatch.setattr(progress, "new_board", nothing)
        monkeypatch.setattr(progress, "_read", lambda *_: ({"drawings_seen": float(told)}, []))
        monkeypatch.setattr(driver, "_run", run)
        return train(ask("classifier-small"), quiet=True)

    return by


def test_a_run_that_was_asked_to_stop_and_saved_says_where(
    trained: Callable[[Workers, int], TrainResult], tmp_path: Path
) -> None:
    def stopped(run_uri: str, asked: Asked) -> None:
        asked.set()
        stored_checkpoint(run_uri, tmp_path, 320)

    assert trained(stopped, 320).stopped_at == 320


def test_a_run_that_was_asked_to_stop_and_could_not_be_saved_has_failed(
    trained: Callable[[Workers, int], TrainResult], tmp_path: Path
) -> None:
    def stopped(run_uri: str, asked: Asked) -> None:
        asked.set()
        stored_checkpoint(run_uri, tmp_path, 192)

    said = (
        r"at drawing 320 and its last checkpoint was not stored; .*mine/checkpoint_0+192_.* from drawing 192"
    )
    with pytest.raises(WorkFailedError, match=said):
        trained(stopped, 320)


def test_one_that_was_asked_to_stop_before_its_first_step_has_lost_nothing(
    trained: Callable[[Workers, int], TrainResult],
) -> None:
    result = trained(lambda _, asked: asked.set(), 0)
    assert (result.checkpoint, result.stopped_at) == (None, 0)


def test_a_store_that_fails_once_training_began_is_no_wrong_request(
    trained: Callable[[Workers, int], TrainResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(where: str, *_: object) -> None:
        raise StorageError(f"{locations.basename(where)}: the store is unreachable")

    with pytest.raises(WorkFailedError, match="mine: the store is unreachable"):
        trained(away, 0)
    monkeypatch.setattr(driver, "_result", lambda where, *_, **__: away(where))
    with pytest.raises(WorkFailedError, match="mine: the store is unreachable"):
        trained(lambda *_: None, 0)


class _Fits:
    """Stands for Ray Train: each call ends as it is told, after it came to the checkpoints that it is told."""

    def __init__(self, run_uri: str, tmp_path: Path, *ends: tuple[tuple[int, ...], Exception | None]) -> None:
        self.run_uri, self.tmp_path, self.ends = run_uri, tmp_path, list(ends)

    def __call__(self, *_: object) -> None:
        seen, error = self.ends.pop(0)
        for drawings in seen:
            stored_checkpoint(self.run_uri, self.tmp_path, drawings)
        if error:
            raise error


@pytest.fixture
def fit(
    ask: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., _Fits]:
    """Let the driver start its workers, which do what is said, until it is through."""
    monkeypatch.setattr("doodle_dist.training.ray_trainer.trainer", lambda *_, **__: None)

    def run(*ends: tuple[tuple[int, ...], Exception | None], max_failures: int = 3) -> _Fits:
        experiment = ask("classifier-small", f"train.max_failures={max_failures}")
        run_uri = str(tmp_path / "runs" / "mine")
        fits = _Fits(run_uri, tmp_path, *ends)
        monkeypatch.setattr(driver, "_fit", fits)
        lease: Any = None
        driver._run(experiment, run_uri, lease, lease, Asked(), threading.Event(), 0.0)
        return fits

    return run


LOST = WorkerGroupError("the node is gone", {0: RuntimeError("the node is gone")})


def test_a_run_goes_on_as_long_as_it_comes_further_between_its_failures(fit: Callable[..., _Fits]) -> None:
    """Ray Train counts them from a start to the end: nodes that come and go would end any run that is long enough."""
    assert fit(((64, 128), LOST), ((192,), LOST), ((256,), None)).ends == []


def test_how_often_workers_did_not_get_going_is_counted_anew_where_the_run_has_come_further(
    fit: Callable[..., _Fits],
) -> None:
    stillborn = ((), ControllerError(RayActorError()))
    assert fit(*[stillborn] * 3, ((64,), LOST), *[stillborn] * 2, ((128,), None)).ends == []
    further = [((64 * k,), ControllerError(RayActorError())) for k in range(4, 9)]
    assert fit(*further, ((640,), None)).ends == []
    with pytest.raises(WorkFailedError, match="run mine failed"):
        fit(*[stillborn] * 4, ((704,), None))


def test_where_the_store_is_away_too_the_run_s_own_failure_is_told(
    fit: Callable[..., _Fits], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([0])

    def newest(_: str) -> int:
        for seen in looks:
            return seen
        raise StorageError("s3://b: the store is unreachable")

    monkeypatch.setattr(driver, "_newest", newest)
    with pytest.raises(WorkFailedError, match="run mine failed: the node is gone"):
        fit(((64,), LOST), ((128,), None))


def test_a_run_that_comes_no_further_ends(fit: Callable[..., _Fits]) -> None:
    with pytest.raises(WorkFailedError, match="run mine failed: the node is gone"):
        fit(((64,), LOST), ((), LOST), ((128,), None))


def test_a_run_that_is_to_be_tried_once_is(fit: Callable[..., _Fits]) -> None:
    with pytest.raises(WorkFailedError, match="the node is gone"):
        fit(((64,), LOST), ((128,), None), max_failures=0)


def test_a_run_that_noted_why_it_stopped_is_not_tried_again(
    fit: Callable[..., _Fits], tmp_path: Path
) -> None:
    note_reason(str(tmp_path / "runs" / "mine"), "a loss is not finite at step 3")
    with pytest.raises(WorkFailedError, match="a loss is not finite at step 3"):
        fit(((64,), LOST), ((128,), None))
