"""The command line. Heavy imports (ray, torch) happen only inside commands."""

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Optional

import typer
from typer.exceptions import TyperException

app = typer.Typer(
    name="doodle-dist",
    help="Train doodle generators and classifiers on Quick, Draw!, from a laptop to a Ray cluster.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(no_args_is_help=True, help="Fetch, make, prepare and look at drawings.")
config_app = typer.Typer(no_args_is_help=True, help="List, show and check presets.")
bench_app = typer.Typer(
    no_args_is_help=True, help="Measure this machine; the README's figures come from here."
)
runs_app = typer.Typer(no_args_is_help=True, help="Look at runs, on a disk or in an object store.")
app.add_typer(data_app, name="data")
app.add_typer(config_app, name="config")
app.add_typer(bench_app, name="bench")
app.add_typer(runs_app, name="runs")

Preset = Annotated[str, typer.Argument(help="a preset's name, or a .toml file")]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045  typer reads the annotation
    typer.Option("--set", metavar="KEY=VALUE", help="override a setting; may be given many times"),
]
Json = Annotated[bool, typer.Option("--json", help="print the answer as JSON")]
GanRun = Annotated[str, typer.Argument(help="a GAN run's folder or URI, or one of its checkpoints")]
Checkpoint = Annotated[str, typer.Option(help="best or latest")]
Truncation = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(help="largest |component| of a latent: tidier and less varied drawings (default: none)"),
]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks and Ray's own log")] = False,
) -> None:
    _Settings.debug = debug
    if os.environ.get("DOODLE_LOG"):
        from doodle_dist import log

        if log.wants_json():
            log.use_json()


class _Settings:
    debug = False


# --- training -------------------------------------------------------------------------------------------


@app.command()
def train(
    preset: Preset = "doodle-gan-small",
    overrides: Overrides = None,
    workers: Annotated[
        str,
        typer.Option(
            metavar="N|MIN:MAX", help="Ray Train workers (DDP ranks); MIN:MAX grows with the cluster"
        ),
    ] = "",
    gpus: Annotated[Optional[float], typer.Option(help="GPUs per worker")] = None,  # noqa: UP045
    cpus: Annotated[Optional[float], typer.Option(help="CPUs per worker")] = None,  # noqa: UP045
    run: Annotated[str, typer.Option(help="the run's name; the same name goes on with the run")] = "",
    storage: Annotated[str, typer.Option(help="folder or URI for runs (default: runs)")] = "",
    data: Annotated[str, typer.Option(help="prepared dataset (default: $DOODLE_DATA)")] = "",
    local: Annotated[bool, typer.Option("--local", help="a Ray of our own, on this machine")] = False,
    wait: Annotated[float, typer.Option(help="seconds to wait for an autoscaler")] = 0.0,
    as_json: Json = False,
) -> None:
    """Train a preset, or go on with a run of the same name."""
    from doodle_dist.config.load import load_run, parse_workers

    given = parse_workers(workers) | _given(
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
    from doodle_dist import train as driver

    log.bind(run=experiment.run)
    result = driver.train(experiment, local=local, wait_s=wait, quiet=as_json, debug=_Settings.debug)
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
        typer.Option(min=0, max=1, help="share of a GPU (default: by the memory that a trial takes)"),
    ] = None,
    cpus: Annotated[Optional[float], typer.Option(help="CPUs per worker")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option(min=0, help="of the points; a trial's own is the preset's")] = 0,
    run: Annotated[str, typer.Option(help="the search's name; the same name goes on with the search")] = "",
    storage: Annotated[str, typer.Option(help="folder or URI for runs (default: runs)")] = "",
    data: Annotated[str, typer.Option(help="prepared dataset (default: $DOODLE_DATA)")] = "",
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with a search; an error where there is none")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the points and what they would take; start nothing")
    ] = False,
    local: Annotated[bool, typer.Option("--local", help="a Ray of our own, on this machine")] = False,
    as_json: Json = False,
) -> None:
    """Search for better settings: learning rates, noise, critic ratio, or whatever axes you name.

    Trials are judged by a figure of quality on held-out drawings: a GAN by the Fréchet distance of its samples
    in a classifier's features, a classifier by its accuracy. Never by a GAN's loss: each side's loss is measured
    against the other, falls when the other is weak, and says nothing of the drawings.

    The same command goes on with a search that was cut off; trials that were over are not run again. One that was
    told to stop before its end says what it found, and exits with 130.
    """
    from doodle_dist.config.load import load_run, parse_override
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
    experiment = load_run(preset, overrides or (), _given(given))
    config = load_search(
        preset, experiment, space=space, scheduler=scheduler, extra=axes or (), drawings=drawings
    )

    from doodle_dist import tune as driver

    fixed = tuple(parse_override(text)[0] for text in overrides or ())
    plan = driver.plan_search(experiment, config, trials=trials, searcher=search, seed=seed, fixed=fixed)
    options = driver.Options(
        concurrent=concurrent,
        workers_per_trial=workers_per_trial,
        gpus_per_trial=gpus_per_trial,
        resume=resume,
        local=local,
        quiet=as_json,
        debug=_Settings.debug,
    )
    if dry_run:
        driver.print_plan(plan, options, as_json=as_json)
        return
    record = driver.tune(plan, options)
    driver.print_found(record, as_json=as_json)
    if record.was_stopped:
        raise typer.Exit(130)


