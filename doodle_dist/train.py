"""`doodle-dist train` and `python -m doodle_dist.train`: parse, build, run, close.

What Ray Train's driver imports is imported while Ray starts; torch is the workers' alone.
"""

import threading
import time
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import orjson
import ray

from doodle_dist.config.experiment import Experiment
from doodle_dist.data import locations
from doodle_dist.data.manifest import check_files, load_manifest
from doodle_dist.data.retry import TRAINING_PATIENCE_S, patience
from doodle_dist.data.storage_errors import StorageError, under_way
from doodle_dist.errors import WorkFailedError
from doodle_dist.log import say
from doodle_dist.ray_cluster import check_resources, connect, need_of, say_of_idle_gpus
from doodle_dist.run.stopped import forget_reason, noted_reason
from doodle_dist.training import progress
from doodle_dist.training.asked import Asked, asked_to_stop
from doodle_dist.training.begun import (
    is_over,
    refuse_missing_runs,
    refuse_other_categories,
    refuse_other_nets,
)
from doodle_dist.training.checkpoint_store import stored_checkpoints
from doodle_dist.training.early_imports import begin_to_import
from doodle_dist.training.lease import Lease, held
from doodle_dist.training.plan import first_cursor, training_plan, with_absolute_locations
from doodle_dist.training.reasons import told
from doodle_dist.training.reservation import take_over

if TYPE_CHECKING:
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer


@dataclass(frozen=True)
class TrainResult:
    """``metrics`` are those of the last checkpoint, None where one was not finite; ``checkpoint`` is its URI, ``uri``
    the run's.

    ``stopped_at`` are the drawings seen by a run that was asked to stop before its end.
    """

    uri: str
    metrics: dict[str, float | None]
    checkpoint: str | None
    stopped_at: int | None = None


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
    experiment = with_absolute_locations(experiment)
    manifest = load_manifest(experiment.data.uri)
    check_files(experiment.data.uri, manifest)
    plan = training_plan(experiment, manifest)
    plan.order(0)  # for its ValueError alone: lanes that don't fit the batch, or fewer drawings

    total = experiment.train.total_drawings(plan.rows)
    run_uri = locations.join(experiment.storage, experiment.run)
    with held(run_uri, say) as (mine, is_lost):
        refuse_other_nets(experiment, run_uri)
        if is_over(run_uri, first_cursor(experiment, manifest, plan), total):
            forget_reason(run_uri)
            if not quiet:
                say(
                    f"run {experiment.run} has seen the {total:,} drawings that it is to see: nothing is left to train"
                )
            return _result(run_uri, total, reached=total)
        refuse_missing_runs(experiment, run_uri)
        refuse_other_categories(experiment, manifest)
        need = need_of(experiment)
        importing = begin_to_import("pandas")
        try:
            connect(need, local=local, debug=debug)
            check_resources(need, wait_s)
        finally:
            importing.join()
        if not experiment.scaling.gpus_per_worker and not quiet:
            say_of_idle_gpus("--gpus 1 gives each worker one")
        board = progress.new_board()
        with under_way(), progress.shown(board, quiet), asked_to_stop() as asked:
            _run(experiment, run_uri, board, mine, asked, is_lost, wait_s)
        reached = progress.drawings_seen(board) if asked.is_set() else total
    with under_way(), patience(TRAINING_PATIENCE_S):
        return _result(run_uri, total, reached=reached)


def _run(
    experiment: Experiment,
    run_uri: str,
    board: ray.actor.ActorHandle,
    lease: Lease,
    asked: Asked,
    is_lost: threading.Event,
    wait_s: float,
) -> None:
    """Train; again where a worker died as it began, or the run has come further since it was last tried.

    Ray Train counts failures from a start to the end, so that a long run on nodes that come and go would end some time.
    Raises WorkFailedError where the run doesn't end as it should.
    """
    from ray.train import TrainingFailedError

    from doodle_dist.training.ray_trainer import died_as_it_began, trainer

    newest, failures = _newest(run_uri), 0
    while True:
        ray_trainer = trainer(experiment, run_uri, board, lease=lease, wait_s=wait_s)
        if experiment.scaling.is_elastic:
            take_over(run_uri, ray_trainer.train_run_context.run_id)
        try:
            _fit(ray_trainer, board, asked, is_lost)
            return
        except TrainingFailedError as error:
            noted, before = "", newest
            with suppress(StorageError):
                noted = noted_reason(run_uri)
                newest = _newest(run_uri)
            is_further = newest > before
            failures = 0 if is_further else failures
            is_to_end = bool(noted) or asked.is_set() or is_lost.is_set()
            is_worth_it = is_further or died_as_it_began(error)
            if is_to_end or failures >= experiment.train.max_failures or not is_worth_it:
                raise WorkFailedError(noted or f"run {experiment.run} failed: {told(error)}") from error
            failures += 1
            what = "the run had come further" if is_further else "the workers did not get going"
            say(f"{what}, and they start again: {told(error)}")


