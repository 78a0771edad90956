"""The whole job as a person runs it: trained, killed, resumed with another number of workers, audited."""

import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
import ray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from doodle_dist import cli
from doodle_dist.config.load import from_toml, load_experiment
from doodle_dist.evaluation.attempts import attempts_of
from doodle_dist.run.folder import read_events, read_metrics_log, read_run
from tests.conftest import Answer
from tests.datasets import prepare_here

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

Command = Callable[..., Answer]

# Small enough for a test and slow enough to be killed in the middle: what is left then takes seconds.
DRAWINGS, CHECKPOINT_EVERY = 10_000, 2_000
TINY = [
    "--set=model.classifier.width=4",
    f"--set=train.drawings={DRAWINGS}",
    "--set=train.log_every_drawings=500",
    f"--set=train.checkpoint_every_drawings={CHECKPOINT_EVERY}",
    "--set=optim.classifier.warmup_drawings=2000",
    "--set=data.audit=true",
]


def doodle_dist(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "doodle_dist.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, env=os.environ | environ, check=False
    )


def train_command(dataset: Path, runs: Path, workers: int) -> list[str]:
    places = ["--data", str(dataset), "--storage", str(runs), "--run", "killed"]
    return ["train", "classifier-small", "--local", "--workers", str(workers), *places, *TINY]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    return Path(prepare_here(folder, {"cat": 900, "dog": 700, "fish": 415}, (80.0, 10.0, 10.0)))


def children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found += [int(entry.name), *children(int(entry.name))]
            except (OSError, ValueError):
                continue
    return found


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """kill -9 a process of ours and all that it started."""
    for pid in [*children(process.pid), process.pid]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


@contextmanager
def running(arguments: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command in the background; it and all its children are killed -9 at the end, whatever happens."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "doodle_dist.cli", *arguments],
            stdout=sink,
            stderr=sink,
        )
        try:
            yield process
        finally:
            kill_tree(process)