@app.command()
def evaluate(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="runs' folders or URIs, or checkpoints of theirs")
    ],
    evaluator: Annotated[
        str, typer.Option(help="GANs: the classifier run in whose features they are compared")
    ] = "",
    judge: Annotated[
        str, typer.Option(help="GANs: another classifier run, to read the samples' categories")
    ] = "",
    data: Annotated[
        str, typer.Option(help="prepared dataset (default: the one the run was trained on)")
    ] = "",
    split: Annotated[
        str, typer.Option(help="held-out drawings: val or test (classifiers: or train)")
    ] = "test",
    samples: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="GANs: samples, and as many held-out drawings (default: as many as fit)"),
    ] = None,
    reference: Annotated[int, typer.Option(min=1, help="GANs: training drawings at most")] = 200_000,
    per_category: Annotated[
        bool, typer.Option("--per-category/--no-per-category", help="GANs: Fréchet distances by category")
    ] = True,
    cas: Annotated[
        bool, typer.Option("--cas", help="GANs: also train classifiers on samples and on real drawings")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="GANs: of the samples")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Ray tasks; 1: no Ray")] = 1,
    checkpoint: Annotated[str, typer.Option(help="best or latest")] = "best",
    local: Annotated[bool, typer.Option("--local", help="a Ray of our own, on this machine")] = False,
    as_json: Json = False,
) -> None:
    """Judge a run on held-out drawings, or compare GAN runs; evaluation.json in its folder keeps the figures.

    Several GAN runs and no --evaluator: compare what was found before.
    """
    from doodle_dist.evaluation.evaluate import evaluate_runs, print_evaluations
    from doodle_dist.evaluation.evaluate_gan import Request

    request = Request(
        evaluator=evaluator,
        judge=judge,
        split=split,
        samples=samples or 0,
        reference=reference,
        seed=seed,
        per_category=per_category,
        cas=cas,
        workers=workers,
        local=local,
    )
    print_evaluations(evaluate_runs(runs, request, data=data, which=checkpoint), as_json=as_json)


@app.command()
def sample(
    run: GanRun,
    categories: Annotated[str, typer.Option(help="comma list (default: all)")] = "",
    count: Annotated[int, typer.Option("-n", help="drawings per category")] = 8,
    seed: Annotated[int, typer.Option(help="the same seed gives the same pixels on one device")] = 0,
    truncation: Truncation = None,
    output: Annotated[
        Path, typer.Option("-o", help="grid.png, array.npy, or a folder for a PNG per drawing")
    ] = Path("samples.png"),
    checkpoint: Checkpoint = "best",
    neighbours: Annotated[
        str, typer.Option(help="a classifier run: show the nearest training drawing under each sample")
    ] = "",
    data: Annotated[str, typer.Option(help="training drawings for --neighbours (default: the run's)")] = "",
) -> None:
    """Draw with a trained generator: a grid of a row per category, or any number of drawings as files."""
    from doodle_dist.evaluation.sample import write_samples

    path = write_samples(
        run,
        categories=_names(categories),
        count=count,
        seed=seed,
        truncation=truncation,
        output=output,
        which=checkpoint,
        judge=neighbours,
        data=data,
    )
    print(path)


