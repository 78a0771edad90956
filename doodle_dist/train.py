"""`doodle-dist train` and `python -m doodle_dist.train`: parse, build, run, close.

Importing torch takes longer than all that is to be checked, and is done while Ray starts.
"""

import errno
import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import orjson
import ray

from doodle_dist.config.experiment import Experiment
from doodle_dist.data import storage
from doodle_dist.data.manifest import check_files, load_manifest
from doodle_dist.errors import WorkFailedError, one_line, root_cause
from doodle_dist.ray_cluster import Need, check_resources, connect
from doodle_dist.training import progress
from doodle_dist.training.plan import training_plan

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer


@dataclass(frozen=True)
class TrainResult:
    """``metrics`` are those of the last checkpoint, ``checkpoint`` its URI, ``uri`` the run's."""

    uri: str
    metrics: dict[str, float]
    checkpoint: str | None


def train(
    experiment: Experiment,
    *,
    local: bool = False,
    wait_s: float = 0.0,
    quiet: bool = False,
    debug: bool = False,
) -> TrainResult:
    """Train an experiment, or go on with it where its run was left.

    Raises ValueError for a request that can't be met, StorageError, and WorkFailedError.
    """
    experiment = _with_absolute_locations(experiment)
    manifest = load_manifest(experiment.data.uri)
    check_files(experiment.data.uri, manifest)
    training_plan(experiment, manifest).order(0)

    scaling = experiment.scaling
    need = Need(scaling.workers, scaling.cpus_per_worker, scaling.gpus_per_worker)
    with _imported_meanwhile("pandas", "torch", "torch.utils.tensorboard"):
        connect(need, local=local, debug=debug)
        check_resources(need, wait_s)
    from ray.train import TrainingFailedError

    from doodle_dist.evaluation.runs import STOPPED

    run_uri = storage.join(experiment.storage, experiment.run)
    stopped = storage.join(run_uri, STOPPED)
    if storage.exists(stopped):
        storage.write_atomic(stopped, b"{}")
    board = progress.new_board()
    try:
        with progress.shown(board, quiet):
            result = _trainer(experiment, run_uri, board).fit()
    except TrainingFailedError as error:
        cause = root_cause(error)
        if getattr(cause, "errno", None) == errno.ENOSPC:
            cause = storage.explain(run_uri, cause)
        raise WorkFailedError(f"run {experiment.run} failed: {one_line(cause)}") from error
    checkpoint = f"{run_uri}/{storage.basename(result.checkpoint.path)}" if result.checkpoint else None
    reason = orjson.loads(storage.read_bytes(stopped)).get("reason") if storage.exists(stopped) else None
    if reason:
        raise WorkFailedError(f"{reason}; last good checkpoint: {checkpoint or 'none yet'}")
    return TrainResult(run_uri, dict(result.metrics or {}), checkpoint)


@contextmanager
def _imported_meanwhile(*modules: str) -> Iterator[None]:
    """Import modules while the block waits for something else. None of them may import what the block does."""

    def work() -> None:
        for module in modules:
            with suppress(ImportError):  # said where it is needed
                importlib.import_module(module)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _with_absolute_locations(experiment: Experiment) -> Experiment:
    """Local paths made absolute: workers have other working directories."""
    runs = {"judge": experiment.gan.judge, "critic_from": experiment.gan.critic_from}
    runs = {key: storage.absolute(run) if run else "" for key, run in runs.items()}
    return experiment.model_copy(
        update={
            "storage": storage.absolute(experiment.storage),
            "data": experiment.data.model_copy(update={"uri": storage.absolute(experiment.data.uri)}),
            "gan": experiment.gan.model_copy(update=runs),
        }
    )


def _trainer(experiment: Experiment, run_uri: str, board: ray.actor.ActorHandle) -> "TorchTrainer":
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    from doodle_dist.training.worker import train_loop_per_worker

    filesystem, path = storage.train_filesystem(experiment.storage)
    scaling = experiment.scaling
    resources = {"CPU": scaling.cpus_per_worker}
    if scaling.gpus_per_worker:
        resources["GPU"] = scaling.gpus_per_worker
    return TorchTrainer(
        train_loop_per_worker,
        train_loop_config={
            "experiment": experiment.model_dump(mode="json"),
            "run_uri": run_uri,
            "board": board,
        },
        torch_config=TorchConfig(backend="nccl" if scaling.gpus_per_worker else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=scaling.workers,
            use_gpu=scaling.gpus_per_worker > 0,
            resources_per_worker=resources,
        ),
        run_config=ray.train.RunConfig(
            name=experiment.run,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=ray.train.FailureConfig(
                max_failures=experiment.train.max_failures, controller_failure_limit=3
            ),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=experiment.train.keep_checkpoints,
                checkpoint_score_attribute="score",
            ),
        ),
    )


def print_result(result: TrainResult, *, as_json: bool) -> None:
    """What a person, or a program, wants to know after a run."""
    if as_json:
        print(orjson.dumps(asdict(result)).decode())
        return
    shown = {name: value for name, value in result.metrics.items() if name.startswith(("val/", "judge/"))}
    for name, value in shown.items():
        print(f"{name:32} {value:.4f}")
    print(f"run         {result.uri}")
    print(f"checkpoint  {result.checkpoint or 'none'}")
    print(f"watch       tensorboard --logdir {result.uri}/tensorboard")


if __name__ == "__main__":
    from doodle_dist.cli import train_main

    train_main()
