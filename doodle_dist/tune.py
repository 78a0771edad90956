"""`doodle-dist tune` and `python -m doodle_dist.tune`: parse, build, search, say what was found."""

import os
import threading
from dataclasses import asdict, dataclass, replace

import orjson
import ray

from doodle_dist import train as train_driver
from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import ConfigError, build, overlay
from doodle_dist.config.search import SearchConfig
from doodle_dist.config.search_check import checked_space
from doodle_dist.data import storage
from doodle_dist.data.manifest import check_files, load_manifest
from doodle_dist.data.stream import RowGroupsInMemory
from doodle_dist.errors import WorkFailedError
from doodle_dist.ray_cluster import DATA_CPUS, Need, NotEnoughResourcesError, connect
from doodle_dist.training.lease import held
from doodle_dist.training.plan import training_plan
from doodle_dist.training.worker import held_out_plan
from doodle_dist.tuning import evaluator, report
from doodle_dist.tuning.follow import Follower
from doodle_dist.tuning.ledger import CONFIRM, Ledger, Request, SearchRecord, confirmed_by, read_search
from doodle_dist.tuning.naming import shown
from doodle_dist.tuning.population import check_population
from doodle_dist.tuning.resources import TrialResources, fits_in_memory, measured_gpu_share
from doodle_dist.tuning.schedulers import report_at
from doodle_dist.tuning.tuner import Search, run_search

# The objective of a task, and whether it should be low or high.
OBJECTIVES = {
    "gan": ("judge/frechet_distance", "min"),
    "classifier": ("val/top1", "max"),
    "critic": ("val/balanced_accuracy", "max"),
}
SEARCHERS = ("random", "optuna")
_JUDGED = "judge/"  # figures that a classifier's run gives


@dataclass(frozen=True)
class Options:
    """How a search runs. ``gpus_per_trial`` None: measured, where the cluster has GPUs; ``concurrent`` 0: as
    many trials as fit."""

    concurrent: int = 0
    workers_per_trial: int = 1
    gpus_per_trial: float | None = None
    resume: bool = False
    local: bool = False
    quiet: bool = False
    debug: bool = False


