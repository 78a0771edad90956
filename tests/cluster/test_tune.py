"""Searches as people run them: many trials, some that go wrong, one that is killed in the middle."""

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import orjson
import pytest
import ray
from ray.util import placement_group_table
from ray.util.state import list_actors, list_objects

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import from_toml, load_run
from doodle_dist.config.search import SearchConfig, load_search
from doodle_dist.data import storage
from doodle_dist.errors import WorkFailedError
from doodle_dist.run.folder import read_events
from doodle_dist.training import lease
from doodle_dist.training.lease import Lease
from doodle_dist.tune import Options, plan_search, tune
from doodle_dist.tuning import evaluator, follow, tuner
from doodle_dist.tuning.follow import Follower
from doodle_dist.tuning.ledger import SearchRecord, read_search
from tests.cluster.test_train import Command, children, kill_tree, name_of
from tests.conftest import start_ray
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
def local_ray(ray_environ: dict[str, str]) -> None:
    """With its dashboard, which a search needs; it stays for whoever comes after."""
    if ray.is_initialized():
        ray.shutdown()
    start_ray(dashboard=True, environ=ray_environ)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return prepare_here(
        tmp_path_factory.mktemp("tune"), {"cat": 150, "dog": 120, "fish": 90}, (70.0, 20.0, 10.0)
    )


# What Ray Tune keeps of a search until the driver ends: the dataset and the base of all trials, each once.
PARAMETERS = 2


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


def objects() -> int:
    """Objects that somebody still refers to; what only waits for Python's collector doesn't count."""
    gc.collect()
    return len(list_objects(address=ray.get_runtime_context().gcs_address, limit=10_000))


def test_64_trials_of_asha_leave_nothing_behind(
    local_ray: None,
    dataset: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow, "_PLAIN_EVERY_S", 0.5)
    experiment, search = search_of(dataset, tmp_path, "many")
    before = objects()
    record = tune(plan_search(experiment, search, trials=64), Options(concurrent=2))
    assert sorted(record.trials) == list(range(64))
    ended = Counter(trial.status for trial in record.trials.values())
    assert ended["finished"] + ended["stopped"] == 64
    assert ended["stopped"] >= 16  # half at each of two rungs, were all judged at once
    assert left_behind() == (0, 0)
    assert objects() <= before + PARAMETERS
    assert re.search(r"\d\d wait for one of 2 places of 1 CPU\b", capsys.readouterr().err)
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
        drawings=32, confirm=2, confirm_seeds=2,
    )  # fmt: skip
    plan = plan_search(experiment, search, trials=3)
    record = tune(plan, Options(quiet=True, concurrent=1))
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
    again = tune(plan, Options(quiet=True, resume=True, concurrent=1))
    assert again.confirmed == record.confirmed


def test_trials_that_go_wrong_are_recorded_and_the_search_goes_on(
    local_ray: None, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuner, "_RETRIES", 1)  # of the one that dies, each in a new process
    experiment, search = search_of(
        dataset, tmp_path, "faults",
        "model.classifier.feature_dim=grid(8, 9, 10, 11, 12)",
        settings=("model.classifier.name=tests.tuning.misbehaving:Misbehaving",),
        scheduler="none",
    )  # fmt: skip
    record = tune(plan_search(experiment, search, trials=5), Options(quiet=True, concurrent=1))
    found = {}
    for trial in record.trials.values():
        found[trial.settings["model.classifier.feature_dim"]] = (trial.status, trial.reason)
    assert found[misbehaving.GOOD] == ("finished", "")
    assert [trial.status for trial in record.trials.values()].count("finished") == 1
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


def once(uri: str, is_so: Callable[[SearchRecord], bool], do: Callable[[], object]) -> threading.Thread:
    """Do something to a search that runs, once its record says so; joined, it has been done."""

    def watch() -> None:
        while (record := read_search(uri)) is None or not is_so(record):
            time.sleep(0.05)
        do()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    return watcher


