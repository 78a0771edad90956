"""`doodle-dist config`: the presets."""

from typing import Annotated

import typer

from doodle_dist.commands.options import Overrides, Preset

app = typer.Typer(no_args_is_help=True, help="List, show and check presets.")


@app.command("list")
def config_list() -> None:
    """The presets that ship with the package.

    Each with its first line.
    """
    from doodle_dist.config.load import preset_names, preset_text
    from doodle_dist.progress_line import hanging

    for name in preset_names():
        print(hanging(f"{name:20} {preset_text(name).splitlines()[0].lstrip('# ')}", indent=21))


@app.command("show")
def config_show(preset: Preset = "doodle-gan-small", overrides: Overrides = None) -> None:
    """The resolved experiment, every setting of it, as JSON."""
    from doodle_dist.config.load import load_experiment

    print(load_experiment(preset, overrides or ()).model_dump_json(indent=2))


@app.command("validate")
def config_validate(file: Annotated[str, typer.Argument(help="a .toml file")]) -> None:
    """Check a preset file of one's own."""
    from doodle_dist.config.load import load_experiment, preset_search
    from doodle_dist.config.search import load_search
    from doodle_dist.config.search_check import checked_space

    experiment = load_experiment(file)
    if preset_search(file) is not None:
        checked_space(load_search(file, experiment), experiment)
    print(f"{file}: fine")
