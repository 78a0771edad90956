"""What several commands take, and what was asked of all of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

Preset = Annotated[str, typer.Argument(help="a preset's name, or a .toml file")]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045  typer reads the annotation
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="override a setting, by none where it may be none; may be given many times",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print the answer as JSON")]
Local = Annotated[bool, typer.Option("--local", help="a Ray of our own, on this machine")]
Data = Annotated[str, typer.Option(help="prepared dataset (default: $DOODLE_DATA)")]
Storage = Annotated[str, typer.Option(help="folder or URI for runs (default: $DOODLE_STORAGE, or runs)")]
Wait = Annotated[float, typer.Option(min=0, help="seconds to wait for an autoscaler")]
Workers = Annotated[
    str,
    typer.Option(metavar="N|MIN:MAX", help="Ray Train workers (DDP ranks); MIN:MAX grows with the cluster"),
]
Gpus = Annotated[Optional[float], typer.Option(help="GPUs per worker")]  # noqa: UP045
Cpus = Annotated[Optional[float], typer.Option(help="CPUs per worker")]  # noqa: UP045
GanRun = Annotated[str, typer.Argument(help="a GAN run's folder or URI, or one of its checkpoints")]
Checkpoint = Annotated[str, typer.Option(help="best or latest")]
Truncation = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(help="largest |component| of a latent: tidier and less varied drawings (default: none)"),
]


def on_this_machine(value: Path | None) -> Path | None:
    """Refuse a URI where a file of this machine is written, which would become a folder named ``s3:``."""
    if value is not None and value.parts and value.parts[0].endswith(":"):
        raise typer.BadParameter("should be a file or folder of this machine, not a URI", param_hint="-o")
    return value


def output_here(help: str) -> Any:
    """The option -o of a command that writes to this machine."""
    return typer.Option("-o", callback=on_this_machine, help=help)


class Settings:
    """Of this process: ``debug`` shows tracebacks and Ray's own log."""

    debug = False


def chosen(options: Mapping[str, object]) -> dict[str, object]:
    """The settings of options that were given: neither None nor an empty text."""
    return {key: value for key, value in options.items() if value not in (None, "")}


def names(text: str) -> tuple[str, ...]:
    """The names of a comma list."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