@app.command()
def interpolate(
    run: GanRun,
    categories: Annotated[
        str, typer.Option(help="comma list: the way from one to the next; one: between latents in it")
    ] = "",
    rows: Annotated[int, typer.Option("-n", help="ways to show (in each category)")] = 4,
    steps: Annotated[int, typer.Option(help="pictures of a way, both ends counted")] = 9,
    seed: Annotated[int, typer.Option()] = 0,
    truncation: Truncation = None,
    output: Annotated[Path, typer.Option("-o", help="strips.png or moving.gif")] = Path("interpolation.png"),
    checkpoint: Checkpoint = "best",
) -> None:
    """Draw the way from latent to latent (a great circle), or from category to category."""
    from doodle_dist.evaluation.interpolate import write_interpolation

    path = write_interpolation(
        run,
        categories=_names(categories),
        rows=rows,
        steps=steps,
        seed=seed,
        truncation=truncation,
        output=output,
        which=checkpoint,
    )
    print(path)


@app.command()
def classify(
    run: Annotated[str, typer.Argument(help="a classifier run's folder or URI, or one of its checkpoints")],
    files: Annotated[
        list[str], typer.Argument(help="ndjson drawings, or PNG or JPEG pictures; files or URIs")
    ],
    top: Annotated[int, typer.Option(min=1, help="so many categories for each")] = 3,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="pictures are white on black and framed already: only resize them")
    ] = False,
    seen: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="also write a PNG of the pictures as the classifier sees them"),
    ] = None,
    checkpoint: Checkpoint = "best",
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object a line")] = False,
) -> None:
    """Read drawings or pictures with a trained classifier."""
    from doodle_dist.evaluation.classify import classify_files

    classify_files(run, files, top=top, as_is=as_is, seen=seen, which=checkpoint, as_json=as_json)


@app.command()
def augment(
    preset: Preset = "doodle-gan-small",
    classifier: Annotated[str, typer.Option(help="preset of the classifiers")] = "classifier-small",
    data: Annotated[str, typer.Option(help="prepared dataset (default: $DOODLE_DATA)")] = "",
    k: Annotated[
        str, typer.Option("--k", help="comma list: real drawings per category, or all")
    ] = "10,30,100,300,all",
    seeds: Annotated[int, typer.Option(help="repetitions, each with real drawings of its own")] = 3,
    gan_drawings: Annotated[int, typer.Option(min=1, help="drawings that each GAN sees")] = 20_000,
    classifier_drawings: Annotated[
        int, typer.Option(min=1, help="drawings that each classifier sees")
    ] = 20_000,
    generated_per_category: Annotated[int, typer.Option(help="drawings that each GAN makes")] = 1000,
    share: Annotated[float, typer.Option(help="of each batch that generated drawings replace")] = 0.5,
    at_most: Annotated[int, typer.Option(help="real drawings of a category, also for all")] = 5000,
    out: Annotated[
        str, typer.Option(help="folder or URI; the same one goes on with an experiment")
    ] = "augment",
    overrides: Overrides = None,
    classifier_overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--classifier-set", metavar="KEY=VALUE", help="as --set, for the classifiers"),
    ] = None,
    concurrent: Annotated[int, typer.Option(help="tasks at once (default: as many as fit)")] = 0,
    cpus: Annotated[float, typer.Option(help="CPUs per task")] = 1.0,
    gpus: Annotated[float, typer.Option(help="GPUs per task; may be a fraction")] = 0.0,
    local: Annotated[bool, typer.Option("--local", help="a Ray of our own, on this machine")] = False,
    as_json: Json = False,
) -> None:
    """Find out whether generated drawings help a classifier that has K real drawings per category.

    --set overrides the GANs' settings. The same command goes on where an experiment was left.
    """
    from doodle_dist.evaluation.augment import build_request, parse_ks, print_findings, run_experiment

    request = build_request(
        preset,
        classifier,
        overrides or (),
        classifier_overrides or (),
        data=data,
        gan_drawings=gan_drawings,
        classifier_drawings=classifier_drawings,
        out=out,
        ks=parse_ks(k),
        seeds=seeds,
        per_category=generated_per_category,
        share=share,
        at_most=at_most,
        concurrent=concurrent,
        cpus=cpus,
        gpus=gpus,
        local=local,
        debug=_Settings.debug,
        quiet=as_json,
    )
    found = run_experiment(request)
    print_findings(found, out, as_json=as_json)
    if found.failed:
        print(
            f"doodle-dist: {len(found.failed)} tasks failed; run the same command to try again",
            file=sys.stderr,
        )
        raise typer.Exit(1)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="a run's folder or URI, or one of its checkpoints")],
    format: Annotated[str, typer.Option(help="safetensors or onnx")] = "safetensors",
    output: Annotated[
        Path | None, typer.Option("-o", help="file to write (default: by run and format)")
    ] = None,
    opset: Annotated[int, typer.Option(help="ONNX operator set")] = 18,
    checkpoint: Checkpoint = "best",
    as_json: Json = False,
) -> None:
    """Write a run's net to one file, check it against the original, and put a model card beside it."""
    from doodle_dist.evaluation.export import export_run, print_export

    print_export(export_run(run, format, output, opset=opset, which=checkpoint), as_json=as_json)


