"""Ray Train's trainer of a run, as our workers need it. Without torch, which the workers import."""

import os
from collections.abc import Sequence
from contextlib import suppress

import fsspec
import pyarrow.fs
import ray.train
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from doodle_dist.config.experiment import Experiment
from doodle_dist.run.stopped import forget_reason
from doodle_dist.training.entry import GiveBack, HandOver, TellFailures, train_loop_per_worker
from doodle_dist.training.lease import Lease
from doodle_dist.training.torch_backend import LateTorchConfig

ELASTIC_START_S, RAYS_START_S = 15.0, 60.0
_ELASTIC_STARTS = 3


def trainer(
    experiment: Experiment,
    run_uri: str,
    board: ActorHandle | None,
    *,
    report_at: tuple[int, ...] = (),
    callbacks: Sequence[ray.train.UserCallback] = (),
    lease: Lease | None = None,
    wait_s: float = 0.0,
) -> DataParallelTrainer:
    """Ray Train's trainer of an experiment whose run lies at ``run_uri``. ``board`` is told of its progress.

    ``report_at`` are drawings seen after which it checkpoints, beside the experiment's own. No checkpoint is
    committed once ``lease`` is lost. Why the run stopped itself the last time is forgotten. Whenever workers start,
    room for all is waited for: Ray's minute, or ``wait_s`` for an autoscaler that takes longer.
    """
    start_s, starts = max(RAYS_START_S, wait_s), 1
    if experiment.scaling.is_elastic:
        # For some seconds a cluster counts a node that has died: sooner than Ray's minute, fewer workers are tried, and
        # a lost node may so take several starts with it.
        start_s, starts = ELASTIC_START_S, _ELASTIC_STARTS
    if start_s != RAYS_START_S:
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(start_s))
    forget_reason(run_uri)
    scaling = experiment.scaling
    resources = {"CPU": scaling.cpus_per_worker}
    if scaling.gpus_per_worker:
        resources["GPU"] = scaling.gpus_per_worker
    ray_trainer = DataParallelTrainer(
        train_loop_per_worker,
        train_loop_config={
            "experiment": experiment.model_dump(mode="json"),
            "run_uri": run_uri,
            "board": board,
            "report_at": report_at,
            "lease": lease,
        },
        backend_config=LateTorchConfig(scaling.backend),
        scaling_config=ray.train.ScalingConfig(
            num_workers=(scaling.workers_min, scaling.workers) if scaling.is_elastic else scaling.workers,
            elastic_resize_monitor_interval_s=scaling.grow_every_s,
            use_gpu=scaling.gpus_per_worker > 0,
            resources_per_worker=resources,
        ),
        run_config=ray.train.RunConfig(
            name=experiment.run,
            storage_path="/doodle-dist",
            storage_filesystem=_memory(),
            callbacks=[
                GiveBack(),
                HandOver(),
                *callbacks,
                *([TellFailures(board)] if board else []),
            ],
            # Workers that die while they start count as the controller's failures, as does starvation.
            failure_config=ray.train.FailureConfig(
                max_failures=experiment.train.max_failures,
                controller_failure_limit=max(3, experiment.train.max_failures) * starts,
            ),
        ),
    )
    # What a stopped trial had reserved stays until its search's driver ends; what a run had, until its own does.
    choose_callbacks(
        ray_trainer, without=("DatasetsCallback", *(["PlacementGroupCleanerCallback"] if board else []))
    )
    return ray_trainer


def _memory() -> pyarrow.fs.FileSystem:
    """Where Ray Train keeps its own record of a run: the memory of each of its processes.

    Nothing of ours reads it: which checkpoints there are is read from storage (training/checkpoint_store.py). Were it
    in storage, Ray Train's controller would end the run where it can't write it at once.
    """
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fsspec.filesystem("memory")))


def choose_callbacks(ray_trainer: DataParallelTrainer, *, without: Sequence[str]) -> None:
    """Put our `GiveBack` before Ray Train's own callbacks, and leave out some of these, by their names.

    Each that we leave out starts an actor: two core seconds at every start. One hands out datasets, and is given none.
    The other gives back what a controller that has died had reserved, and looks for its cluster in what `ray start`
    last noted: where that one is gone, a run waits 12 s for it at its end. Nothing is lost where a Ray has other names
    for them.
    """
    with suppress(AttributeError):
        made = ray_trainer._create_default_callbacks
        ray_trainer._create_default_callbacks = lambda: sorted(
            (one for one in made() if type(one).__name__ not in without),
            key=lambda one: not isinstance(one, GiveBack),
        )


def died_as_it_began(error: BaseException) -> bool:
    """Whether workers died when they looked for each other or their work was handed to them, which Ray Train takes for
    the end of the run.

    Of a worker that dies the others may hear first: torch.distributed raises a RuntimeError in them.
    """
    failure = getattr(error, "controller_failure", None)
    if isinstance(failure, RayTaskError):
        return isinstance(failure, RuntimeError)
    return isinstance(failure, RayActorError)