def test_a_population_takes_over_what_is_better_and_goes_on_where_it_was_told_to_stop(
    local_ray: None, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, search = search_of(
        dataset, tmp_path, "pbt", "optim.classifier.lr=loguniform(1e-6, 1e-1)",
        settings=("scaling.cpus_per_worker=2",), scheduler="pbt", drawings=160, perturb_every=32,
    )  # fmt: skip
    at_once: list[int] = []
    monkeypatch.setattr(Follower, "show", lambda follower: at_once.append(len(follower.running)))
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    plan, uri = plan_search(experiment, search, trials=5), str(tmp_path / "pbt")
    once(
        uri,
        lambda record: sum(len(trial.results) for trial in record.trials.values()) >= 8,
        lambda: os.kill(os.getpid(), signal.SIGTERM),
    )
    first = tune(plan, Options(quiet=True))
    assert first.was_stopped
    assert not first.is_over
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == handlers

    record = tune(plan, Options(quiet=True, resume=True))
    assert not record.was_stopped
    assert max(at_once) == 2, "as many as there are places"
    assert left_behind() == (0, 0)
    copies = [r for trial in record.trials.values() for r in trial.results if r.copied_from is not None]
    assert len(copies) >= 3, [len(trial.results) for trial in record.trials.values()]
    assert sorted(record.trials) == list(range(5))
    for trial in record.trials.values():
        assert trial.status == "finished"
        assert trial.results[-1].drawings_seen >= 160
        assert all(1e-6 <= result.settings["optim.classifier.lr"] <= 1e-1 for result in trial.results)
        had = len(first.trials[trial.number].results)
        last, *more = trial.results[had - 1 :]
        assert not more or more[0].drawings_seen > last.drawings_seen, "what it had reported it did not again"
    for copy in copies:
        assert copy.copied_from in record.trials
        assert copy.copied_at is not None
        assert copy.copied_at < copy.drawings_seen
    changed = {r.settings["optim.classifier.lr"] for t in record.trials.values() for r in t.results}
    assert len(changed) > 5


def test_a_search_that_another_driver_takes_over_ends_and_says_who_has_it(
    local_ray: None, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.2)
    experiment, search = search_of(
        dataset,
        tmp_path,
        "taken",
        "optim.classifier.lr=loguniform(1e-4, 1e-2)",
        scheduler="none",
        drawings=640,
    )
    uri = str(tmp_path / "taken")
    theirs = Lease(uri, fence=2, host="far-away", pid=4711, machine="another boot")
    once(
        uri,
        lambda record: any(trial.is_over for trial in record.trials.values()),
        lambda: storage.write_atomic(theirs.uri, lease._as_json(theirs)),
    )
    with pytest.raises(WorkFailedError, match="search taken was taken over by process 4711 on far-away"):
        tune(plan_search(experiment, search, trials=200), Options(quiet=True, concurrent=1))
    assert lease.newest_lease(uri) == theirs
    assert left_behind() == (0, 0)


def test_a_trial_whose_process_is_killed_goes_on_from_its_checkpoint(
    local_ray: None, dataset: str, tmp_path: Path
) -> None:
    experiment, search = search_of(
        dataset, tmp_path, "killed", "optim.classifier.lr=loguniform(1e-4, 1e-2)",
        scheduler="none", drawings=9600, first_rung=100,
    )  # fmt: skip
    uri, killed = str(tmp_path / "killed"), []

    def kill_one() -> None:
        while not killed:
            record = read_search(uri)
            if record and any(trial.drawings_seen >= 400 for trial in record.trials.values()):
                trials = [
                    p for p in children(os.getpid()) if name_of(p).startswith("ray::ImplicitFunc.train")
                ]
                for pid in trials[:1]:  # between two reports it has another name for a moment
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            time.sleep(0.05)

    watcher = threading.Thread(target=kill_one, daemon=True)
    watcher.start()
    record = tune(plan_search(experiment, search, trials=1), Options(quiet=True))
    watcher.join(timeout=5)
    assert killed
    for trial in record.trials.values():
        assert trial.status == "finished"
        seen = [result.drawings_seen for result in trial.results]
        assert seen == sorted(seen)
        assert len(set(seen)) == len(seen)  # it began at its last report and repeated none


def test_trials_of_several_workers_train_through_ray_train_and_are_stopped_too(
    local_ray: None, dataset: str, tmp_path: Path
) -> None:
    experiment, search = search_of(
        dataset, tmp_path, "wide", "optim.classifier.lr=grid(3e-3, 1e-9)",
        settings=("scaling.workers=2",), first_rung=64,
    )  # fmt: skip
    record = tune(plan_search(experiment, search, trials=2), Options(quiet=True))
    ends = [(trial.status, trial.drawings_seen) for _, trial in sorted(record.trials.items())]
    assert ends == [("finished", 128), ("stopped", 64)]
    assert left_behind() == (0, 0)
    for trial in record.trials.values():
        [begun] = [e for e in read_events(f"{record.uri}/{trial.name}") if e["event"] == "started"]
        assert begun["workers"] == 2


def test_a_gan_is_judged_by_an_evaluator_that_the_search_trains_first(
    local_ray: None, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "MOST_DRAWINGS", 64)
    monkeypatch.setattr("doodle_dist.tune._evaluator_workers", lambda _: (1, 0.0))
    experiment, search = search_of(dataset, tmp_path, "gan", preset="doodle-gan-small", drawings=32)
    record = tune(plan_search(experiment, search, trials=1), Options(quiet=True))
    assert record.objective == "judge/frechet_distance"
    assert record.best is not None
    assert record.best[1].objective > 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("evaluator-")]


