"""What runs inside a trial of Ray Tune: the training loop of every other run, one worker, in the trial's process.

A trial's folder is a run's folder, with its own checkpoints: Ray Tune is handed pointers to them only, which is
all that population based training has to pass from one trial to another.
"""

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import ray
import ray.tune
import torch

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import build
from doodle_dist.config.search import experiment_with
from doodle_dist.config.search_space import Settings
from doodle_dist.data import locations, retry, storage
from doodle_dist.data.scratch import brief_folder
from doodle_dist.data.stream_rows import RowGroupsInMemory
from doodle_dist.errors import root_cause
from doodle_dist.training.checkpoint_store import fetch, new_name, read_commit, store, stored_checkpoints
from doodle_dist.training.context import Alone
from doodle_dist.training.lease import Lease, check
from doodle_dist.training.loop import StoppedError, train
from doodle_dist.training.worker import close_run, prepare_run
from doodle_dist.tuning.ledger import trial_name, trial_number
from doodle_dist.tuning.outages import is_of_the_place, own_reason

# Keys of a trial's config and of its reports, as Ray Tune has them. TRIAL gives a trial its name when it is made.
POINT, TRIAL = "point", "trial"
DRAWINGS, REASON, COPIED_FROM, COPIED_AT, CHECKPOINT = (
    "drawings_seen",
    "reason",
    "copied_from",
    "copied_at",
    "checkpoint_uri",
)
_POINTER = "pointer.json"


@dataclass(frozen=True)
class Job:
    """What every trial of a search is given. ``experiment`` is the base that a trial's settings are laid over;
    ``starts`` are the checkpoints of the trials that an earlier attempt has begun. Once ``lease`` is lost no trial
    stores or deletes any."""

    experiment: dict[str, object]
    search_uri: str
    report_at: tuple[int, ...]
    objective: str
    keep_checkpoints: int
    starts: dict[int, "Pointer"]
    lease: Lease | None = None


@dataclass(frozen=True)
class Pointer:
    """A checkpoint of a trial's own, by its URI."""

    trial: int
    drawings_seen: int
    uri: str


def run_trial(config: dict[str, Any], job: Job, memory: RowGroupsInMemory | None) -> None:
    """Train one trial from where it is left, or from another trial's checkpoint that it was handed.

    ``config`` is {"point": the trial's settings}. What Python raises is reported as the trial's ``reason`` and not
    raised: it would come again. A process that dies is started again by Ray Tune, and so is a trial whose store, disk
    or cluster failed it, and one after which CUDA refuses its process everything.
    """
    # How long Ray Tune waits for a stopped trial to let go of its process: it has curves to upload.
    os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "120")
    gpu_share = _keep_to_its_share() if torch.cuda.is_available() else 1.0
    retry.be_patient(retry.TRAINING_PATIENCE_S)
    number, settings = this_trial(), settings_of(config[POINT])
    run_uri = locations.join(job.search_uri, trial_name(number))
    try:
        experiment = experiment_with(build(job.experiment), settings)
        _train(experiment, settings, number, run_uri, job, memory)
    except Exception as error:
        # This process lives: one of Ray's that has died is another's, of Ray Data say.
        is_of_another = isinstance(root_cause(error), ray.exceptions.RayError)
        if is_of_the_place(error) or is_of_another or _has_lost_its_gpu():
            raise  # and this process ends: the next trial would be given it
        ray.tune.report({REASON: own_reason(error, gpu_share)})


def _keep_to_its_share() -> float:
    """Leave others that share the GPU their part of its memory; this trial's."""
    torch.cuda.empty_cache()  # of the trial before
    share: float = ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0)
    if not 0 < share < 1:
        return 1.0
    torch.cuda.set_per_process_memory_fraction(share)  # who takes more fails, and not whoever is beside it
    return share


def _has_lost_its_gpu() -> bool:
    """Whether CUDA refuses this process everything from now on, as after an illegal access."""
    if not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def this_trial() -> int:
    """The number of the trial that this process runs. Not its config's: a copied config has another's."""
    return trial_number(ray.tune.get_context().get_trial_name())