@runs_app.command("list")
def runs_list(
    where: Annotated[str, typer.Argument(help="folder or URI under which runs lie")] = "runs",
    as_json: Json = False,
) -> None:
    """The runs at a place: what they train, how far they are, their best score."""
    from doodle_dist.evaluation.runs import print_runs

    print_runs(where, as_json=as_json)


@runs_app.command("show")
def runs_show(
    run: Annotated[str, typer.Argument(help="a run's folder or URI")],
    as_json: Json = False,
) -> None:
    """What a run trains on what, its checkpoints, its latest figures, and what lies in its folder."""
    from doodle_dist.evaluation.runs import print_run

    print_run(run, as_json=as_json)


@runs_app.command("watch")
def runs_watch(
    run: Annotated[str, typer.Argument(help="a run's folder or URI")],
    every: Annotated[float, typer.Option(min=0.1, help="seconds between looks")] = 5.0,
    patience: Annotated[
        float, typer.Option(min=0, help="give up after so many seconds without news (0: never)")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object a line")] = False,
) -> None:
    """A live line of a run's progress, from its folder alone; ends when the run does."""
    from doodle_dist.evaluation.watch import watch_run

    watch_run(run, every_s=every, patience_s=patience, as_json=as_json)


@app.command()
def curves(
    run: Annotated[str, typer.Argument(help="a run's folder or URI")],
    output: Annotated[Path, typer.Option("-o", help="PNG to write")] = Path("curves.png"),
) -> None:
    """Draw a run's losses with the noise level beside them, what the critic tells right, and the judge."""
    from doodle_dist.evaluation.history import write_curves

    print(write_curves(run, output))


@app.command()
def animate(
    run: Annotated[str, typer.Argument(help="a GAN run's folder or URI")],
    output: Annotated[Path, typer.Option("-o", help="GIF to write")] = Path("training.gif"),
) -> None:
    """Make a GIF of a run's sample grids: the same latents, again and again."""
    from doodle_dist.evaluation.history import write_animation

    print(write_animation(run, output))


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="a run's folder or URI")],
    output: Annotated[
        str, typer.Option("-o", help="HTML file or URI to write (default: report.html in the run's folder)")
    ] = "",
    price_per_hour: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="what an hour of one worker costs, to show the money too"),
    ] = None,
) -> None:
    """Write all that a run's folder tells as one HTML file: figures, pictures, curves, cost, failures, config."""
    from doodle_dist.evaluation.report import write_report

    print(write_report(run, output, price_per_hour=price_per_hour))


