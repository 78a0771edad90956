"""A search as Ray Tune runs it: which trials, under which scheduler, with what."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray
import ray.tune
from ray._raylet import PlacementGroupID
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.search import BasicVariantGenerator
from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import ConfigError, overlay
from doodle_dist.config.search import SearchConfig, experiment_with
from doodle_dist.config.search_space import Axis, SearchSpace, Settings, Value, setting
from doodle_dist.data import filesystems, locations, storage
from doodle_dist.data.stream_rows import RowGroupsInMemory
from doodle_dist.training.lease import Lease
from doodle_dist.tuning.follow import Follower
from doodle_dist.tuning.ledger import SearchRecord, TrialRecord, trial_name
from doodle_dist.tuning.on_workers import run_trial_on_workers
from doodle_dist.tuning.population import Population, Turns
from doodle_dist.tuning.resources import TrialResources
from doodle_dist.tuning.schedulers import build_scheduler, report_at
from doodle_dist.tuning.tpe import TpeSearcher
from doodle_dist.tuning.trial import POINT, TRIAL, Job, Pointer, run_trial

STATE = "ray-tune"  # Ray Tune's own files, below a search's folder; made anew at every start
_RETRIES = 2  # of a trial whose process or node died
# Checkpoints of a trial: the newest, and the one before, which is the newest that Ray Tune knows of until the report
# of the newest is through. Population based training hands them to others.
_KEPT, _KEPT_FOR_OTHERS = 2, 1000
_LOGS = 20  # of a trial's curves


@dataclass(frozen=True)
class Search:
    """All that fixes what a search tries: the base that points are laid over, the space, and how many.

    ``given`` points are tried in place of drawn ones; ``confirms`` are the trials of another search that they are of.
    ``fixed`` settings are not searched.
    """

    uri: str
    base: Experiment
    config: SearchConfig
    space: SearchSpace
    trials: int
    searcher: str
    seed: int
    given: tuple[Settings, ...] = ()
    confirms: tuple[int, ...] = ()
    fixed: tuple[str, ...] = ()

    def points(self) -> list[Settings]:
        """The points of all trials of a search that doesn't choose them as it goes, by number.

        The first is the preset as it is, unless the space has a grid to go through, or doesn't hold the preset.
        """
        if self.given:
            return list(self.given)
        points = self.space.points(self.base, self.seed, self.trials)
        if (first := self.first()) is not None:
            points[0] = first
        return points

    def first(self) -> Settings | None:
        """The preset as a point, to begin with."""
        return None if self.space.grid else self.space.of_base(self.base)

    def largest(self) -> Experiment:
        """The base with the largest batch and nets that the space has: what takes the most of a GPU's memory."""

        def pick(axis: Axis) -> Value:
            sizes = [value for value in axis.draw.probes if not isinstance(value, str)]
            is_size = axis.key == "train.global_batch" or axis.key.startswith("model.")
            value: Value = max(sizes) if is_size and sizes else setting(self.base, axis.key)
            return value

        try:
            return experiment_with(self.base, self.space.settings(self.base, pick))
        except ConfigError:  # no point has them together
            return self.base


def run_search(
    search: Search,
    record: SearchRecord,
    follower: Follower,
    resources: TrialResources,
    concurrent: int,
    memory: "ray.ObjectRef[RowGroupsInMemory] | None",
    lease: Lease,
) -> None:
    """Run the trials that are not over yet, and return when all are, or when the driver was told to stop.

    ``record`` is what was found before, ``memory`` the dataset where trials share it. Raises LeaseLostError where
    another driver has taken ``lease``.
    """
    over = [trial for trial in record.trials.values() if trial.is_over]
    begun = [trial for trial in record.trials.values() if not trial.is_over]
    if len(over) >= search.trials:
        return
    storage.delete_prefix(locations.join(search.uri, STATE))
    _set_environment()
    filesystem, path = filesystems.train_filesystem(search.uri)
    # A trial on workers of its own only waits for them.
    takes = {"cpu": resources.cpus, "gpu": resources.gpus} if resources.workers == 1 else {"cpu": 0.01}
    points, tune_config = _trials(search, over, begun, concurrent, resources)
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(_trainable(search, resources, begun, memory, lease), takes),
        param_space=points,
        tune_config=tune_config,
        run_config=ray.tune.RunConfig(
            name=STATE,
            storage_path=path,
            storage_filesystem=filesystem,
            verbose=0,
            callbacks=[follower, Silent()],
            failure_config=ray.tune.FailureConfig(max_failures=_RETRIES),
        ),
    )
    try:
        with terminated_is_interrupted():
            tuner.fit()
    finally:
        if resources.workers > 1:
            _give_back_placement_groups()


