"""`doodle-dist bench`: where the figures of the README come from."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from doodle_dist.commands.options import Json, Overrides, Preset

app = typer.Typer(no_args_is_help=True, help="Measure this machine; the README's figures come from here.")


BenchOutput = Annotated[Optional[Path], typer.Option("-o", help="also write the figures as JSON")]  # noqa: UP045
BenchReal = Annotated[Path, typer.Option(help="folder of real drawings, simplified ndjson")]


@app.command("raster")
def bench_raster(
    shared: Annotated[Path, typer.Option(help="folder with simplified/ and google_bitmaps/")] = Path(
        "../shared/data"
    ),
    output: BenchOutput = None,
) -> None:
    """The rasteriser against cairo and others.

    Error on official pairs, drawings/s on one core.
    """
    from doodle_dist.bench import raster

    raster.main(shared, output)


@app.command("prepare")
def bench_prepare(
    drawings: Annotated[int, typer.Option(min=1000)] = 500_000,
    output: BenchOutput = None,
    folder: Annotated[
        Path | None, typer.Option(help="where to work, an empty folder (default: a temporary one)")
    ] = None,
    real: BenchReal = Path("../shared/data/simplified"),
) -> None:
    """Prepare, against orjson.

    Drawings/s of made-up ndjson, and the memory of all Ray processes.
    """
    from doodle_dist.bench import prepare as bench

    bench.main(drawings, folder, real, output)


@app.command("full-size")
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
    """As many drawings as Quick, Draw! has.

    Make them up; prepare, verify and stream an epoch of them.
    """
    from doodle_dist.bench import full_size

    full_size.main(drawings, categories, real, folder, workers, until, output, keep)


@app.command("loaders")
def bench_loaders(
    drawings: Annotated[int, typer.Option(min=10_000)] = 1_048_576,
    categories: Annotated[int, typer.Option(min=1, max=345)] = 340,
    real: BenchReal = Path("../shared/data/simplified"),
    folder: Annotated[Path | None, typer.Option(help="where to work (default: a temporary folder)")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="each loader runs so long in a round")] = 6.0,
    rounds: Annotated[int, typer.Option(min=0, help="in turns; 0 only lays the drawings out")] = 3,
    workers: Annotated[int, typer.Option(min=1, help="processes of each loader, and cores for Ray")] = 2,
    output: BenchOutput = None,
) -> None:
    """The stream against other loaders.

    torch's DataLoader, WebDataset, LitData, MosaicML Streaming and bare pyarrow.
    """
    from doodle_dist.bench import loaders

    loaders.main(drawings, categories, real, folder, seconds, rounds, workers, output)


@app.command("ingest")
def bench_ingest(
    data: Annotated[list[str], typer.Argument(help="prepared datasets of strokes, folders or URIs")],
    workers: Annotated[int, typer.Option(min=1, help="worker processes, and cores for Ray Data")] = 2,
    output: BenchOutput = None,
) -> None:
    """The stream to workers against the rasteriser alone.

    On the same cores.
    """
    from doodle_dist.bench import ingest

    ingest.main(data, workers, output)


@app.command("start")
def bench_start(
    workers: Annotated[int, typer.Option(min=1, help="Ray Train workers")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="each measured so often, in turns")] = 3,
    output: BenchOutput = None,
) -> None:
    """From Enter to the first step of a training.

    Against the least that Ray Train itself takes.
    """
    from doodle_dist.bench import start

    start.main(workers, rounds, output)


@app.command("train")
def bench_train(
    presets: Annotated[Optional[list[str]], typer.Argument(help="presets (default: four)")] = None,  # noqa: UP045
    batch: Annotated[int, typer.Option(help="drawings a step; 0: the preset's global_batch")] = 0,
    rounds: Annotated[int, typer.Option(min=3, help="steps of each loop, in turns")] = 15,
    overrides: Overrides = None,
    output: BenchOutput = None,
) -> None:
    """A training step against the textbook loop.

    Eager, float32, zero_grad, backward, step per net.
    """
    from doodle_dist.bench import train

    train.main(presets or [], batch, rounds, overrides or [], output)


@app.command("process")
def bench_process(
    presets: Annotated[Optional[list[str]], typer.Argument(help="presets (default: two)")] = None,  # noqa: UP045
    seconds: Annotated[float, typer.Option(min=1, help="each runs so long in a round")] = 20.0,
    rounds: Annotated[int, typer.Option(min=1, help="in turns")] = 3,
    output: BenchOutput = None,
) -> None:
    """A whole training against a plain PyTorch loop.

    The same steps, with the data in memory.
    """
    from doodle_dist.bench import process

    process.main(presets or [], seconds, rounds, output)


@app.command("scale")
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
    """A model of an epoch over 50 million drawings.

    On many nodes, held against what was measured.
    """
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


@app.command("growth")
def bench_growth(output: BenchOutput = None) -> None:
    """What planning and prepare's exchange cost a shard.

    At up to 100,000 shards.
    """
    from doodle_dist.bench import growth

    growth.main(output)


@app.command("table")
def bench_table(
    results: Annotated[Path, typer.Option(help="folder of the benchmarks' JSON files")] = Path(
        "benchmarks/results"
    ),
    page: Annotated[Path | None, typer.Option(help="also write the plots, as one HTML file")] = None,
) -> None:
    """Every bar of speed, and where this machine stands.

    By the figures that were kept.
    """
    from doodle_dist.bench import table

    table.main(results, page)