@app.command()
def doctor(
    preset: Preset = "doodle-gan-small",
    overrides: Overrides = None,
    address: Annotated[
        str, typer.Option(help="host:6379, or http://host:8265 to look from inside (default: $RAY_ADDRESS)")
    ] = "",
    workers: Annotated[Optional[int], typer.Option(help="Ray Train workers of the run")] = None,  # noqa: UP045
    gpus: Annotated[Optional[float], typer.Option(help="GPUs per worker")] = None,  # noqa: UP045
    cpus: Annotated[Optional[float], typer.Option(help="CPUs per worker")] = None,  # noqa: UP045
    storage: Annotated[str, typer.Option(help="folder or URI for runs (default: runs)")] = "",
    data: Annotated[str, typer.Option(help="prepared dataset (default: $DOODLE_DATA)")] = "",
    local: Annotated[bool, typer.Option("--local", help="a Ray of our own, on this machine")] = False,
    wait: Annotated[float, typer.Option(help="seconds to wait for an autoscaler")] = 0.0,
    as_json: Json = False,
) -> None:
    """Say what is wrong with a cluster for a run, what that means and how to mend it; exit 1 if it would fail."""
    from doodle_dist.doctor.command import doctor as examine

    given = {
        "scaling.workers": workers,
        "scaling.gpus_per_worker": gpus,
        "scaling.cpus_per_worker": cpus,
        "storage": storage,
        "data.uri": data,
    }
    can_start = examine(
        preset,
        overrides or [],
        _given(given),
        address=address,
        local=local,
        wait_s=wait,
        as_json_too=as_json,
        debug=_Settings.debug,
    )
    if not can_start:
        raise typer.Exit(1)


@app.command()
def audit(
    run: Annotated[str, typer.Argument(help="a run trained with --set data.audit=true")],
    data: Annotated[
        str, typer.Option(help="prepared dataset (default: the one the run was trained on)")
    ] = "",
) -> None:
    """Check that a run consumed every training drawing exactly once per epoch."""
    from doodle_dist.evaluation.audit_check import check_run, print_result

    result = check_run(run, data)
    print_result(run, result)
    if result.problems:
        raise typer.Exit(1)


# --- data -----------------------------------------------------------------------------------------------


@data_app.command()
def fetch(
    to: Annotated[str, typer.Option(help="folder or URI")],
    categories: Annotated[str, typer.Option(help="comma list, kaggle-340 or all")] = "kaggle-340",
    format: Annotated[str, typer.Option(help="simplified, raw, binary or bitmap")] = "simplified",
    base_url: Annotated[str, typer.Option(help="where the published files are", hidden=True)] = "",
) -> None:
    """Download the published Quick, Draw! files; run again, it goes on."""
    from doodle_dist.data.commands import fetch_files

    fetch_files(to, categories, format, base_url)


