"""Searches as people run them: many trials, some that go wrong, one that is killed in the middle."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import ray
from ray.util import placement_group_table
from ray.util.state import list_actors

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import load_run
from doodle_dist.config.search import SearchConfig, load_search
from doodle_dist.tune import Options, plan_search, tune
from doodle_dist.tuning.ledger import SearchRecord, read_search
from tests.cluster.test_train import children, doodle_dist, kill_tree, name_of
from tests.datasets import prepare_here
from tests.tuning import misbehaving

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

TINY = [
    "model.classifier.width=4",
    "model.classifier.feature_dim=8",
    "train.global_batch=32",
    "data.lanes=4",
    "optim.classifier.warmup_drawings=0",
    "ema.halflife_drawings=0",
]
GAN = [
    "model.generator.width=8",
    "model.critic.width=8",
    "model.critic.feature_dim=8",
    "train.global_batch=32",
    "data.lanes=4",
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return prepare_here(
        tmp_path_factory.mktemp("tune"), {"cat": 150, "dog": 120, "fish": 90}, (70.0, 20.0, 10.0)
    )


def search_of(
    dataset: str, runs: Path, name: str, *axes: str, preset: str = "classifier-small",
    settings: tuple[str, ...] = (), **table: object,
) -> tuple[Experiment, SearchConfig]:  # fmt: skip
    small = GAN if preset == "doodle-gan-small" else TINY
    options = {"data.uri": dataset, "storage": str(runs), "run": name}
    experiment = load_run(preset, [*small, *settings], options)
    search = load_search(preset, experiment)
    short: dict[str, object] = {
        "drawings": 128,
        "first_rung": 32,
        "reduction": 2,
        "perturb_every": 32,
        "confirm": 0,
    }
    if preset != "doodle-gan-small":
        short |= {"objective": "val/loss", "mode": "min"}  # a few steps change it, and hardly the accuracy
    changed = search.model_dump() | short | table
    if axes:
        changed["space"] = dict(axis.split("=", 1) for axis in axes)
    return experiment, SearchConfig.model_validate(changed)


def left_behind() -> tuple[int, int]:
    """Placement groups and trials' actors that are still there, once Ray had a moment to clear them away."""
    for _ in range(60):
        groups = [group for group in placement_group_table().values() if group["state"] != "REMOVED"]
        everyone = list_actors(address=ray.get_runtime_context().gcs_address, limit=1000)
        actors = [
            actor for actor in everyone if actor.state == "ALIVE" and "ImplicitFunc" in actor.class_name
        ]
        if not groups and not actors:
            break
        time.sleep(0.5)
    return len(groups), len(actors)


def test_64_trials_of_asha_leave_nothing_behind(local_ray: None, dataset: str, tmp_path: Path) -> None:
    experiment, search = search_of(dataset, tmp_path, "many")
    record = tune(plan_search(experiment, search, trials=64), Options(quiet=True))
    assert sorted(record.trials) == list(range(64))
    ended = Counter(trial.status for trial in record.trials.values())
    assert ended["finished"] + ended["stopped"] == 64
    assert ended["stopped"] >= 16  # half at each of two rungs, were all judged at once
    assert left_behind() == (0, 0)
    for trial in record.trials.values():
        reached = [result.drawings_seen for result in trial.results]
        assert reached == [32, 64, 128][: len(reached)]
        assert (trial.status == "finished") == (reached[-1] == 128)
        assert (tmp_path / "many" / trial.name / "metrics.jsonl").is_file()
    again = tune(plan_search(experiment, search, trials=64), Options(quiet=True))
    assert {n: t.results for n, t in again.trials.items()} == {n: t.results for n, t in record.trials.items()}


def test_the_best_are_trained_again_with_seeds_that_the_search_has_not_used(
    local_ray: None, dataset: str, tmp_path: Path
) -> None:
    experiment, search = search_of(
        dataset, tmp_path, "again", "optim.classifier.lr=loguniform(1e-4, 1e-2)", scheduler="none",
        drawings=64, confirm=2, confirm_seeds=2,
    )  # fmt: skip
    plan = plan_search(experiment, search, trials=4)
    record = tune(plan, Options(quiet=True))
    assert record.trials[0].settings["optim.classifier.lr"] == experiment.optim.classifier.lr  # type: ignore[union-attr]
    finalists = [trial.number for trial, _ in record.by_objective()[:2]]
    assert sorted(record.confirmed) == sorted(finalists)
    for number, ends in record.confirmed.items():
        assert [end.settings["seed"] for end in ends] == [1, 2]
        for end in ends:
            assert end.settings.items() >= record.trials[number].settings.items()
    assert record.best is not None
    means = record.confirmations()
    assert means[record.best[0].number][0] == min(mean for mean, _ in means.values())
    again = tune(plan, Options(quiet=True, resume=True))
    assert again.confirmed == record.confirmed


def test_trials_that_go_wrong_are_recorded_and_the_search_goes_on(
    local_ray: None, dataset: str, tmp_path: Path
) -> None:
    experiment, search = search_of(
        dataset, tmp_path, "faults",
        "model.classifier.feature_dim=grid(8, 9, 10, 11, 12)",
        settings=("model.classifier.name=tests.tuning.misbehaving:Misbehaving",),
        scheduler="none",
    )  # fmt: skip
    record = tune(plan_search(experiment, search, trials=6), Options(quiet=True))
    found = {}
    for trial in record.trials.values():
        found[trial.settings["model.classifier.feature_dim"]] = (trial.status, trial.reason)
    assert found[misbehaving.GOOD] == ("finished", "")
    assert [trial.status for trial in record.trials.values()].count("finished") == 2
    for fault, reason in {
        misbehaving.NOT_FINITE: "not finite .* at step 0",
        misbehaving.OUT_OF_MEMORY: "out of memory: no room for another picture",
        misbehaving.DIES: "died|SIGKILL|unexpectedly",
        misbehaving.RAISES: "ArithmeticError: a mistake in a net",
    }.items():
        status, said = found[fault]
        assert status == "failed"
        assert re.search(reason, said), said
    assert left_behind() == (0, 0)


