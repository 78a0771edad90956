"""`doodle-dist tune` and `python -m doodle_dist.tune`: parse, build, search, say what was found."""

import os
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import orjson
import ray
import torch

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import ConfigError, build, overlay
from doodle_dist.config.search import SearchConfig
from doodle_dist.config.search_check import check_overrides, check_points, checked_space
from doodle_dist.data import locations, storage
from doodle_dist.data.manifest import check_files, load_manifest
from doodle_dist.data.retry import TRAINING_PATIENCE_S, patience
from doodle_dist.data.storage_errors import under_way
from doodle_dist.data.stream_plan import stream_categories
from doodle_dist.data.stream_rows import RowGroupsInMemory
from doodle_dist.errors import WorkFailedError
from doodle_dist.log import say
from doodle_dist.ray_cluster import (
    DATA_CPUS,
    Need,
    NotEnoughResourcesError,
    check_resources,
    connect,
    nodes_of_cluster,
)
from doodle_dist.run.snapshot import load_snapshot
from doodle_dist.training.begun import refuse_missing_runs
from doodle_dist.training.gan_judge import Judge
from doodle_dist.training.lease import Lease, LeaseLostError, check, held, holder
from doodle_dist.training.plan import held_out_plan, training_plan, with_absolute_locations
from doodle_dist.tuning import evaluator, report
from doodle_dist.tuning.follow import Follower
from doodle_dist.tuning.found import failures
from doodle_dist.tuning.ledger import (
    CONFIRM,
    Ledger,
    Request,
    SearchRecord,
    TrialRecord,
    confirmed_by,
    read_search,
)
from doodle_dist.tuning.naming import point_line
from doodle_dist.tuning.objectives import JUDGED, with_objective
from doodle_dist.tuning.population import check_population
from doodle_dist.tuning.resources import (
    TrialResources,
    fits_in_memory,
    measured_gpu_share,
    places,
)
from doodle_dist.tuning.same_search import refuse_another
from doodle_dist.tuning.schedulers import report_at
from doodle_dist.tuning.tuner import Search, run_search

SEARCHERS = ("random", "optuna")
_CHECKED_POINTS = 2_000  # built before a search starts, each in a tenth of a millisecond


@dataclass(frozen=True)
class Options:
    """How a search runs; how many workers a trial has is its experiment's ``scaling``. ``gpus_per_trial`` is the
    share of a GPU for each of them, None: measured, where the cluster has GPUs; ``concurrent`` 0: as many trials as
    fit. ``wait_s``: how long an autoscaler is waited for."""

    concurrent: int = 0
    gpus_per_trial: float | None = None
    resume: bool = False
    local: bool = False
    wait_s: float = 0.0
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
    check_overrides(fixed)
    experiment = with_absolute_locations(experiment)
    manifest = load_manifest(experiment.data.uri)
    check_files(experiment.data.uri, manifest)
    training_plan(experiment, manifest).order(0)  # for its ValueError alone, as a run's driver does
    if experiment.gan.judge and experiment.task != "gan":
        raise ConfigError(
            f"gan.judge (--judge) {locations.public(experiment.gan.judge)}: a run judges GANs alone; "
            f"a {experiment.task} is judged by its own figures"
        )
    config = with_objective(config, experiment, manifest)
    ours: dict[str, object] = {"train.drawings": config.drawings}
    if config.objective.startswith(JUDGED):
        categories = stream_categories(manifest, experiment.data.categories)
        if len(categories) < 2:
            raise ConfigError(
                f"{config.objective} is measured by a classifier of the dataset's categories, which learns nothing of "
                "a single one: search on two or more"
            )
        if experiment.gan.judge:
            shape = (manifest.side, manifest.channels)
            Judge(load_snapshot(experiment.gan.judge), categories, shape, torch.device("cpu"))
        else:
            ours["gan.judge"] = evaluator.evaluator_uri(experiment)
    uri = locations.join(experiment.storage, experiment.run)
    refuse_missing_runs(experiment, uri)
    base = build(overlay(experiment.model_dump(exclude_unset=True), ours))
    space = checked_space(config, base, fixed)
    if searcher == "optuna" and space.grid:
        raise ConfigError(
            f"search: {space.grid[0].key} = {space.grid[0].draw}: a grid has no use with --search optuna, which tries "
            "most what was good before; --search random goes through it, and choice(…) leaves the choice to optuna"
        )
    is_finite = searcher == "random" and space.size is not None
    if is_finite and (points := len(space.points(base, seed, trials))) < trials:
        say(f"the grid has {points} points: as many trials, not {trials}")
        trials = points
    search = Search(
        uri=uri,
        base=base,
        config=config,
        space=space,
        trials=trials,
        searcher=searcher,
        seed=seed,
        fixed=fixed,
    )
    if searcher == "random":
        check_points(search.points()[:_CHECKED_POINTS], base)
    return search