@data_app.command()
def synth(
    to: Annotated[str, typer.Option(help="folder")],
    drawings: Annotated[int, typer.Option(min=1)] = 20_000,
    categories: Annotated[int, typer.Option(min=1)] = 12,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Make up drawings, as official simplified ndjson."""
    from doodle_dist.data.commands import synthesize_files

    synthesize_files(to, drawings, categories, seed)


@data_app.command()
def prepare(
    source: Annotated[
        list[str], typer.Option(help="file, folder (of pictures too), glob or URI; may be given many times")
    ],
    to: Annotated[str, typer.Option(help="folder or URI of the prepared dataset")],
    categories: Annotated[
        str, typer.Option(help="comma list, kaggle-340 or all (default: the sources')")
    ] = "",
    recognized_only: Annotated[bool, typer.Option("--recognized-only")] = False,
    shards: Annotated[Optional[int], typer.Option(min=1, help="files in all (default: by size)")] = None,  # noqa: UP045
    split: Annotated[str, typer.Option(help="percent for train,val,test")] = "98,1,1",
    row_group: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=16, max=65_535, help="drawings per Parquet row group (default: 2048, or by size)"),
    ] = None,
    max_rejects: Annotated[float, typer.Option(min=0, max=1, help="share of bad records allowed")] = 0.001,
    side: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=8, max=512, help="make pictures from folders so many pixels wide and high"),
    ] = None,
    channels: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, max=3, help="of pictures from folders: 3 (RGB, the default) or 1 (grey)"),
    ] = None,
    crop: Annotated[
        str, typer.Option(help="what is kept of pictures from folders: centre or bounding-box (CUB-200-2011)")
    ] = "centre",
    class_names: Annotated[
        str, typer.Option(help="comma list: what the labels 0, 1, … of idx or CIFAR-10 files stand for")
    ] = "",
    local: Annotated[bool, typer.Option("--local", help="a Ray of our own, on this machine")] = False,
    as_json: Json = False,
) -> None:
    """Turn official files into a shuffled, split, checksummed dataset; run again, it goes on."""
    from doodle_dist.data.commands import picture_options, prepare_dataset

    prepare_dataset(
        source,
        to,
        categories=categories,
        recognized_only=recognized_only,
        shards=shards,
        split=split,
        row_group=row_group,
        max_rejects=max_rejects,
        pictures=picture_options(side, channels, crop, class_names),
        local=local,
        as_json=as_json,
        debug=_Settings.debug,
    )


@data_app.command()
def inspect(
    uri: Annotated[str, typer.Argument(help="prepared dataset")],
    output: Annotated[Path, typer.Option("-o", help="contact sheet to write")] = Path("contact-sheet.png"),
    count: Annotated[int, typer.Option("-n", min=1, help="drawings per category")] = 12,
    as_json: Json = False,
) -> None:
    """Print a dataset's counts and write a contact sheet."""
    from doodle_dist.data.commands import inspect_dataset

    inspect_dataset(uri, output, count, as_json=as_json)


@data_app.command()
def verify(uri: Annotated[str, typer.Argument(help="prepared dataset")]) -> None:
    """Check every file of a dataset against its manifest."""
    from doodle_dist.data.commands import verify_dataset

    if not verify_dataset(uri):
        raise typer.Exit(1)


@data_app.command()
def rasterize(
    file: Annotated[str, typer.Argument(help="drawings in any official format")],
    output: Annotated[Path, typer.Argument(help=".npy to write, uint8 [N, side, side]")],
    side: Annotated[int, typer.Option(min=8, max=512)] = 28,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
) -> None:
    """Rasterise a file of drawings as Google's bitmaps were."""
    from doodle_dist.data.commands import rasterize_file

    rasterize_file(file, output, side, device)


# --- config ---------------------------------------------------------------------------------------------


@config_app.command("list")
def config_list() -> None:
    """The presets that ship with the package, each with its first line."""
    from doodle_dist.config.load import preset_names, preset_text

    for name in preset_names():
        print(f"{name:20} {preset_text(name).splitlines()[0].lstrip('# ')}")


@config_app.command("show")
def config_show(preset: Preset = "doodle-gan-small", overrides: Overrides = None) -> None:
    """The resolved experiment, every setting of it, as JSON."""
    from doodle_dist.config.load import load_experiment

    print(load_experiment(preset, overrides or ()).model_dump_json(indent=2))


@config_app.command("validate")
def config_validate(file: Annotated[str, typer.Argument(help="a .toml file")]) -> None:
    """Check a preset file of one's own."""
    from doodle_dist.config.load import load_experiment

    load_experiment(file)
    print(f"{file}: fine")


# --- bench ----------------------------------------------------------------------------------------------

BenchOutput = Annotated[Optional[Path], typer.Option("-o", help="also write the figures as JSON")]  # noqa: UP045
BenchReal = Annotated[Path, typer.Option(help="folder of real drawings, simplified ndjson")]


@bench_app.command("raster")
def bench_raster(
    shared: Annotated[Path, typer.Option(help="folder with simplified/ and google_bitmaps/")] = Path(
        "../shared/data"
    ),
    output: BenchOutput = None,
) -> None:
    """The rasteriser against cairo: error on official pairs, drawings/s on one core."""
    from doodle_dist.bench import raster

    raster.main(shared, output)


@bench_app.command("prepare")
def bench_prepare(
    drawings: Annotated[int, typer.Option(min=1000)] = 500_000,
    output: BenchOutput = None,
    folder: Annotated[Path | None, typer.Option(help="where to work (default: a temporary folder)")] = None,
    real: BenchReal = Path("../shared/data/simplified"),
) -> None:
    """Prepare made-up ndjson: drawings/s against orjson's, and the memory of all Ray processes."""
    from doodle_dist.bench import prepare as bench

    bench.main(drawings, folder, real, output)


@bench_app.command("full-size")
def bench_full_size(
    drawings: Annotated[int, typer.Option(min=10_000)] = 50_000_000,
    categories: Annotated[int, typer.Option(min=1, max=345)] = 340,
    real: BenchReal = Path("../shared/data/simplified"),
    folder: Annotated[Path | None, typer.Option(help="where to work (default: a temporary folder)")] = None,
    workers: Annotated[int, typer.Option(min=1, help="worker processes, and cores for Ray")] = 2,
    until: Annotated[
        str, typer.Option(help="make-up, prepare, verify or stream; the same command again goes on")
    ] = "stream",
    keep: Annotated[bool, typer.Option("--keep", help="delete nothing at the end")] = False,
    output: BenchOutput = None,
) -> None:
    """Make up as many drawings as Quick, Draw! has; prepare, verify and stream an epoch of them."""
    from doodle_dist.bench import full_size

    full_size.main(drawings, categories, real, folder, workers, until, output, keep)


@bench_app.command("loaders")
def bench_loaders(
    drawings: Annotated[int, typer.Option(min=10_000)] = 262_144,
    categories: Annotated[int, typer.Option(min=1, max=345)] = 340,
    real: BenchReal = Path("../shared/data/simplified"),
    folder: Annotated[Path | None, typer.Option(help="where to work (default: a temporary folder)")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="each loader runs so long in a round")] = 6.0,
    rounds: Annotated[int, typer.Option(min=0, help="in turns; 0 only lays the drawings out")] = 3,
    workers: Annotated[int, typer.Option(min=1, help="processes of each loader, and cores for Ray")] = 2,
    output: BenchOutput = None,
) -> None:
    """The stream against torch's DataLoader, WebDataset, LitData, MosaicML Streaming and bare pyarrow."""
    from doodle_dist.bench import loaders

    loaders.main(drawings, categories, real, folder, seconds, rounds, workers, output)