TRIALS = 5  # of which two are over and one under way when a search is killed or stopped


def search_command(dataset: str, runs: str, space: Path, *more: str) -> list[str]:
    sets = [argument for setting in TINY for argument in ("--set", setting)]
    return [
        "tune", "classifier-small", "--trials", str(TRIALS), "--concurrent", "1", "--drawings", "800",
        "--space", str(space), "--data", dataset, "--storage", runs, "--run", "cut", *sets, *more,
    ]  # fmt: skip


def space_that_confirms(best: int, folder: Path) -> Path:
    """The space of classifiers in a file, with so many of the best trained again, once each."""
    shipped = resources.files("doodle_dist.config") / "searches" / "classifier.toml"
    file = folder / "space.toml"
    file.write_text(
        shipped.read_text().replace("[search]\n", f"[search]\nconfirm = {best}\nconfirm_seeds = 1\n")
    )
    return file


@contextmanager
def running_until(command: list[str], log: Path, uri: str, over: int) -> Iterator[subprocess.Popen[bytes]]:
    """A search's driver, once so many of its trials are over."""
    with log.open("wb") as file:
        driver = subprocess.Popen(
            [sys.executable, "-m", "doodle_dist.cli", *command], stdout=file, stderr=file
        )
        deadline = time.monotonic() + 180
        try:
            while len(ended(read_search(uri))) < over:
                assert driver.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.3)  # a look is several requests, where it is in an object store
            yield driver
        finally:
            kill_tree(driver)


def check_none_ran_twice(uri: str, over: dict[int, tuple[str, int]]) -> None:
    """All trials are over and distinct, each begun once; those that were over before are as they were."""
    record = read_search(uri)
    assert record is not None
    assert sorted(ended(record)) == list(range(TRIALS))
    assert len({tuple(sorted(trial.settings.items())) for trial in record.trials.values()}) == TRIALS
    lines = storage.read_bytes(f"{uri}/search.jsonl").decode()
    began = Counter(re.findall(r'"event":"began","trial":(\d+)', lines))
    assert set(began.values()) == {1}
    for number, (status, results) in over.items():
        assert ended(record)[number] == (status, results)


def test_a_killed_search_goes_on_with_the_same_command(
    dataset: str, tmp_path: Path, here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its driver, on the Ray that is there; tests/cluster/test_train.py kills a Ray too."""
    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    space = space_that_confirms(0, tmp_path)  # the best are trained again in another test
    command, uri = search_command(dataset, str(tmp_path), space), str(tmp_path / "cut")
    with running_until(command, tmp_path / "log", uri, over=2) as driver:
        kill_tree(driver)
        over = ended(read_search(uri))
    assert 2 <= len(over) < TRIALS, (tmp_path / "log").read_text()
    done = here(*command, "--resume")
    assert done.returncode == 0, done.stderr
    check_none_ran_twice(uri, over)


def test_a_search_in_an_object_store_by_optuna_stops_when_it_is_told_to_and_goes_on(
    dataset: str, s3_bucket: str, tmp_path: Path, here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a driver of its own on the Ray that is there, as a person's on a cluster."""
    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    space = space_that_confirms(1, tmp_path)
    command = search_command(dataset, s3_bucket, space, "--search", "optuna", "--json")
    uri, log = f"{s3_bucket}/cut", tmp_path / "log"
    with running_until(command, log, uri, over=2) as driver:
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(60) == 130, log.read_text()
    assert "stopped before its end; the same command goes on" in log.read_text()
    assert "Traceback" not in log.read_text()
    over = ended(read_search(uri))
    assert 2 <= len(over) < TRIALS
    assert storage.exists(f"{uri}/report.html"), "what it had found"

    done = here(*command)
    assert done.returncode == 0, done.stderr
    check_none_ran_twice(uri, over)
    assert done.stdout.startswith("{"), done.stdout
    found = orjson.loads(done.stdout)
    assert found["searcher"] == "optuna"
    assert sum(found["trials"].values()) == TRIALS
    best = from_toml(storage.read_bytes(f"{uri}/best.toml").decode())
    assert best.data.uri == dataset
    assert (best.storage, best.run) == ("runs", "")
    record = read_search(uri)
    assert record is not None
    for trial in record.trials.values():
        assert storage.exists(f"{uri}/{trial.name}/metrics.jsonl")
    assert record.confirmed


def ended(record: SearchRecord | None) -> dict[int, tuple[str, int]]:
    """Each trial that is over, with how it ended and how many reports it had made."""
    if record is None:
        return {}
    return {t.number: (t.status, len(t.results)) for t in record.trials.values() if t.is_over}