def test_a_population_takes_over_what_is_better(local_ray: None, dataset: str, tmp_path: Path) -> None:
    experiment, search = search_of(
        dataset, tmp_path, "pbt", "optim.classifier.lr=loguniform(1e-6, 1e-1)",
        scheduler="pbt", drawings=320, perturb_every=32,
    )  # fmt: skip
    record = tune(plan_search(experiment, search, trials=4), Options(quiet=True))
    copies = [r for trial in record.trials.values() for r in trial.results if r.copied_from is not None]
    assert copies
    for trial in record.trials.values():
        assert trial.status == "finished"
        assert trial.results[-1].drawings_seen >= 320
        assert all(1e-6 <= result.settings["optim.classifier.lr"] <= 1e-1 for result in trial.results)
    for copy in copies:
        assert copy.copied_from in record.trials
        assert copy.copied_at is not None
        assert copy.copied_at < copy.drawings_seen
    changed = {r.settings["optim.classifier.lr"] for t in record.trials.values() for r in t.results}
    assert len(changed) > 4


def test_a_trial_whose_process_is_killed_goes_on_from_its_checkpoint(
    local_ray: None, dataset: str, tmp_path: Path
) -> None:
    experiment, search = search_of(
        dataset, tmp_path, "killed", "optim.classifier.lr=loguniform(1e-4, 1e-2)",
        scheduler="none", drawings=6400, first_rung=200,
    )  # fmt: skip
    uri, killed = str(tmp_path / "killed"), []

    def kill_one() -> None:
        while not killed:
            record = read_search(uri)
            if record and any(trial.drawings_seen >= 800 for trial in record.trials.values()):
                pid = next(
                    p for p in children(os.getpid()) if name_of(p).startswith("ray::ImplicitFunc.train")
                )
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            time.sleep(0.05)

    watcher = threading.Thread(target=kill_one, daemon=True)
    watcher.start()
    record = tune(plan_search(experiment, search, trials=2), Options(quiet=True))
    watcher.join(timeout=5)
    assert killed
    for trial in record.trials.values():
        assert trial.status == "finished"
        seen = [result.drawings_seen for result in trial.results]
        assert seen == sorted(seen)
        assert len(set(seen)) == len(seen)  # it began at its last report and repeated none


def test_more_workers_a_trial_train_through_ray_train(local_ray: None, dataset: str, tmp_path: Path) -> None:
    experiment, search = search_of(
        dataset,
        tmp_path,
        "wide",
        "optim.classifier.lr=loguniform(1e-4, 1e-2)",
        scheduler="none",
        first_rung=64,
    )
    record = tune(plan_search(experiment, search, trials=1), Options(quiet=True, workers_per_trial=2))
    (trial,) = record.trials.values()
    assert (trial.status, trial.drawings_seen) == ("finished", 128)
    assert left_behind() == (0, 0)


def test_a_gan_is_judged_by_an_evaluator_that_the_search_trains_first(
    local_ray: None, dataset: str, tmp_path: Path
) -> None:
    experiment, search = search_of(dataset, tmp_path, "gan", preset="doodle-gan-small", drawings=64)
    record = tune(plan_search(experiment, search, trials=2), Options(quiet=True))
    assert record.objective == "judge/frechet_distance"
    assert record.best is not None
    assert record.best[1].objective > 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("evaluator-")]


def search_command(dataset: str, runs: Path, *more: str) -> list[str]:
    sets = [argument for setting in TINY for argument in ("--set", setting)]
    return [
        "tune", "classifier-small", "--trials", "24", "--drawings", "1200", "--local", "--data", dataset,
        "--storage", str(runs), "--run", "cut", *sets, *more,
    ]  # fmt: skip


def test_a_killed_search_goes_on_with_the_same_command(dataset: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "doodle_dist.cli", *search_command(dataset, tmp_path)]
    uri = str(tmp_path / "cut")
    with (tmp_path / "log").open("wb") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 180
        while (
            len(over := ended(read_search(uri))) < 8 and driver.poll() is None and time.monotonic() < deadline
        ):
            time.sleep(0.1)
        kill_tree(driver)
    assert 8 <= len(over) < 24, (tmp_path / "log").read_text()
    done = doodle_dist(*search_command(dataset, tmp_path, "--resume"))
    assert done.returncode == 0, done.stderr
    record = read_search(uri)
    assert record is not None
    assert sorted(ended(record)) == list(range(24))
    lines = (tmp_path / "cut" / "search.jsonl").read_text()
    began = Counter(re.findall(r'"event":"began","trial":(\d+)', lines))
    assert set(began.values()) == {1}
    # What was over is as it was: no trial of before has reported again.
    for number, (status, results) in over.items():
        assert ended(record)[number] == (status, results)
    other = doodle_dist(*search_command(dataset, tmp_path), "--seed", "5")
    assert other.returncode == 2
    assert "holds another search, of another seed" in other.stderr


def ended(record: SearchRecord | None) -> dict[int, tuple[str, int]]:
    """Each trial that is over, with how it ended and how many reports it had made."""
    if record is None:
        return {}
    return {t.number: (t.status, len(t.results)) for t in record.trials.values() if t.is_over}


def test_resuming_nothing_is_refused(dataset: str, tmp_path: Path) -> None:
    done = doodle_dist(*search_command(dataset, tmp_path, "--resume"))
    assert done.returncode == 2
    assert "there is no search at" in done.stderr