def wait_for_checkpoints(run: Path, count: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 150
    while len({p.parent for p in run.glob("checkpoint_*/meta.json")} | seen_before(run)) < count:
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        seen_before(run).update(p.parent for p in run.glob("checkpoint_*/meta.json"))
        time.sleep(0.1)


_SEEN: dict[Path, set[Path]] = {}


def seen_before(run: Path) -> set[Path]:
    """Checkpoints of a run ever seen: the oldest are deleted on the way."""
    return _SEEN.setdefault(run, set())


@pytest.fixture(scope="module")
def killed_run(dataset: Path, tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Path:
    """A run whose worker was killed -9, then the whole job with its Ray, then run again here, with one worker that
    Ray Data reads for."""
    folder = tmp_path_factory.mktemp("runs")
    run, log = folder / "killed", folder / "log"
    with running(train_command(dataset, folder, 2), log) as process:
        wait_for_checkpoints(run, 2, process, log)
        workers = [pid for pid in children(process.pid) if "ray::RayTrainWorker" in name_of(pid)]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        wait_for_checkpoints(run, 3, process, log)
        assert re.search(r"warning: worker \d failed: its process ended at once: killed", log.read_text())
    with pytest.raises(SystemExit) as stop:
        cli.main([*train_command(dataset, folder, 1), "--set=data.read=tasks"])
    assert stop.value.code == 0
    return run


def test_every_drawing_was_consumed_exactly_once_per_epoch(killed_run: Path, here: Command) -> None:
    attempts = {path.name for path in (killed_run / "audit").iterdir()}
    assert len(attempts) >= 3, "a start, a start after the worker's death, a start after the job's"
    answer = here("audit", str(killed_run))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "every drawing exactly once per epoch" in answer.stdout


def test_the_curves_go_on_where_they_were(killed_run: Path) -> None:
    events = EventAccumulator(str(killed_run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    loss = events.Scalars("loss/classifier")
    steps = [event.step for event in loss]
    assert steps == sorted(set(steps)), "a point drawn twice, or out of order"
    assert steps[0] < 1000
    assert steps[-1] >= DRAWINGS
    assert max(b - a for a, b in itertools.pairwise(steps)) < 1100, "a gap in the curve"
    assert loss[-1].value < 0.6 * loss[0].value


def test_the_folder_explains_the_run_each_figure_once(killed_run: Path, dataset: Path) -> None:
    lines = read_metrics_log(str(killed_run))
    logged = [line["drawings_seen"] for line in lines if "loss/classifier" in line]
    judged = [line["drawings_seen"] for line in lines if "val/top1" in line]
    assert logged == sorted(set(logged))
    assert len(logged) >= DRAWINGS // 500 - 2
    assert judged == sorted(set(judged))
    assert len(judged) == DRAWINGS // CHECKPOINT_EVERY
    run = read_run(str(killed_run))
    assert run.drawings == DRAWINGS <= run.drawings_seen
    assert run.data_sha256 == hashlib.sha256((dataset / "manifest.json").read_bytes()).hexdigest()
    config = from_toml((killed_run / "config.toml").read_text())
    assert (config.scaling.workers, config.train.drawings) == (1, DRAWINGS)


def test_every_start_is_noted_with_how_it_ended(killed_run: Path, here: Command) -> None:
    starts = attempts_of(read_events(str(killed_run)))
    last = next(k for k, one in enumerate(starts) if one.end == "finished")
    assert last >= 2, "a start, a start after the worker's death, a start after the job's"
    assert [one.workers for one in starts[: last + 1]] == [2] * last + [1]
    assert starts[0].first_drawing == 0
    assert CHECKPOINT_EVERY <= starts[last].first_drawing < DRAWINGS <= starts[last].last_drawing
    assert all(one.seconds > 0 for one in starts[: last + 1])
    answer = here("report", str(killed_run))
    assert answer.returncode == 0, answer.stderr
    assert f"went on after {last} that were interrupted" in (killed_run / "report.html").read_text()


def test_the_trained_run_is_evaluated_and_does_nothing_when_run_again(
    killed_run: Path, dataset: Path, here: Command
) -> None:
    answer = here("evaluate", str(killed_run), "--local", "--json")
    assert answer.returncode == 0, answer.stderr
    figures = json.loads(answer.stdout.splitlines()[-1])
    manifest = orjson.loads((dataset / "manifest.json").read_bytes())
    assert figures["drawings"] == manifest["splits"]["test"]["rows"]
    assert figures["top1"] > 0.8
    before = sorted(killed_run.glob("checkpoint_0*"))
    again = here(*train_command(dataset, killed_run.parent, 1))
    assert again.returncode == 0, again.stderr
    assert "nothing is left to train" in again.stderr
    assert sorted(killed_run.glob("checkpoint_0*")) == before


def test_another_batch_or_seed_is_refused_on_resume(killed_run: Path, dataset: Path, here: Command) -> None:
    answer = here(*train_command(dataset, killed_run.parent, 1), "--set=train.global_batch=128")
    assert answer.returncode == 2
    assert "train.global_batch=128" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_nan_stops_the_run_and_names_what_it_saw(
    dataset: Path, tmp_path: Path, here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And, on a cluster that has GPUs, it says that it uses none."""
    there = ray.cluster_resources()
    monkeypatch.setattr(ray, "cluster_resources", lambda: there | {"GPU": 8.0})
    answer = here(
        # Decoupled weight decay of lr * decay = 100 multiplies every weight by -99 a step.
        *train_command(dataset, tmp_path, 1), "--set=optim.classifier.lr=10",
        "--set=optim.classifier.weight_decay=10", "--set=optim.classifier.schedule=constant",
        "--set=optim.classifier.warmup_drawings=0", "--set=train.drawings=6000",
    )  # fmt: skip
    assert answer.returncode == 1, answer.stderr
    assert "training on CPUs: the cluster has 8 GPUs, and --gpus 1 gives each worker one" in answer.stderr
    last = answer.stderr.strip().splitlines()[-1]
    assert "not finite" in last
    assert "last good checkpoint" in last
    record = orjson.loads(next((tmp_path / "killed").glob("not-finite-*.json")).read_bytes())
    assert f"at step {record['step']}," in last
    assert len(record["key_ids"]) == 64


@pytest.mark.parametrize("board", [None, "a board"])
def test_no_actor_is_started_for_nothing(
    board: str | None, dataset: Path, tmp_path: Path, local_ray: None
) -> None:
    from doodle_dist.training.ray_trainer import trainer

    experiment = load_experiment("classifier-small", [f"data.uri={dataset}", "run=spare"])
    made = trainer(experiment, str(tmp_path / "run"), board)._create_default_callbacks()
    names = {type(one).__name__ for one in made}
    assert "BackendSetupCallback" in names
    assert "DatasetsCallback" not in names
    assert ("PlacementGroupCleanerCallback" in names) == (board is None), "a trial's, which may be stopped"


def test_more_workers_than_the_cluster_has_is_said_at_once(dataset: Path, local_ray: None) -> None:
    from doodle_dist.ray_cluster import Need, NotEnoughResourcesError, check_resources

    with pytest.raises(
        NotEnoughResourcesError, match=r"--workers 8: .* and 1 for Ray Data, take 9 CPUs.*has 4 CPUs"
    ):
        check_resources(Need(workers=8, cpus_per_worker=1, gpus_per_worker=0))
