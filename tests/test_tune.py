"""A search as it is planned, before anything starts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from doodle_dist import tune as driver
from doodle_dist.config.load import ConfigError, load_experiment, load_run
from doodle_dist.config.search import SearchConfig, load_search
from doodle_dist.errors import WorkFailedError
from doodle_dist.ray_cluster import Need, NotEnoughResourcesError
from doodle_dist.tune import Options, _request, confirmation, plan_search, print_found, tune
from doodle_dist.tuning.ledger import Result, SearchRecord, TrialRecord
from doodle_dist.tuning.report import best_experiment
from doodle_dist.tuning.tuner import Search
from tests.datasets import prepare_here
from tests.tuning.records import asha


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return prepare_here(tmp_path_factory.mktemp("plans"), {"cat": 60, "dog": 60}, (60.0, 30.0, 10.0))


def test_points_that_the_experiment_refuses_are_found_before_anything_starts(dataset: str) -> None:
    experiment = load_run("classifier-small", (), {"data.uri": dataset})
    space = {"data.lanes": "choice(8, 40)", "train.global_batch": "choice(64, 80)"}
    with pytest.raises(ConfigError, match=r"don't go together: .*multiple of data\.lanes=40"):
        plan_search(experiment, SearchConfig.model_validate({"space": space}), trials=4)


@pytest.mark.parametrize("key", ["train.drawings", "train.epochs", "scaling.workers"])
def test_what_a_search_sets_itself_is_no_override(dataset: str, key: str) -> None:
    experiment = load_run("classifier-small", [f"{key}=2"], {"data.uri": dataset})
    with pytest.raises(ConfigError, match=f"--set {key}: .*--(drawings|workers-per-trial)"):
        plan_search(experiment, load_search("classifier-small", experiment), trials=4, fixed=(key,))


def test_a_search_is_named_by_its_option_alone(dataset: str) -> None:
    experiment = load_run("classifier-small", ["run=mine"], {"data.uri": dataset})
    with pytest.raises(ConfigError, match=r"--set run: .* and the search by --run"):
        plan_search(experiment, load_search("classifier-small", experiment), trials=4, fixed=("run",))


def test_a_grid_is_gone_through_once(dataset: str, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = load_run("classifier-small", (), {"data.uri": dataset})
    space = {"train.global_batch": "grid(32, 64)", "seed": "grid(0, 1, 2)"}
    plan = plan_search(experiment, SearchConfig.model_validate({"space": space}), trials=64)
    assert (plan.trials, len(plan.points())) == (6, 6)
    assert capsys.readouterr().err == "the grid has 6 points: as many trials, not 64\n"


def all_finished(plan: Search, objective: Callable[[dict[str, Any]], float]) -> SearchRecord:
    """The record of a search whose trials all came to their ends."""
    record = SearchRecord(plan.uri, _request(plan))
    for number, settings in enumerate(plan.points()):
        result = Result(plan.config.drawings, objective(settings), 1.0, settings)
        record.trials[number] = TrialRecord(number, settings, status="finished", results=[result])
    return record


def test_fresh_seeds_are_none_that_the_search_has_used(dataset: str) -> None:
    experiment = load_run("classifier-small", (), {"data.uri": dataset})
    space = {"train.global_batch": "grid(32, 64)", "seed": "grid(0, 1, 2)"}
    table = {"space": space, "confirm": 2, "confirm_seeds": 2, "scheduler": "asha"}
    plan = plan_search(experiment, SearchConfig.model_validate(table), trials=6)
    record = all_finished(plan, lambda settings: 0.9 if settings["seed"] == 0 else 0.5)
    again = confirmation(plan, record)
    assert again is not None
    assert {point["seed"] for point in again.given} == {3, 4}
    assert {point["train.global_batch"] for point in again.given} == {32, 64}, "not one point with two seeds"
    assert again.config.scheduler == "none", "each is trained to its end"


def test_what_is_found_checkpoints_as_the_preset_does(dataset: str, tmp_path: Path) -> None:
    """Trials checkpoint where they are judged, and nowhere else; who trains the best for longer wants more."""
    own = ["train.checkpoint_every_drawings=2000", "train.log_every_drawings=300"]
    experiment = load_run("doodle-gan-small", own, {"data.uri": dataset, "storage": str(tmp_path)})
    plan = plan_search(experiment, load_search("doodle-gan-small", experiment), trials=4)
    record = asha(16)
    record.request.experiment.clear()
    record.request.experiment.update(plan.base.model_dump(mode="json", exclude_unset=True))
    best = best_experiment(record).train
    assert (best.checkpoint_every_drawings, best.log_every_drawings) == (2000, 300)
    assert best.drawings == plan.config.drawings


@pytest.mark.parametrize(("concurrent", "workers"), [(0, 2), (3, 6), (9, 8)])
def test_a_search_lets_a_cluster_grow_for_its_evaluator_and_for_its_trials(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, concurrent: int, workers: int
) -> None:
    """And says that no trial fits where nothing came."""
    waited: list[object] = []

    def train_if_missing(uri: str, *_: object, wait_s: float, **__: object) -> bool:
        waited.append(("evaluator", wait_s))
        return True

    def check_resources(need: Need, wait_s: float) -> None:
        waited.append((need, wait_s))
        raise NotEnoughResourcesError("nothing came")

    monkeypatch.setattr(driver, "connect", lambda *_, **__: False)
    monkeypatch.setattr(driver, "_evaluator_workers", lambda _: (1, 0.0))
    monkeypatch.setattr(driver, "fits_in_memory", lambda _: False)
    monkeypatch.setattr(driver, "nodes_of_cluster", lambda: [{"memory": 1.0}])
    monkeypatch.setattr(driver.evaluator, "train_if_missing", train_if_missing)
    monkeypatch.setattr(driver, "check_resources", check_resources)
    given = {"data.uri": dataset, "storage": str(tmp_path), "run": "s", "scaling.workers": 2}
    experiment = load_run("doodle-gan-small", (), given)
    plan = plan_search(experiment, load_search("doodle-gan-small", experiment), trials=4)
    options = Options(wait_s=60, concurrent=concurrent, gpus_per_trial=0.5)
    with pytest.raises(NotEnoughResourcesError, match=r"no trial fits.*--wait SECONDS"):
        tune(plan, options)
    assert waited == [(Need(workers, 1.0, 0.5), 60), ("evaluator", 60)]


@pytest.mark.parametrize(
    ("have", "cpus", "workers"),
    [
        ({"CPU": 8.0}, 1, (2, 0.0)),
        ({"CPU": 4.0}, 2, (1, 0.0)),
        ({"CPU": 1.0}, 1, (1, 0.0)),
        ({"CPU": 8.0, "GPU": 1.0}, 1, (1, 1.0)),
    ],
)
def test_its_evaluator_takes_a_gpu_or_two_workers_where_there_is_room(
    have: dict[str, float], cpus: int, workers: tuple[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver.ray, "cluster_resources", lambda: have)
    base = load_experiment("doodle-gan-small", [f"scaling.cpus_per_worker={cpus}"])
    assert driver._evaluator_workers(base) == workers


@pytest.mark.slow
def test_a_search_whose_trials_were_interrupted_says_what_it_found_and_that_it_is_not_through(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = asha(16)
    record.uri = str(tmp_path)
    record.trials[3].status, record.trials[3].reason = "interrupted", "s3://bucket: the store is unreachable"
    record.cut_off = record.interruptions
    with pytest.raises(
        WorkFailedError, match=r"1 of its trials .*unreachable; the same command goes on with them"
    ):
        print_found(record, as_json=False)
    assert "1 interrupted" in capsys.readouterr().out
    assert (tmp_path / "report.html").exists()


def test_the_best_is_confirmed_though_its_other_seed_was_bad(dataset: str) -> None:
    experiment = load_run("classifier-small", (), {"data.uri": dataset})
    space = {"train.global_batch": "grid(32, 64)", "seed": "grid(0, 1)"}
    table = {"space": space, "confirm": 1, "confirm_seeds": 1, "scheduler": "none"}
    plan = plan_search(experiment, SearchConfig.model_validate(table), trials=4)
    tops = {(32, 0): 0.9, (32, 1): 0.1, (64, 0): 0.8, (64, 1): 0.7}
    record = all_finished(plan, lambda settings: tops[settings["train.global_batch"], settings["seed"]])
    again = confirmation(plan, record)
    assert again is not None
    assert [point["train.global_batch"] for point in again.given] == [32]


def test_the_drawings_at_most_have_those_of_the_confirmation(
    dataset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = load_run("classifier-small", (), {"data.uri": dataset})
    space = {"train.global_batch": "grid(32, 64)"}
    table = {"space": space, "confirm": 4, "confirm_seeds": 2, "scheduler": "none"}
    plan = plan_search(experiment, SearchConfig.model_validate(table), trials=2)
    driver.print_plan(plan, Options(), as_json=True)
    assert orjson.loads(capsys.readouterr().out)["drawings_at_most"] == (2 + 2 * 2) * plan.config.drawings


@pytest.mark.parametrize(("preset", "is_trained"), [("doodle-gan-small", True), ("classifier-small", False)])
def test_a_plan_says_what_is_trained_before_its_trials(
    preset: str, is_trained: bool, dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = load_run(preset, (), {"data.uri": dataset, "storage": str(tmp_path)})
    plan = plan_search(experiment, load_search(preset, experiment), trials=2)
    driver.print_plan(plan, Options(), as_json=False)
    told = [line for line in capsys.readouterr().out.splitlines() if "trained first" in line]
    assert len(told) == is_trained
    assert all(f"{tmp_path}/evaluator-" in line for line in told)


def test_a_search_of_one_category_has_nothing_to_judge_by(tmp_path: Path) -> None:
    data = prepare_here(tmp_path, {"cat": 60}, (60.0, 30.0, 10.0))
    experiment = load_run("doodle-gan-small", (), {"data.uri": data})
    with pytest.raises(ConfigError, match="learns nothing of a single one"):
        plan_search(experiment, load_search("doodle-gan-small", experiment), trials=4)


def test_a_critic_that_trials_begin_with_and_that_is_not_there_is_refused(
    dataset: str, tmp_path: Path
) -> None:
    settings = [f"gan.critic_from={tmp_path}/nowhere"]
    experiment = load_run("doodle-gan-small", settings, {"data.uri": dataset, "storage": str(tmp_path)})
    with pytest.raises(ValueError, match=r"gan\.critic_from=.*nowhere: there is no run with a checkpoint"):
        plan_search(experiment, load_search("doodle-gan-small", experiment), trials=4)


def test_who_waits_for_a_gpu_to_measure_on_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Taken:
        @staticmethod
        def remote(experiment: object) -> str:
            return "a reference"

    monkeypatch.setattr(driver, "measured_gpu_share", Taken)
    monkeypatch.setattr(driver.ray, "cluster_resources", lambda: {"GPU": 1.0})
    monkeypatch.setattr(driver.ray, "get", lambda reference: 0.25)
    base = load_run("doodle-gan-small", (), {"data.uri": "nowhere"})
    for done, said in ((["a reference"], ""), ([], "waiting for a whole GPU")):
        monkeypatch.setattr(driver.ray, "wait", lambda references, timeout, done=done: (done, references))
        assert driver._gpus_per_trial(base, Options()) == 0.25
        told = capsys.readouterr().err
        assert told.startswith(said)
        assert bool(told) == bool(said)