def tune(search: Search, options: Options) -> SearchRecord:
    """Search, or go on with a search where it was left; ``was_stopped`` says that it was told to end before it was,
    ``cut_off`` that trials were interrupted by a store, a node or the cluster.

    Raises ValueError for a request that can't be met, StorageError where a store is away from the start, and
    WorkFailedError where one fails on the way, or another driver has taken the search over.
    """
    _refuse(search, options)
    with held(search.uri, say) as (mine, is_lost):
        try:
            with under_way():
                return _search(search, options, mine, is_lost)
        except LeaseLostError:
            raise WorkFailedError(
                f"search {search.base.run} was taken over by {holder(search.uri)}; this one writes no more"
            ) from None


def _refuse(search: Search, options: Options) -> None:
    """Raise ConfigError for what is seen to be wrong before anything starts."""
    if search.config.scheduler == "pbt":
        check_population(search.space, search.trials, search.base.scaling.workers)
    refuse_another(search.uri, _request(search), options.resume)


def _search(search: Search, options: Options, mine: Lease, is_lost: threading.Event) -> SearchRecord:
    base, cores = search.base, os.cpu_count() or 1
    workers = base.scaling.workers
    most = options.concurrent or search.trials
    # Without a dashboard Ray leaves the placement groups of stopped trials behind.
    need = Need(max(workers, min(most * workers, cores)), base.scaling.cpus_per_worker, 0.0)
    is_own = connect(need, local=options.local, debug=options.debug, dashboard=True)
    if is_own:
        most = min(most, max(1, int(cores / need.cpus_per_worker)))  # our own Ray counts CPUs that are none
    if options.wait_s and not is_own:
        _wait_for_nodes(base, min(options.concurrent or 1, search.trials), options)
    manifest = load_manifest(base.data.uri)
    plans = [training_plan(base, manifest), held_out_plan(base, manifest)]
    is_shared = workers == 1 and fits_in_memory(plans)
    resources = TrialResources(
        cpus=base.scaling.cpus_per_worker,
        gpus=options.gpus_per_trial or 0.0,
        workers=workers,
        data_cpus=0.0 if is_shared else DATA_CPUS,
    )
    places(resources, nodes_of_cluster(), most)  # for its error alone: it takes half an hour to train a judge
    if evaluator.is_judged_by_it(base):
        judge_workers, judge_gpus = _evaluator_workers(base)
        evaluator.train_if_missing(
            base.gan.judge,
            base,
            workers=judge_workers,
            gpus=judge_gpus,
            wait_s=options.wait_s,
            quiet=options.quiet,
            debug=options.debug,
        )
    # Put once: Ray Tune keeps what trials are given until the driver ends, and would put it for each part anew.
    memory = ray.put(RowGroupsInMemory(plans)) if is_shared else None
    resources = replace(resources, gpus=_gpus_per_trial(search, options))
    concurrent = places(resources, nodes_of_cluster(), most)

    def run(part: Search) -> SearchRecord:
        ledger = Ledger(part.uri, _request(part), mine, say)
        follower = Follower(ledger, concurrent, resources, is_lost, quiet=options.quiet)
        try:
            run_search(part, ledger.record, follower, resources, concurrent, memory, mine)
        finally:
            follower.close()
            ledger.close()
        return ledger.record

    record = run(search)
    record.cut_off = record.interruptions
    record.was_stopped = not record.is_over and not record.cut_off
    if record.is_over:
        _confirm(search, record, run, mine, quiet=options.quiet)
    return record


def _confirm(
    search: Search,
    record: SearchRecord,
    run: Callable[[Search], SearchRecord],
    mine: Lease,
    *,
    quiet: bool,
) -> None:
    """Train the best of a search that is over again, where it asks for that, and enter what came of it."""
    again = confirmation(search, record)
    if again is None:
        return
    earlier = read_search(again.uri)
    if earlier is not None and earlier.request.confirms != list(again.confirms):
        check(mine)
        storage.delete_prefix(again.uri)  # of fewer trials, whose best were others
    if not quiet:
        say(f"the best, {len(again.given)} times with seeds that the search has not used:")
    confirmed = run(again)
    record.confirmed = confirmed_by(confirmed)
    record.cut_off = confirmed.interruptions
    record.was_stopped = not confirmed.is_over and not record.cut_off


def confirmation(search: Search, record: SearchRecord) -> Search | None:
    """The search that trains another's best again with fresh seeds; None where it asks for none, or has no trial
    that was trained to its end, or one whose settings changed on the way."""
    config = search.config
    finished: dict[tuple[object, ...], TrialRecord] = {}  # trials that differ by their seed only count once
    for trial, _ in record.by_objective():
        if trial.status == "finished":
            point = tuple(sorted((key, value) for key, value in trial.settings.items() if key != "seed"))
            finished.setdefault(point, trial)
    best = list(finished.values())[: config.confirm]
    if not best or config.scheduler == "pbt":
        return None
    seeds = [int(trial.settings.get("seed", search.base.seed)) for trial in record.trials.values()]
    used = max([search.base.seed, *seeds])
    trials = [(trial, seed) for trial in best for seed in range(used + 1, used + 1 + config.confirm_seeds)]
    return replace(
        search,
        uri=locations.join(search.uri, CONFIRM),
        config=config.model_copy(update={"scheduler": "none"}),
        trials=len(trials),
        searcher="random",
        given=tuple(trial.settings | {"seed": seed} for trial, seed in trials),
        confirms=tuple(trial.number for trial, _ in trials),
    )