def settings_of(point: dict[str, Any]) -> Settings:
    """The settings of a trial's point, as Ray Tune knows it."""
    return {key: value for key, value in point.items() if key != TRIAL}


def _train(
    experiment: Experiment,
    settings: Settings,
    number: int,
    run_uri: str,
    job: Job,
    memory: RowGroupsInMemory | None,
) -> None:
    start = _handed_over() or job.starts.get(number)
    context = _TrialContext(number, run_uri, job, start)
    with _fetched(start) as folder:
        run, batches, cursor = prepare_run(
            experiment,
            run_uri,
            context,
            checkpoint=folder,
            report_at=job.report_at,
            memory=memory,
        )
    try:
        if run.tensorboard and start is None:
            run.tensorboard.hparams({"seed": experiment.seed} | settings, job.objective)
        train(run, batches, cursor)
    finally:
        close_run(run, batches)


class _TrialContext(Alone):
    """One rank, whose reports go to Ray Tune."""

    def __init__(self, number: int, run_uri: str, job: Job, start: Pointer | None) -> None:
        super().__init__(torch.device("cuda" if ray.get_gpu_ids() else "cpu"))
        self.number, self.run_uri, self.job = number, run_uri, job
        self.copied = start if start is not None and start.trial != number else None
        # Those that an earlier start has left, too; the one that is gone on from last, since it goes last.
        own = [start.uri] if start is not None and start.trial == number else []
        self.mine = [one.uri for one in stored_checkpoints(run_uri) if one.uri not in own] + own

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Store the checkpoint, and hand its pointer and the objective over. Raises ValueError where the
        checkpoint has no such figure, and StoppedError where it is not finite."""
        assert checkpoint is not None
        objective = metrics.get(self.job.objective)
        if objective is None:
            raise ValueError(
                f"{self.job.objective} is no figure of this run's checkpoints; there are: {', '.join(sorted(metrics))}"
            )
        seen = int(metrics[DRAWINGS])
        if not math.isfinite(objective):
            raise StoppedError(f"{self.job.objective} is {objective} at drawing {seen:,}")
        uri = locations.join(self.run_uri, new_name(seen, self.job.lease.fence if self.job.lease else 0))
        store(checkpoint, uri, self.check_writer)
        shutil.rmtree(checkpoint)
        self._sweep(uri)
        figures: dict[str, object] = {DRAWINGS: seen, self.job.objective: objective, CHECKPOINT: uri}
        if self.copied:
            figures |= {COPIED_FROM: self.copied.trial, COPIED_AT: self.copied.drawings_seen}
            self.copied = None
        with brief_folder("pointer") as folder:
            pointer = {"trial": self.number, DRAWINGS: seen, "uri": uri}
            (folder / _POINTER).write_bytes(orjson.dumps(pointer))
            ray.tune.report(figures, checkpoint=ray.tune.Checkpoint.from_directory(folder))

    def check_writer(self) -> None:
        """Raise LeaseLostError where another driver has taken the search over."""
        if self.job.lease is not None:
            check(self.job.lease)

    def _sweep(self, newest: str) -> None:
        self.mine.append(newest)
        while len(self.mine) > self.job.keep_checkpoints:
            storage.delete_prefix(self.mine.pop(0))


def _handed_over() -> Pointer | None:
    """The checkpoint that Ray Tune restores this trial from: its own, or another trial's."""
    handed = ray.tune.get_checkpoint()
    if handed is None:
        return None
    with handed.as_directory() as folder:
        return Pointer(**orjson.loads((Path(folder) / _POINTER).read_bytes()))


@contextmanager
def _fetched(start: Pointer | None) -> Iterator[Path | None]:
    """A checkpoint as a local folder."""
    if start is None:
        yield None
        return
    if not storage.exists(start.uri):
        raise ValueError(f"{locations.public(start.uri)} is gone: the trial can't go on from it")
    with brief_folder("resume") as folder:
        fetch(read_commit(start.uri), folder)
        yield folder
