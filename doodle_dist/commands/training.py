"""`doodle-dist train` and `tune`."""

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from doodle_dist.collector import at_rest
from doodle_dist.commands.options import (
    Cpus,
    Data,
    Gpus,
    Json,
    Local,
    Overrides,
    Preset,
    Settings,
    Storage,
    Wait,
    Workers,
    chosen,
)

app = typer.Typer(rich_markup_mode=None)


@app.command()
def train(
    preset: Preset = "doodle-gan-small",
    overrides: Overrides = None,
    workers: Workers = "",
    gpus: Gpus = None,
    cpus: Cpus = None,
    run: Annotated[str, typer.Option(help="the run's name; the same name goes on with the run")] = "",
    storage: Storage = "",
    data: Data = "",
    local: Local = False,
    wait: Wait = 0.0,
    as_json: Json = False,
) -> None:
    """Train a preset, or go on with a run of the same name."""
    from doodle_dist.config.load import load_run, parse_workers

    given = parse_workers(workers) | chosen(
        {
            "scaling.gpus_per_worker": gpus,
            "scaling.cpus_per_worker": cpus,
            "run": run,
            "storage": storage,
            "data.uri": data,
        }
    )
    experiment = load_run(preset, overrides or (), given)

    from doodle_dist import log

    with at_rest():
        from doodle_dist import train as driver

    log.bind(run=experiment.run)
    result = driver.train(experiment, local=local, wait_s=wait, quiet=as_json, debug=Settings.debug)
    driver.print_result(result, as_json=as_json)


@app.command()
def tune(
    preset: Preset = "doodle-gan-small",
    trials: Annotated[int, typer.Option(min=1, help="how many settings to try")] = 64,
    scheduler: Annotated[
        str,
        typer.Option(
            help="asha: stop what is bad early; pbt: change settings on the way; none (default: the space's)"
        ),
    ] = "",
    search: Annotated[str, typer.Option(help="where to look next: random, or optuna (TPE)")] = "random",
    space: Annotated[
        str,
        typer.Option(
            help="gan, classifier, pbt, pbt-classifier or a .toml file (default: the preset's, or its task's)"
        ),
    ] = "",
    axes: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--search-space",
            metavar="KEY=DRAW",
            help="another axis, or another draw of one: optim.critic.lr=loguniform(1e-5,1e-2)",
        ),
    ] = None,
    overrides: Overrides = None,
    drawings: Annotated[Optional[int], typer.Option(min=2, help="length of a whole trial")] = None,  # noqa: UP045
    judge: Annotated[
        str, typer.Option(help="GANs: the classifier run that judges (default: one is trained first)")
    ] = "",
    concurrent: Annotated[int, typer.Option(min=0, help="trials at once (default: as many as fit)")] = 0,
    workers_per_trial: Annotated[int, typer.Option(min=1, help="more than 1: through Ray Train")] = 1,
    gpus_per_trial: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            min=0,
            max=1,
            help="share of a GPU for each worker (default: by the memory that it takes; of several workers 1)",
        ),
    ] = None,
    cpus: Cpus = None,
    seed: Annotated[int, typer.Option(min=0, help="of the points; a trial's own is the preset's")] = 0,
    run: Annotated[str, typer.Option(help="the search's name; the same name goes on with the search")] = "",
    storage: Storage = "",
    data: Data = "",
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with a search; an error where there is none")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the points and what they would take; start nothing")
    ] = False,
    local: Local = False,
    wait: Wait = 0.0,
    as_json: Json = False,
) -> None:
    """Search for better settings.

    Of learning rates, noise, critic ratio, or whatever axes you name.

    Trials are judged by a figure of quality on held-out drawings: a GAN by the Fréchet distance of its samples
    in a classifier's features, a classifier by its accuracy. Never by a GAN's loss: each side's loss is measured
    against the other, falls when the other is weak, and says nothing of the drawings.

    The same command goes on with a search that was cut off; trials that were over are not run again. One that was
    told to stop before its end says what it found, and exits with 130; one some of whose trials a store, a node or the
    cluster interrupted says which, and exits with 1.
    """
    from doodle_dist.config.load import flattened, load_run, parse_override
    from doodle_dist.config.search import load_search

    name = Path(preset).stem
    given = {
        "run": run or f"{name}-{'pbt' if scheduler == 'pbt' else 'search'}",
        "storage": storage,
        "data.uri": data,
        "gan.judge": judge,
        "scaling.cpus_per_worker": cpus,
        "scaling.workers": workers_per_trial,
    }
    experiment = load_run(preset, overrides or (), chosen(given))
    config = load_search(
        preset, experiment, space=space, scheduler=scheduler, extra=axes or (), drawings=drawings
    )

    from doodle_dist import log

    with at_rest():
        from doodle_dist import tune as driver

    log.bind(run=experiment.run)
    fixed = tuple(flattened(dict(map(parse_override, overrides or ()))))
    plan = driver.plan_search(experiment, config, trials=trials, searcher=search, seed=seed, fixed=fixed)
    options = driver.Options(
        concurrent=concurrent,
        gpus_per_trial=gpus_per_trial,
        resume=resume,
        local=local,
        wait_s=wait,
        quiet=as_json,
        debug=Settings.debug,
    )
    if dry_run:
        driver.print_plan(plan, options, as_json=as_json)
        return
    record = driver.tune(plan, options)
    driver.print_found(record, as_json=as_json)
    if record.was_stopped:
        sys.exit(130)  # and not typer.Exit, which is Ctrl-C's: it has been said already