def _wait_for_nodes(base: Experiment, trials: int, options: Options) -> None:
    """Let an autoscaler make room for so many trials at once. Fewer are no error here."""
    workers = trials * base.scaling.workers
    need = Need(workers, base.scaling.cpus_per_worker, options.gpus_per_trial or 0.0)
    with suppress(NotEnoughResourcesError):  # as many trials run as fit, and where none does, that is said
        check_resources(need, options.wait_s)
    if options.gpus_per_trial is None and not ray.cluster_resources().get("GPU"):
        say(
            "the cluster has no GPU: trials run on CPUs; --gpus-per-trial asks an autoscaler for nodes that have some"
        )


def _evaluator_workers(base: Experiment) -> tuple[int, float]:
    """Workers for the evaluator, and GPUs for each: one with a GPU, else two, where the nodes have room for them."""
    nodes, cpus = nodes_of_cluster(), base.scaling.cpus_per_worker
    if TrialResources(cpus, gpus=1.0, workers=1, data_cpus=0.0).concurrent(nodes, most=1):
        return 1, 1.0
    two = TrialResources(cpus, gpus=0.0, workers=2, data_cpus=DATA_CPUS)
    return 2 if two.concurrent(nodes, most=1) else 1, 0.0


def print_plan(search: Search, options: Options, *, as_json: bool) -> None:
    """`tune --dry-run`: every point that a random search has, and what the search would take. Raises ConfigError."""
    _refuse(search, options)
    points = search.points() if search.searcher == "random" else []
    config = search.config
    confirmed = 0 if config.scheduler == "pbt" else min(config.confirm, search.trials) * config.confirm_seeds
    workers, gpus = search.base.scaling.workers, options.gpus_per_trial
    takes = {
        "trials": search.trials,
        "drawings_of_a_trial": search.config.drawings,
        "reports_at": report_at(search.config),
        "cpus_per_trial": search.base.scaling.cpus_per_worker * workers,
        "gpus_per_trial": None if gpus is None else gpus * workers,
        "drawings_at_most": (search.trials + confirmed) * search.config.drawings,
    }
    if as_json:
        print(orjson.dumps({"points": points} | takes).decode())
        return
    axes = [axis.key for axis in search.space.axes]
    for number, point in enumerate(points):
        print(point_line(number, point, axes))
    if not points:
        print("optuna chooses each point by what was found before; axes:")
        for axis in search.space.axes:
            print(f"  {axis.key} = {axis.draw}")
    if evaluator.is_judged_by_it(search.base):
        takes["judge"] = f"{locations.public(search.base.gan.judge)}, trained first where it is not there yet"
    takes |= {"reports_at": ", ".join(f"{seen:,}" for seen in report_at(search.config))}
    if gpus is None:
        takes |= {"gpus_per_trial": f"{'measured' if workers == 1 else workers}, where there are GPUs"}
    for name, value in takes.items():
        print(f"{name:22}{f'{value:,}' if isinstance(value, int) else value}")


def print_found(record: SearchRecord, *, as_json: bool) -> None:
    """Write what the search found into its folder, and say it.

    Raises WorkFailedError where trials were cut off, none came to anything, or the store is away.
    """
    with under_way(), patience(TRAINING_PATIENCE_S):
        report.write_report(record, record.uri)
    report.print_leaderboard(record, as_json=as_json)
    if record.was_stopped:
        say("stopped before its end; the same command goes on")
    name = locations.basename(record.uri)
    if record.cut_off:
        raise WorkFailedError(f"search {name}: {record.cut_off}; the same command goes on with them")
    if record.is_over and record.best is None:
        commonest = Counter(failure.reason for failure in failures(record)).most_common(1)
        why = "".join(f"; {count} of them: {reason}" for reason, count in commonest)
        raise WorkFailedError(f"search {name}: none of its {len(record.trials)} trials came to anything{why}")


def _request(search: Search) -> Request:
    return Request(
        experiment=search.base.model_dump(mode="json", exclude_unset=True),
        search=search.config.model_dump(mode="json"),
        trials=search.trials,
        scheduler=search.config.scheduler,
        searcher=search.searcher,
        seed=search.seed,
        confirms=list(search.confirms),
        fixed=sorted(search.fixed),
    )


_SAY_AFTER_S = 120.0


def _gpus_per_trial(search: Search, options: Options) -> float:
    """The share of a GPU that a trial's worker is given; 0 in a cluster without GPUs."""
    if options.gpus_per_trial is not None:
        return options.gpus_per_trial
    if not ray.cluster_resources().get("GPU"):
        return 0.0
    if search.base.scaling.workers > 1:
        return 1.0
    asked = measured_gpu_share.remote(search.largest().model_dump(mode="json"))
    if not ray.wait([asked], timeout=_SAY_AFTER_S)[0]:
        say("waiting for a whole GPU, to measure what a trial takes of it; --gpus-per-trial says so without")
    return float(ray.get(asked))


if __name__ == "__main__":
    from doodle_dist.cli import tune_main

    tune_main()