@bench_app.command("ingest")
def bench_ingest(
    data: Annotated[list[str], typer.Argument(help="prepared datasets of strokes, folders or URIs")],
    workers: Annotated[int, typer.Option(min=1, help="worker processes, and cores for Ray Data")] = 2,
    output: BenchOutput = None,
) -> None:
    """The stream to workers against the rasteriser alone, on the same cores."""
    from doodle_dist.bench import ingest

    ingest.main(data, workers, output)


@bench_app.command("start")
def bench_start(
    workers: Annotated[int, typer.Option(min=1, help="Ray Train workers")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="each measured so often, in turns")] = 3,
    output: BenchOutput = None,
) -> None:
    """From Enter to the first step of a training, against the least that Ray Train itself takes."""
    from doodle_dist.bench import start

    start.main(workers, rounds, output)


@bench_app.command("train")
def bench_train(
    presets: Annotated[Optional[list[str]], typer.Argument(help="presets (default: four)")] = None,  # noqa: UP045
    batch: Annotated[int, typer.Option(help="drawings a step; 0: the preset's global_batch")] = 0,
    rounds: Annotated[int, typer.Option(min=3, help="steps of each loop, in turns")] = 15,
    overrides: Overrides = None,
    output: BenchOutput = None,
) -> None:
    """A training step against the textbook loop: eager, float32, zero_grad, backward, step per net."""
    from doodle_dist.bench import train

    train.main(presets or [], batch, rounds, overrides or [], output)


@bench_app.command("process")
def bench_process(
    presets: Annotated[Optional[list[str]], typer.Argument(help="presets (default: two)")] = None,  # noqa: UP045
    seconds: Annotated[float, typer.Option(min=1, help="each runs so long in a round")] = 20.0,
    rounds: Annotated[int, typer.Option(min=1, help="in turns")] = 3,
    output: BenchOutput = None,
) -> None:
    """A whole training against the same steps in a plain PyTorch loop with the data in memory."""
    from doodle_dist.bench import process

    process.main(presets or [], seconds, rounds, output)


