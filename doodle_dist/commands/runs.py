"""`doodle-dist runs`: what lies where runs are."""

from typing import Annotated

import typer

from doodle_dist.commands.options import Json

app = typer.Typer(no_args_is_help=True, help="Look at runs, on a disk or in an object store.")


@app.command("list")
def runs_list(
    where: Annotated[str, typer.Argument(help="folder or URI under which runs lie")] = "runs",
    as_json: Json = False,
) -> None:
    """The runs at a place.

    What they train, how far they are, their best score.
    """
    from doodle_dist.run.show import print_runs

    print_runs(where, as_json=as_json)


@app.command("show")
def runs_show(
    run: Annotated[str, typer.Argument(help="a run's folder or URI")],
    as_json: Json = False,
) -> None:
    """All about one run.

    What it trains on what, its checkpoints, its latest figures, and what lies in its folder.
    """
    from doodle_dist.run.show import print_run

    print_run(run, as_json=as_json)


@app.command("watch")
def runs_watch(
    run: Annotated[str, typer.Argument(help="a run's folder or URI")],
    every: Annotated[float, typer.Option(min=0.1, help="seconds between looks")] = 5.0,
    patience: Annotated[
        float, typer.Option(min=0, help="give up after so many seconds without news (0: never)")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object a line")] = False,
) -> None:
    """A live line of a run's progress.

    From its folder alone; it ends when the run does.
    """
    from doodle_dist.evaluation.watch import watch_run

    watch_run(run, every_s=every, patience_s=patience, as_json=as_json)
