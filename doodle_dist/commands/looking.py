"""Looking at a run: its curves, its way, its report, the drawings it consumed."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from doodle_dist.commands.options import output_here

app = typer.Typer(rich_markup_mode=None)


@app.command()
def curves(
    run: Annotated[str, typer.Argument(help="a run's folder or URI")],
    output: Annotated[Path, output_here("PNG to write")] = Path("curves.png"),
) -> None:
    """Draw a run's curves as a picture.

    Losses with the noise level beside them, what the critic tells right, and the judge.
    """
    from doodle_dist.evaluation.history import write_curves

    print(write_curves(run, output))


@app.command()
def animate(
    run: Annotated[str, typer.Argument(help="a GAN run's folder or URI")],
    output: Annotated[Path, output_here("GIF to write")] = Path("training.gif"),
) -> None:
    """Make a GIF of a run's sample grids.

    The same latents, again and again.
    """
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
    """Write all that a run's folder tells as one HTML file.

    Figures, pictures, curves, cost, failures, config.
    """
    from doodle_dist.evaluation.report import write_report

    print(write_report(run, output, price_per_hour=price_per_hour))


@app.command()
def audit(
    run: Annotated[str, typer.Argument(help="a run trained with --set data.audit=true")],
    data: Annotated[
        str, typer.Option(help="prepared dataset (default: the one the run was trained on)")
    ] = "",
) -> None:
    """Check that a run saw every drawing once an epoch.

    From what `--set data.audit=true` had it write down.
    """
    from doodle_dist.evaluation.audit_check import check_run, print_result

    result = check_run(run, data)
    print_result(run, result)
    if result.problems:
        raise typer.Exit(1)
