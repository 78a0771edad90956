"""Judging and using what was trained: evaluate, sample, interpolate, classify, augment, export."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from doodle_dist.commands.options import (
    Checkpoint,
    Data,
    GanRun,
    Json,
    Local,
    Overrides,
    Preset,
    Settings,
    Truncation,
    Wait,
    names,
    output_here,
)

app = typer.Typer(rich_markup_mode=None)


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
        typer.Option(
            min=1,
            help="GANs: samples, and as many held-out drawings (default: all of these, at most 10,000, or 130 a "
            "category where that is more)",
        ),
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
    local: Local = False,
    wait: Wait = 0.0,
    as_json: Json = False,
) -> None:
    """Judge a run on held-out drawings, or compare GAN runs.

    evaluation.json in the run's folder keeps the figures.

    Several GAN runs and no --evaluator: compare what was found before.
    """
    from doodle_dist.evaluation.evaluate import evaluate_runs, print_evaluations
    from doodle_dist.evaluation.evaluate_gan import Request
    from doodle_dist.evaluation.spread import Spread

    request = Request(
        evaluator=evaluator,
        judge=judge,
        split=split,
        samples=samples or 0,
        reference=reference,
        seed=seed,
        per_category=per_category,
        cas=cas,
        spread=Spread(workers, local, wait, Settings.debug),
    )
    print_evaluations(evaluate_runs(runs, request, data=data, which=checkpoint), as_json=as_json)


@app.command()
def sample(
    run: GanRun,
    categories: Annotated[
        str, typer.Option(help="comma list (default: all); not of a generator that doesn't see them")
    ] = "",
    count: Annotated[int, typer.Option("-n", help="drawings per category")] = 8,
    seed: Annotated[int, typer.Option(help="the same seed gives the same pixels on one device")] = 0,
    truncation: Truncation = None,
    output: Annotated[
        Path,
        output_here("grid.png, array.npy, or a folder for a PNG per drawing"),
    ] = Path("samples.png"),
    checkpoint: Checkpoint = "best",
    neighbours: Annotated[
        str,
        typer.Option(
            help="a classifier run: show the nearest training drawing (of 200,000 at most) under each sample"
        ),
    ] = "",
    data: Annotated[str, typer.Option(help="training drawings for --neighbours (default: the run's)")] = "",
) -> None:
    """Draw with a trained generator.

    A grid of a row per category, or any number of drawings as files.
    """
    from doodle_dist.evaluation.sample import write_samples

    path = write_samples(
        run,
        categories=names(categories),
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
    output: Annotated[Path, output_here("strips.png or moving.gif")] = Path("interpolation.png"),
    checkpoint: Checkpoint = "best",
) -> None:
    """Draw the way between latents, or between categories.

    Latents lie on a great circle.
    """
    from doodle_dist.evaluation.interpolate import write_interpolation

    path = write_interpolation(
        run,
        categories=names(categories),
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
    data: Data = "",
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
    local: Local = False,
    wait: Wait = 0.0,
    as_json: Json = False,
) -> None:
    """Find out whether generated drawings help a classifier.

    One that has K real drawings per category.

    --set overrides the GANs' settings. The same command goes on where an experiment was left.
    """
    from doodle_dist import log
    from doodle_dist.data import locations
    from doodle_dist.evaluation.augment import print_findings, run_experiment
    from doodle_dist.evaluation.augment_request import Request, experiments_for, parse_ks

    ks = parse_ks(k)
    gan_experiment, classifier_experiment = experiments_for(
        preset,
        classifier,
        overrides=overrides or (),
        classifier_overrides=classifier_overrides or (),
        data=data,
        gan_drawings=gan_drawings,
        classifier_drawings=classifier_drawings,
    )
    request = Request(
        gan=gan_experiment,
        classifier=classifier_experiment,
        out=locations.absolute(out),
        ks=ks,
        seeds=seeds,
        per_category=generated_per_category,
        share=share,
        at_most=at_most,
        concurrent=concurrent,
        cpus=cpus,
        gpus=gpus,
        local=local,
        wait_s=wait,
        debug=Settings.debug,
        quiet=as_json,
    )
    found = run_experiment(request)
    print_findings(found, out, as_json=as_json)
    if found.failed:
        log.say(f"doodle-dist: {len(found.failed)} tasks failed; run the same command to try again")
        raise typer.Exit(1)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="a run's folder or URI, or one of its checkpoints")],
    format: Annotated[str, typer.Option(help="safetensors or onnx")] = "safetensors",
    output: Annotated[
        Path | None,
        output_here("file to write (default: by run and format)"),
    ] = None,
    opset: Annotated[int, typer.Option(help="ONNX operator set")] = 18,
    checkpoint: Checkpoint = "best",
    as_json: Json = False,
) -> None:
    """Write a run's net to one file, as safetensors or ONNX.

    It is checked against the original, and a model card is put beside it.
    """
    from doodle_dist.evaluation.export import export_run, print_export

    print_export(export_run(run, format, output, opset=opset, which=checkpoint), as_json=as_json)