def _give_back_placement_groups() -> None:
    """Remove those of this driver: no trial of it runs any more.

    Ray Train's own cleaner of a trial that was stopped asks for its cluster by what `ray start` last noted on the
    machine; where that is another cluster, or one that is gone, it gives up.
    """
    job = ray.get_runtime_context().get_job_id()
    for number, group in placement_group_table().items():
        if group["state"] != "REMOVED" and number.endswith(job):  # an id ends with its job's
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(number))))


class Silent(TrialProgressCallback):
    """In the place of Ray Tune's own, which prints the last result of a trial that ended without a new one, however
    quiet it is asked to be: into what `tune --json` prints, say."""

    def log_result(self, trial: Trial, result: dict[str, object], error: bool = False) -> None: ...

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None: ...


def _set_environment() -> None:
    """Ray Tune's switches. The record, the curves and the table are our own; a failed trial has no objective."""
    os.environ |= {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "RAY_AIR_NEW_OUTPUT": "0",  # which speaks however quiet it is asked to be
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    }


def _trainable(
    search: Search,
    resources: TrialResources,
    begun: list[TrialRecord],
    memory: "ray.ObjectRef[RowGroupsInMemory] | None",
    lease: Lease,
) -> object:
    keeps = _KEPT_FOR_OTHERS if search.config.scheduler == "pbt" else _KEPT
    starts = {
        trial.number: Pointer(trial.number, trial.drawings_seen, trial.results[-1].checkpoint)
        for trial in begun
        if trial.results and trial.results[-1].checkpoint and storage.exists(trial.results[-1].checkpoint)
    }
    ours: dict[str, object] = {
        "train.checkpoint_every_drawings": 0,  # `report_at` says when
        "train.log_every_drawings": max(1, search.config.drawings // _LOGS),
    }
    if resources.workers > 1:
        ours["scaling.gpus_per_worker"] = resources.gpus
    job = Job(
        experiment=overlay(search.base.model_dump(mode="json", exclude_unset=True), ours),
        search_uri=search.uri,
        report_at=report_at(search.config),
        objective=search.config.objective,
        keep_checkpoints=keeps,
        starts=starts,
        lease=lease,
    )
    if resources.workers > 1:
        return ray.tune.with_parameters(run_trial_on_workers, job=job)
    return ray.tune.with_parameters(run_trial, job=job, memory=memory)


def _trials(
    search: Search,
    over: list[TrialRecord],
    begun: list[TrialRecord],
    concurrent: int,
    resources: TrialResources,
) -> tuple[dict[str, object] | None, ray.tune.TuneConfig]:
    """The points to try, those that were begun first (None: the searcher makes them), and what they are tried under."""
    turns = Turns(concurrent)
    common = {
        "scheduler": Population(search.config, search.space, search.base, search.seed, turns)
        if search.config.scheduler == "pbt"
        # What a begun trial has reported it won't report again.
        else build_scheduler(search.config, [*over, *begun]),
        # A trial that waits for workers of its own can't be stopped from inside: its actor ends with it.
        "reuse_actors": resources.workers == 1,
        "trial_name_creator": _name_of,
        "trial_dirname_creator": _name_of,
    }
    if search.searcher == "optuna":
        known = {trial.number for trial in (*over, *begun)}
        searcher = TpeSearcher(
            search.space,
            search.base,
            objective=search.config.objective,
            mode=search.config.mode,
            seed=search.seed,
            unfinished=begun,
            earlier=over,
            numbers=[number for number in range(search.trials) if number not in known],
            begin_with=None if known else search.first(),
        )
        return None, ray.tune.TuneConfig(
            **common,
            search_alg=searcher,
            num_samples=search.trials - len(over),
            max_concurrent_trials=concurrent,
        )
    known_settings = {trial.number: _settings_now(trial) for trial in begun}
    done = {trial.number for trial in over}
    numbers = [
        *known_settings,
        *(n for n in range(search.trials) if n not in done and n not in known_settings),
    ]
    points = search.points()
    todo = [
        {TRIAL: number} | (known_settings[number] if number in known_settings else points[number])
        for number in numbers
    ]
    one_by_one = (
        turns if search.config.scheduler == "pbt" else BasicVariantGenerator(max_concurrent=concurrent)
    )
    tune_config = ray.tune.TuneConfig(**common, search_alg=one_by_one, num_samples=1)
    return {POINT: ray.tune.grid_search(todo)}, tune_config


def _name_of(trial: Trial) -> str:
    return trial_name(trial.config[POINT][TRIAL])


def _settings_now(trial: TrialRecord) -> Settings:
    """What a trial was last trained with: population based training changes it."""
    return dict(trial.results[-1].settings if trial.results else trial.settings)


@contextmanager
def terminated_is_interrupted() -> Iterator[None]:
    """Ray Tune ends at once, and in order, when it is interrupted; told to terminate, it is to do the same.

    Signals are taken afterwards as they were before: Ray Tune leaves handlers of its own behind.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
