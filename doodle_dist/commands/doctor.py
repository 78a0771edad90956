"""`doodle-dist doctor`: what is wrong with a cluster for a run."""

from typing import Annotated

import typer

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
def doctor(
    preset: Preset = "doodle-gan-small",
    overrides: Overrides = None,
    address: Annotated[
        str, typer.Option(help="host:6379, or http://host:8265 to look from inside (default: $RAY_ADDRESS)")
    ] = "",
    workers: Workers = "",
    gpus: Gpus = None,
    cpus: Cpus = None,
    storage: Storage = "",
    data: Data = "",
    local: Local = False,
    wait: Wait = 0.0,
    as_json: Json = False,
) -> None:
    """Say what is wrong with a cluster for a run.

    And what that means, and how to mend it; exit 1 if the run would fail.
    """
    from doodle_dist.config.load import parse_workers
    from doodle_dist.doctor.command import doctor as examine

    given = {
        "scaling.gpus_per_worker": gpus,
        "scaling.cpus_per_worker": cpus,
        "storage": storage,
        "data.uri": data,
    }
    can_start = examine(
        preset,
        overrides or [],
        parse_workers(workers) | chosen(given),
        address=address,
        local=local,
        wait_s=wait,
        as_json_too=as_json,
        debug=Settings.debug,
    )
    if not can_start:
        raise typer.Exit(1)