def plan_search(
    experiment: Experiment,
    config: SearchConfig,
    *,
    trials: int,
    searcher: str = "random",
    seed: int = 0,
    fixed: tuple[str, ...] = (),
) -> Search:
    """A search, checked as far as that goes without a cluster. ``fixed`` settings are not searched.

    Raises ValueError for a request that can't be met.
    """
    if searcher not in SEARCHERS:
        raise ConfigError(f"--search {searcher!r}: should be {' or '.join(SEARCHERS)}")
    if searcher == "optuna" and config.scheduler == "pbt":
        raise ConfigError("--search optuna has no use with --scheduler pbt, which changes settings by itself")
    experiment = train_driver.with_absolute_locations(experiment)
    check_files(experiment.data.uri, load_manifest(experiment.data.uri))
    if not config.objective:
        objective, mode = OBJECTIVES[experiment.task]
        config = SearchConfig.model_validate(config.model_dump() | {"objective": objective, "mode": mode})
    length: dict[str, int | str] = {
        "train.drawings": config.drawings,
        "train.checkpoint_every_drawings": 0,
        "train.log_every_drawings": max(1, config.drawings // 20),
    }
    if config.objective.startswith(_JUDGED) and not experiment.gan.judge:
        length |= {"gan.judge": evaluator.evaluator_uri(experiment)}
    base = build(overlay(experiment.model_dump(exclude_unset=True), length))
    return Search(
        uri=storage.join(experiment.storage, experiment.run),
        base=base,
        config=config,
        space=checked_space(config, base, fixed),
        trials=trials,
        scheduler=config.scheduler,
        searcher=searcher,
        seed=seed,
    )


def tune(search: Search, options: Options) -> SearchRecord:
    """Search, or go on with a search where it was left.

    Raises ValueError for a request that can't be met, StorageError, and WorkFailedError where no trial came to
    anything.
    """
    if search.scheduler == "pbt":
        check_population(search.space, search.trials, options.workers_per_trial)
    _refuse_another(search.uri, _request(search), options.resume)
    with held(search.uri, train_driver.say) as (_, is_lost):
        return _search(search, options, is_lost)


def _search(search: Search, options: Options, is_lost: threading.Event) -> SearchRecord:
    base, cores = search.base, os.cpu_count() or 1
    most = options.concurrent or search.trials
    # Without a dashboard Ray leaves the placement groups of stopped trials behind.
    need = Need(min(most * options.workers_per_trial, cores), base.scaling.cpus_per_worker, 0.0)
    if connect(need, local=options.local, debug=options.debug, dashboard=True):
        most = min(most, max(1, int(cores / need.cpus_per_worker)))  # our own Ray counts CPUs that are none
    if base.gan.judge and base.gan.judge == evaluator.evaluator_uri(base):
        evaluator.train_if_missing(
            base.gan.judge, base, workers=_evaluator_workers(base), quiet=options.quiet, debug=options.debug
        )
    manifest = load_manifest(base.data.uri)
    plans = [training_plan(base, manifest), held_out_plan(base, manifest)]
    memory = RowGroupsInMemory(plans) if options.workers_per_trial == 1 and fits_in_memory(plans) else None
    resources = TrialResources(
        cpus=base.scaling.cpus_per_worker,
        gpus=_gpus_per_trial(base, options),
        workers=options.workers_per_trial,
        data_cpus=DATA_CPUS if memory is None else 0.0,
    )
    concurrent = _places(resources, most)

    def run(part: Search) -> SearchRecord:
        ledger = Ledger(part.uri, _request(part))
        follower = Follower(ledger, concurrent, resources, is_lost, quiet=options.quiet)
        try:
            run_search(part, ledger.record, follower, resources, concurrent, memory)
        finally:
            follower.close()
            ledger.close()
        return ledger.record

    record = run(search)
    if record.best is None:
        reasons = "; ".join(sorted({trial.reason for trial in record.trials.values() if trial.reason}))
        raise WorkFailedError(
            f"search {base.run}: no trial came to anything{': ' if reasons else ''}{reasons}"
        )
    if not record.is_over:
        train_driver.say("stopped; the same command goes on")
    elif (again := confirmation(search, record)) is not None:
        earlier = read_search(again.uri)
        if earlier is not None and earlier.request.confirms != list(again.confirms):
            storage.delete_prefix(again.uri)  # of fewer trials, whose best were others
        if not options.quiet:
            train_driver.say(f"the best, {len(again.given)} times with seeds that the search has not used:")
        record.confirmed = confirmed_by(run(again))
    return record


def confirmation(search: Search, record: SearchRecord) -> Search | None:
    """The search that trains another's best again with fresh seeds; None where it asks for none, or has no trial
    that was trained to its end, or one whose settings changed on the way."""
    config = search.config
    best = [row for row in record.by_objective() if row[0].status == "finished"][: config.confirm]
    if not best or search.scheduler == "pbt":
        return None
    used = max([search.base.seed, *(int(result.settings.get("seed", 0)) for _, result in best)])
    trials = [(trial, seed) for trial, _ in best for seed in range(used + 1, used + 1 + config.confirm_seeds)]
    return replace(
        search,
        uri=storage.join(search.uri, CONFIRM),
        trials=len(trials),
        scheduler="none",
        searcher="random",
        given=tuple(trial.settings | {"seed": seed} for trial, seed in trials),
        confirms=tuple(trial.number for trial, _ in trials),
    )


def _evaluator_workers(base: Experiment) -> int:
    """Two workers for the evaluator, where the cluster has the CPUs."""
    cpus = ray.cluster_resources().get("CPU", 0.0) - DATA_CPUS
    return max(1, min(2, int(cpus / base.scaling.cpus_per_worker)))


def _places(resources: TrialResources, most: int) -> int:
    """How many trials run at once. Raises NotEnoughResourcesError for none."""
    have = ray.cluster_resources()
    if places := resources.concurrent(have, most):
        return places
    raise NotEnoughResourcesError(
        f"no trial fits: one takes {resources}, and the cluster has {have.get('CPU', 0):g} CPUs and "
        f"{have.get('GPU', 0):g} GPUs"
    )


def print_plan(search: Search, options: Options, *, as_json: bool) -> None:
    """`tune --dry-run`: every point that a random search has, and what the search would take."""
    points = search.points() if search.searcher == "random" else []
    takes = {
        "trials": search.trials,
        "drawings_of_a_trial": search.config.drawings,
        "reports_at": report_at(search.config, search.scheduler),
        "cpus_per_trial": search.base.scaling.cpus_per_worker * options.workers_per_trial,
        "gpus_per_trial": options.gpus_per_trial,
        "drawings_at_most": search.trials * search.config.drawings,
    }
    if as_json:
        print(orjson.dumps({"points": points} | takes).decode())
        return
    for number, point in enumerate(points):
        print(f"{number:5}  " + "  ".join(f"{key}={shown(value)}" for key, value in point.items()))
    if not points:
        print("optuna chooses each point by what was found before; axes:")
        for axis in search.space.axes:
            print(f"  {axis.key} = {axis.draw}")
    for name, value in takes.items():
        print(f"{name:22}{'measured, where there are GPUs' if value is None else value}")


def print_found(record: SearchRecord, *, as_json: bool) -> None:
    """Write what the search found into its folder, and say it."""
    report.write_report(record, record.uri)
    report.print_leaderboard(record, as_json=as_json)


def _request(search: Search) -> Request:
    return Request(
        experiment=search.base.model_dump(mode="json", exclude_unset=True),
        search=search.config.model_dump(mode="json"),
        trials=search.trials,
        scheduler=search.scheduler,
        searcher=search.searcher,
        seed=search.seed,
        confirms=list(search.confirms),
    )


def _refuse_another(uri: str, request: Request, resume: bool) -> None:
    """Raise ConfigError where another search has the name; more trials than before are the same search."""
    found = read_search(uri)
    if found is None:
        if resume:
            raise ConfigError(f"--resume: there is no search at {storage.public(uri)}")
        return
    had, asked = asdict(found.request), asdict(request)
    differing = [name for name in had if name != "trials" and had[name] != asked[name]]
    if differing:
        raise ConfigError(
            f"{storage.public(uri)} holds another search, of another {' and '.join(differing)}; give --run another name"
        )


def _gpus_per_trial(base: Experiment, options: Options) -> float:
    """The share of a GPU that a trial's worker is given; 0 in a cluster without GPUs."""
    if options.gpus_per_trial is not None:
        return options.gpus_per_trial
    if not ray.cluster_resources().get("GPU"):
        return 0.0
    if options.workers_per_trial > 1:
        return 1.0
    return ray.get(measured_gpu_share.remote(base.model_dump(mode="json")))


if __name__ == "__main__":
    from doodle_dist.cli import tune_main

    tune_main()
