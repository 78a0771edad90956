"""A search as it is planned, before anything starts."""

import io
from collections import Counter
from collections.abc import Callable, Mapping
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import orjson
import pytest

from doodle_dist import cli
from doodle_dist import tune as driver
from doodle_dist.config.load import ConfigError, load_experiment, load_run
from doodle_dist.config.search import SearchConfig, load_search
from doodle_dist.data.storage_errors import StorageError
from doodle_dist.errors import WorkFailedError
from doodle_dist.ray_cluster import Need, NotEnoughResourcesError
from doodle_dist.tune import Options, _request, confirmation, plan_search, print_found, tune
from doodle_dist.tuning import follow
from doodle_dist.tuning.follow import Follower
from doodle_dist.tuning.ledger import Result, SearchRecord, TrialRecord
from doodle_dist.tuning.report import best_experiment
from doodle_dist.tuning.resources import TrialResources
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


def test_optuna_goes_through_no_grid(dataset: str) -> None:
    experiment = load_run("classifier-small", (), {"data.uri": dataset})
    search = load_search("classifier-small", experiment, extra=["seed=grid(0, 1, 2)"])
    with pytest.raises(
        ConfigError, match=r"seed = grid\(0, 1, 2\): a grid has no use with --search optuna.*random"
    ):
        plan_search(experiment, search, trials=4, searcher="optuna")
    plan_search(experiment, search, trials=4, searcher="optuna", fixed=("seed",))


def test_lanes_that_the_dataset_can_t_fill_are_refused_as_a_run_s_are(dataset: str) -> None:
    lanes = ["data.lanes=128", "train.global_batch=128"]
    experiment = load_run("classifier-small", lanes, {"data.uri": dataset})
    with pytest.raises(ValueError, match="lanes"):
        plan_search(experiment, load_search("classifier-small", experiment), trials=4)


def test_a_judge_is_of_gans(dataset: str, tmp_path: Path) -> None:
    experiment = load_run("classifier-small", (), {"data.uri": dataset, "gan.judge": str(tmp_path)})
    with pytest.raises(
        ConfigError,
        match=r"gan\.judge \(--judge\) .*: a run judges GANs alone; a classifier is judged by its own",
    ):
        plan_search(experiment, load_search("classifier-small", experiment), trials=4)


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


Planned = Callable[..., Search]


@pytest.fixture
def planned(dataset: str, tmp_path: Path) -> Planned:
    """Four trials of a preset, in a folder of their own."""

    def of(preset: str = "classifier-small", **given: object) -> Search:
        options = {"data.uri": dataset, "storage": str(tmp_path), "run": "s"}
        experiment = load_run(
            preset, (), options | {key.replace("__", "."): one for key, one in given.items()}
        )
        return plan_search(experiment, load_search(preset, experiment), trials=4)

    return of


