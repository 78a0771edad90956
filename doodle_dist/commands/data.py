"""`doodle-dist data`: fetch, make, prepare and look at drawings."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from doodle_dist.commands.options import Json, Local, Settings, Wait, output_here

app = typer.Typer(no_args_is_help=True, help="Fetch, make, prepare and look at drawings.")


@app.command()
def fetch(
    to: Annotated[str, typer.Option(help="folder or URI")],
    categories: Annotated[str, typer.Option(help="comma list, kaggle-340 or all")] = "kaggle-340",
    format: Annotated[str, typer.Option(help="simplified, raw, binary or bitmap")] = "simplified",
    base_url: Annotated[str, typer.Option(help="where the published files are", hidden=True)] = "",
) -> None:
    """Download the published Quick, Draw! files.

    Run again, it goes on.
    """
    from doodle_dist.data.commands import fetch_files

    fetch_files(to, categories, format, base_url)


@app.command()
def synth(
    to: Annotated[str, typer.Option(help="folder")],
    drawings: Annotated[int, typer.Option(min=1)] = 20_000,
    categories: Annotated[int, typer.Option(min=1)] = 12,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Make up drawings, as official simplified ndjson."""
    from doodle_dist.data.commands import synthesize_files

    synthesize_files(to, drawings, categories, seed)


@app.command()
def prepare(
    source: Annotated[
        list[str], typer.Option(help="file, folder (of pictures too), glob or URI; may be given many times")
    ],
    to: Annotated[str, typer.Option(help="folder or URI of the prepared dataset")],
    categories: Annotated[
        str, typer.Option(help="comma list, kaggle-340 or all (default: the sources')")
    ] = "",
    recognized_only: Annotated[bool, typer.Option("--recognized-only")] = False,
    shards: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="files in all, at least one a split (default: by size)"),
    ] = None,
    split: Annotated[str, typer.Option(help="percent for train,val,test")] = "98,1,1",
    row_group: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=16, max=65_535, help="drawings per Parquet row group (default: 2048, or by size)"),
    ] = None,
    max_rejects: Annotated[
        float,
        typer.Option(min=0, max=1, help="share of bad records allowed; 1: of files that are cut off, too"),
    ] = 0.001,
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
    local: Local = False,
    wait: Wait = 0.0,
    as_json: Json = False,
) -> None:
    """Turn official files into a shuffled dataset.

    Split and checksummed; run again, it goes on.
    """
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
        wait_s=wait,
        as_json=as_json,
        debug=Settings.debug,
    )


@app.command()
def inspect(
    uri: Annotated[str, typer.Argument(help="prepared dataset")],
    output: Annotated[Path, output_here("contact sheet to write")] = Path("contact-sheet.png"),
    count: Annotated[int, typer.Option("-n", min=1, help="drawings per category")] = 12,
    as_json: Json = False,
) -> None:
    """Print a dataset's counts and write a contact sheet."""
    from doodle_dist.data.commands import inspect_dataset

    inspect_dataset(uri, output, count, as_json=as_json)


@app.command()
def verify(uri: Annotated[str, typer.Argument(help="prepared dataset")]) -> None:
    """Check every file of a dataset against its manifest."""
    from doodle_dist.data.commands import verify_dataset

    if not verify_dataset(uri):
        raise typer.Exit(1)


@app.command()
def rasterize(
    file: Annotated[str, typer.Argument(help="drawings in any official format")],
    output: Annotated[Path, typer.Argument(help=".npy to write, uint8 [N, side, side]")],
    side: Annotated[int, typer.Option(min=8, max=512)] = 28,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
) -> None:
    """Rasterise a file of drawings as Google's bitmaps were."""
    from doodle_dist.data.commands import rasterize_file

    rasterize_file(file, output, side, device)