@bench_app.command("scale")
def bench_scale(
    preset: Preset = "classifier-340",
    nodes: Annotated[str, typer.Option(help="numbers of nodes, by commas")] = "1,2,8,32",
    gpus_per_node: Annotated[int, typer.Option(min=1)] = 8,
    cores_per_node: Annotated[Optional[int], typer.Option(min=1, help="default: 192, cited")] = None,  # noqa: UP045
    drawings: Annotated[Optional[int], typer.Option(min=1, help="of an epoch (default: 50 million)")] = None,  # noqa: UP045
    step_drawings_per_s: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=1e-9, help="of one GPU, measured by you (default: from the preset's FLOP, assumed)"),
    ] = None,
    flop_fraction: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=1e-9, max=1, help="of an H100's peak that a step reaches (default: 0.1, assumed)"),
    ] = None,
    network_gbit: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=1e-9, help="what an all-reduce gets between nodes (default: 55, cited)"),
    ] = None,
    store_gbit: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=1e-9, help="of the object store, a node (default: 100, cited)"),
    ] = None,
    price_per_gpu_hour: Annotated[Optional[float], typer.Option(min=0, help="adds the cost")] = None,  # noqa: UP045
    overrides: Overrides = None,
    root: Annotated[Path, typer.Option(help="checkout with benchmarks/results and LOG.md")] = Path("."),
    measure: Annotated[
        str, typer.Option(metavar="DRAWINGS", help="first measure a shard of these, and the loopback, here")
    ] = "",
    as_json: Json = False,
    output: BenchOutput = None,
) -> None:
    """A model of an epoch over 50 million drawings on many nodes, held against what was measured."""
    from doodle_dist.bench import scale
    from doodle_dist.bench.scale_inputs import Asked

    asked = Asked(
        drawings=drawings,
        cores_per_node=cores_per_node,
        step_drawings_per_s=step_drawings_per_s,
        flop_fraction=flop_fraction,
        network_gbit=network_gbit,
        store_gbit=store_gbit,
        price_per_gpu_hour=price_per_gpu_hour,
    )
    scale.main(
        preset,
        nodes,
        gpus_per_node,
        overrides or [],
        asked,
        root=root,
        measure=measure,
        as_json=as_json,
        output=output,
    )


@bench_app.command("growth")
def bench_growth(output: BenchOutput = None) -> None:
    """What planning an epoch and prepare's exchange cost a shard, at up to 100,000 shards."""
    from doodle_dist.bench import growth

    growth.main(output)


@bench_app.command("table")
def bench_table(
    results: Annotated[Path, typer.Option(help="folder of the benchmarks' JSON files")] = Path(
        "benchmarks/results"
    ),
    page: Annotated[Path | None, typer.Option(help="also write the plots, as one HTML file")] = None,
) -> None:
    """Every bar of speed, and where this machine stands by the figures that were kept."""
    from doodle_dist.bench import bars

    bars.main(results, page)


def _given(options: Mapping[str, object]) -> dict[str, object]:
    """The settings of options that were given: neither None nor an empty text."""
    return {key: value for key, value in options.items() if value not in (None, "")}


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


# --- entry points ---------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> None:
    """`doodle-dist`: exit code 0 done, 1 the work failed, 2 the request was wrong."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        sys.exit(app(args=arguments, prog_name="doodle-dist", standalone_mode=False) or 0)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        _fail("stopped; run the same command to go on", 130)
    except TyperException as error:
        _fail(error.format_message(), 2)
    except Exception as error:
        if _Settings.debug or "--debug" in arguments:
            raise
        _fail(*_explain(error))


def _explain(error: Exception) -> tuple[str, int]:
    """One line and an exit code for what went wrong. What nobody foresaw keeps its type's name."""
    from doodle_dist.data.storage import StorageError
    from doodle_dist.errors import WorkFailedError, one_line, root_cause

    if isinstance(error, WorkFailedError):
        return one_line(error), 1
    if "ray" in sys.modules and isinstance(error, sys.modules["ray"].exceptions.RayError):
        return one_line(root_cause(error)), 1  # one of a task's, under way
    if isinstance(error, (ValueError, StorageError)):
        return one_line(error), 2
    if isinstance(error, OSError) and error.filename:
        wrong_place = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
        return f"{error.filename}: {error.strerror}", 2 if isinstance(error, wrong_place) else 1
    return f"{type(error).__name__}: {one_line(error)} (--debug shows where)", 1


def _fail(message: str, code: int) -> None:
    from doodle_dist import log

    if log.is_json():
        log.tell(message, {"exit_code": code}, logging.ERROR)
        sys.exit(code)
    print(f"doodle-dist: {message}", file=sys.stderr)
    sys.exit(code)


def train_main() -> None:
    """`python -m doodle_dist.train`: the same function as `doodle-dist train`."""
    main(["train", *sys.argv[1:]])


def tune_main() -> None:
    """`python -m doodle_dist.tune`: the same function as `doodle-dist tune`."""
    main(["tune", *sys.argv[1:]])


if __name__ == "__main__":
    main()