@pytest.fixture
def cluster_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Stands in for a cluster of such nodes, which holds no dataset in memory."""

    def nodes(*nodes: Mapping[str, float]) -> None:
        monkeypatch.setattr(driver, "connect", lambda *_, **__: False)
        monkeypatch.setattr(driver, "fits_in_memory", lambda _: False)
        monkeypatch.setattr(driver, "nodes_of_cluster", lambda: list(nodes))
        monkeypatch.setattr(follow, "nodes_now", lambda: list(nodes))
        together = reduce(add, map(Counter, nodes))  # type: ignore[arg-type]
        monkeypatch.setattr(driver.ray, "cluster_resources", lambda: dict(together))

    return nodes


@pytest.mark.parametrize(("concurrent", "workers"), [(0, 2), (3, 6), (9, 8)])
@pytest.mark.parametrize("comes", [True, False])
def test_a_search_lets_a_cluster_grow_for_its_trials_and_for_its_evaluator(
    planned: Planned,
    cluster_of: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    comes: bool,
    concurrent: int,
    workers: int,
) -> None:
    """And says that no trial fits where nothing came, before it trains an evaluator for nothing."""
    waited: list[object] = []

    def train_if_missing(uri: str, *_: object, wait_s: float, **__: object) -> bool:
        waited.append(("evaluator", wait_s))
        raise RuntimeError("it began")

    def check_resources(need: Need, wait_s: float) -> None:
        waited.append((need, wait_s))
        if not comes:
            raise NotEnoughResourcesError("nothing came")

    cluster_of({"CPU": 4.0, "GPU": 2.0} if comes else {"memory": 1.0})
    monkeypatch.setattr(driver.evaluator, "train_if_missing", train_if_missing)
    monkeypatch.setattr(driver, "check_resources", check_resources)
    plan = planned("doodle-gan-small", scaling__workers=2)
    options = Options(wait_s=60, concurrent=concurrent, gpus_per_trial=0.5)
    with pytest.raises((RuntimeError, NotEnoughResourcesError)) as ended:
        tune(plan, options)
    assert ended.match("it began" if comes else r"no trial fits.*--wait SECONDS")
    assert waited == [(Need(workers, 1.0, 0.5), 60), *([("evaluator", 60)] if comes else [])]


@pytest.mark.parametrize(
    ("nodes", "cpus", "workers"),
    [
        ([{"CPU": 8.0}], 1, (2, 0.0)),
        ([{"CPU": 4.0}], 2, (1, 0.0)),
        ([{"CPU": 1.0}], 1, (1, 0.0)),
        ([{"CPU": 8.0, "GPU": 1.0}], 1, (1, 1.0)),
        ([{"CPU": 8.0}, {"CPU": 4.0}], 5, (1, 0.0)),  # two of five CPUs don't fit, of twelve in all
        ([{"CPU": 8.0}, {"CPU": 5.0}], 5, (2, 0.0)),
        ([{"CPU": 8.0}, {"CPU": 1.0, "GPU": 1.0}], 2, (2, 0.0)),
    ],
)
def test_its_evaluator_takes_a_gpu_or_two_workers_where_there_is_room(
    nodes: list[dict[str, float]], cpus: int, workers: tuple[int, float], cluster_of: Callable[..., None]
) -> None:
    cluster_of(*nodes)
    base = load_experiment("doodle-gan-small", [f"scaling.cpus_per_worker={cpus}"])
    assert driver._evaluator_workers(base) == workers


@pytest.mark.parametrize(
    ("options", "gpus", "says"),
    [
        (Options(wait_s=60), 0.0, True),
        (Options(wait_s=60), 1.0, False),
        (Options(wait_s=60, gpus_per_trial=0.5), 0.0, False),
        (Options(wait_s=60, gpus_per_trial=0.0), 0.0, False),
        (Options(), 0.0, False),
    ],
)
def test_who_waits_for_nodes_and_gets_no_gpu_is_told_how_one_is_asked_for(
    options: Options,
    gpus: float,
    says: bool,
    planned: Planned,
    cluster_of: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster_of({"CPU": 1.0, "GPU": gpus})  # too small for any trial beside Ray Data
    monkeypatch.setattr(driver, "check_resources", lambda *_: None)
    monkeypatch.setattr(driver, "_gpus_per_trial", lambda *_: 0.0)  # no GPU is there to measure on
    with pytest.raises(NotEnoughResourcesError):
        tune(planned(), options)
    assert ("the cluster has no GPU: trials run on CPUs; --gpus-per-trial" in capsys.readouterr().err) is says


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_a_ray_of_its_own_holds_all_workers_of_a_trial(
    workers: int, planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Need] = []

    def connect(need: Need, **_: object) -> bool:
        asked.append(need)
        raise RuntimeError("it would start")

    monkeypatch.setattr(driver, "connect", connect)
    monkeypatch.setattr(driver.os, "cpu_count", lambda: 2)
    with pytest.raises(RuntimeError, match="it would start"):
        tune(planned(scaling__workers=workers), Options(local=True))
    trial = TrialResources(cpus=1.0, gpus=0.0, workers=workers, data_cpus=1.0)
    assert trial.concurrent([{"CPU": asked[0].cpus}], most=64) >= 1


def test_a_store_that_fails_on_the_way_is_no_wrong_request(
    planned: Planned, cluster_of: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Exit code 1, where one that is away from the start is 2's (cli.py)."""

    def away(*_: object) -> None:
        raise StorageError("s3://bucket: the store is unreachable; the search's record is in /tmp/x")

    plan = planned()
    cluster_of({"CPU": 8.0})
    with monkeypatch.context() as patched:
        patched.setattr(driver, "run_search", away)
        with pytest.raises(WorkFailedError, match="the search's record is in /tmp/x"):
            tune(plan, Options(quiet=True))
    with monkeypatch.context() as patched:
        patched.setattr(driver.report, "write_report", away)
        with pytest.raises(WorkFailedError, match="unreachable"):
            print_found(asha(16, uri=str(tmp_path)), as_json=True)
    with monkeypatch.context() as patched:
        patched.setattr(driver, "refuse_another", away)
        with pytest.raises(StorageError):
            tune(plan, Options(quiet=True))