def _newest(run_uri: str) -> int:
    """The drawings of a run's newest checkpoint; 0 without one. Raises StorageError."""
    with patience(TRAINING_PATIENCE_S):
        return max((one.drawings_seen for one in stored_checkpoints(run_uri)), default=0)


# Ray Train needs a few seconds to end its workers; `ray job stop` waits for 60 s where it is told to.
STOP_WITHIN_S = 28.0


def _fit(
    ray_trainer: "DataParallelTrainer",
    board: ray.actor.ActorHandle,
    asked: Asked,
    is_lost: threading.Event,
) -> None:
    """Train until it is over, asked to stop, or the run's lease is lost.

    Raises what ``fit`` raises, and WorkFailedError where the run doesn't stop in time or isn't ours any more.
    """
    # Off the main thread Ray Train leaves the signals to us; a daemon, so that nobody waits for one that hangs.
    fitting: Future[None] = Future()
    threading.Thread(target=_fit_into, args=(ray_trainer, fitting), name="fit", daemon=True).start()
    deadline = None
    while not fitting.done():
        wait([fitting], timeout=0.2)
        if deadline is None and (asked.is_set() or is_lost.is_set()):
            if asked.is_set():
                say("stopping: the run is saved first")
            board.stop.remote()
            deadline = time.monotonic() + STOP_WITHIN_S
        if deadline is not None and time.monotonic() > deadline and not fitting.done():
            break
    if is_lost.is_set():
        raise WorkFailedError("the run was taken over by another driver while this one could not be reached")
    if not fitting.done():
        raise WorkFailedError(
            f"the run did not end within {STOP_WITHIN_S:.0f} s; the same command goes on from its last checkpoint"
        )
    fitting.result()


def _fit_into(ray_trainer: "DataParallelTrainer", fitting: "Future[None]") -> None:
    try:
        ray_trainer.fit()
    except BaseException as error:
        fitting.set_exception(error)
    else:
        fitting.set_result(None)


def _result(run_uri: str, total: int, *, reached: int) -> TrainResult:
    """What a run that has ``reached`` so many drawings of the ``total`` came to.

    Raises WorkFailedError where it went wrong, or where no checkpoint has them all.
    """
    last = next((one for one in reversed(stored_checkpoints(run_uri)) if not one.is_damaged), None)
    if reason := noted_reason(run_uri):
        raise WorkFailedError(f"{reason}; last good checkpoint: {last.uri if last else 'none yet'}")
    seen = last.drawings_seen if last else 0
    if seen < reached:
        raise WorkFailedError(
            f"the run ended at drawing {reached:,} and its last checkpoint was not stored; last good checkpoint: "
            f"{last.uri if last else 'none'}; the same command goes on from drawing {seen:,}"
        )
    stopped_at = seen if seen < total else None
    return TrainResult(run_uri, last.metrics() if last else {}, last.uri if last else None, stopped_at)


def print_result(result: TrainResult, *, as_json: bool) -> None:
    """What a person, or a program, wants to know after a run."""
    if as_json:
        print(orjson.dumps(asdict(result)).decode())
        return
    shown = {name: value for name, value in result.metrics.items() if name.startswith(("val/", "judge/"))}
    for name, value in shown.items():
        print(f"{name:32} {'not finite' if value is None else f'{value:.4f}'}")
    if result.stopped_at is not None:
        print(f"stopped at drawing {result.stopped_at:,}; the same command goes on")
    print(f"run         {result.uri}")
    print(f"checkpoint  {result.checkpoint or 'none'}")
    # TensorBoard reads gs:// only beside gcsfs, which isn't ours.
    is_google = locations.split_uri(result.uri)[0] == "gs"
    board = f"tensorboard --logdir {result.uri}/tensorboard"
    print(f"watch       {f'doodle-dist runs watch {result.uri}' if is_google else board}")


if __name__ == "__main__":
    from doodle_dist.cli import train_main

    train_main()