def test_a_search_whose_trials_all_failed_has_its_report_and_says_mostly_why(
    planned: Planned,
    cluster_of: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reasons = ["not finite", "out of memory", "out of memory", "no such column"]

    def fail(part: Search, record: SearchRecord, follower: Follower, *_: object) -> None:
        for number, reason in enumerate(reasons):
            follower.ledger.trial_began(number, part.points()[number])
            follower.ledger.trial_ended(number, "failed", reason)

    monkeypatch.setattr(driver, "run_search", fail)
    cluster_of({"CPU": 8.0})
    plan = planned()
    record = tune(plan, Options(quiet=True))
    said = r"^search s: none of its 4 trials came to anything; 2 of them: out of memory$"
    with pytest.raises(WorkFailedError, match=said):
        print_found(record, as_json=True)
    found = orjson.loads(capsys.readouterr().out)
    assert [failure["reason"] for failure in found["failed"]] == reasons
    assert {path.name for path in Path(plan.uri).iterdir()} >= {"report.html", "leaderboard.json"}


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


@pytest.mark.parametrize(
    ("workers", "given", "gpus", "said"),
    [
        (1, None, None, "measured, where there are GPUs"),
        (2, None, None, "2, where there are GPUs"),
        (1, 0.25, 0.25, "0.25"),
        (2, 1.0, 2.0, "2.0"),
    ],
)
def test_a_plan_counts_the_gpus_of_all_workers(
    workers: int,
    given: float | None,
    gpus: float | None,
    said: str,
    planned: Planned,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = planned(scaling__workers=workers)
    driver.print_plan(plan, Options(gpus_per_trial=given), as_json=True)
    assert orjson.loads(capsys.readouterr().out)["gpus_per_trial"] == gpus
    driver.print_plan(plan, Options(gpus_per_trial=given), as_json=False)
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("gpus_per_trial")]
    assert line.split(maxsplit=1)[1] == said


def test_a_plan_refuses_what_the_search_itself_would(planned: Planned) -> None:
    with pytest.raises(ConfigError, match="--resume: there is no search"):
        driver.print_plan(planned(), Options(resume=True), as_json=False)


def dry_run(dataset: str, *more: str) -> int:
    """The exit code of `tune --dry-run`."""
    words = ["tune", "classifier-small", "--dry-run", "--json", "--data", dataset, "--run", "mine"]
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, *more])
    return int(stop.value.code or 0)


def test_settings_that_are_given_as_a_table_are_given_one_by_one(
    dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = ["--storage", str(tmp_path)]
    assert dry_run(dataset, "--set", 'optim.classifier={name="adamw", lr=1e-3}', *storage) == 0
    searched = {key for point in orjson.loads(capsys.readouterr().out)["points"] for key in point}
    assert "optim.classifier.weight_decay" in searched
    assert "optim.classifier.lr" not in searched
    assert dry_run(dataset, "--set", "scaling={workers=4}", *storage) == 2
    assert "--set scaling.workers: " in capsys.readouterr().err


def test_a_search_s_lines_say_whose_they_are(dataset: str, tmp_path: Path, json_lines: io.StringIO) -> None:
    space = tmp_path / "space.toml"
    space.write_text('[search.space]\n"train.global_batch" = "grid(32, 64)"\n')
    assert dry_run(dataset, "--space", str(space), "--storage", str(tmp_path)) == 0
    [line] = map(orjson.loads, json_lines.getvalue().splitlines())
    assert (line["run"], line["message"]) == ("mine", "the grid has 2 points: as many trials, not 64")


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
    planned: Planned, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Taken:
        @staticmethod
        def remote(experiment: object) -> str:
            return "a reference"

    monkeypatch.setattr(driver, "measured_gpu_share", Taken)
    monkeypatch.setattr(driver.ray, "cluster_resources", lambda: {"GPU": 1.0})
    monkeypatch.setattr(driver.ray, "get", lambda reference: 0.25)
    plan = planned()
    for done, said in ((["a reference"], ""), ([], "waiting for a whole GPU")):
        monkeypatch.setattr(driver.ray, "wait", lambda references, timeout, done=done: (done, references))
        assert driver._gpus_per_trial(plan, Options()) == 0.25
        told = capsys.readouterr().err
        assert told.startswith(said)
        assert bool(told) == bool(said)
