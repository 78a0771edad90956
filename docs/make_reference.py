"""Writes docs/reference/: every command and option, every key of a config, every preset, from the code.

python docs/make_reference.py            writes the pages
python docs/make_reference.py --check    exit 1, with the names, where a page isn't what the code says
"""

import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from doodle_dist.cli import app
from doodle_dist.config.experiment import PARTS, Experiment
from doodle_dist.config.load import load_experiment, preset_names
from doodle_dist.config.search import SearchConfig

FOLDER = Path(__file__).parent / "reference"
_NOTE = "<!-- Made by docs/make_reference.py from the code: change that, not this. -->\n"


_FOR_ALL = """## For all commands

`doodle-dist --debug COMMAND` shows tracebacks and Ray's own log, `doodle-dist --version` the version.

| exit code | meaning |
| --- | --- |
| 0 | done, or stopped as it was asked to and saved |
| 1 | the work failed, or is not whole; with `doctor`: training would fail |
| 2 | the request was wrong, and nothing was begun |
| 130 | interrupted; the same command goes on |

| environment | meaning |
| --- | --- |
| `DOODLE_DATA` | the prepared dataset, where none is given |
| `DOODLE_STORAGE` | where `train`, `tune` and `doctor` have runs, without `--storage` (`runs list` takes a place) |
| `DOODLE_LOG` | `json`: logs as JSON lines with run, rank and step |
| `RAY_ADDRESS`, `RAY_AUTH_MODE`, `RAY_AUTH_TOKEN`, `RAY_AUTH_TOKEN_PATH` | Ray's own: the cluster and its token |
| `AWS_*` | the usual ones: credentials, region, `AWS_ENDPOINT_URL_S3` |
"""


# --- commands -------------------------------------------------------------------------------------------


def commands() -> str:
    """Every command with its arguments and options."""
    parts = [_NOTE, "# Commands\n", "`doodle-dist --help`, as one page.\n", _FOR_ALL]
    for path, command in _walk("doodle-dist", typer.main.get_command(app)):
        parts.append(f"## {path}\n")
        parts.append(inspect.cleandoc(command.help or "") + "\n")
        shown = [one for one in command.params if one.name != "help" and not getattr(one, "hidden", False)]
        rows = [_option(parameter) for parameter in shown]
        if rows:
            parts.append(_table(("option", "default", "meaning"), rows))
    return "\n".join(parts)


def _walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, below in command.commands.items():
            yield from _walk(f"{path} {name}", below)
    else:
        yield path, command


def _option(parameter: Any) -> tuple[str, str, str]:
    if isinstance(parameter, typer.core.TyperArgument):
        names = f"`{parameter.metavar or parameter.name}`"
    else:
        names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
        if not parameter.is_flag:
            names += f" {parameter.metavar or _name(parameter.type_descriptor.annotation)}"
    default = parameter.default
    is_none = default is None or default is False or default == ""  # and 0 is a default
    shown = "required" if parameter.required else "" if is_none else f"`{default}`"
    return names, shown, parameter.help or ""


# --- the config -----------------------------------------------------------------------------------------


def config() -> str:
    """Every key of an experiment: type, range, default, meaning with its unit."""
    parts = [
        _NOTE,
        "# Settings\n",
        "Every key of an experiment. `--set key=value` sets one; a preset is a `.toml` file of them that `extends`",
        "another; `doodle-dist config show PRESET` prints them all resolved. Everything that changes during a run",
        "changes with drawings seen, so lengths are in drawings.\n",
    ]
    parts.extend(_sections("", Experiment))
    parts.append("## `[search]`\n")
    parts.append("What `doodle-dist tune` does, in a preset or a file of its own.\n")
    parts.append(_table(_HEAD, list(_fields("", SearchConfig))))
    return "\n".join(parts)


_HEAD = ("key", "type", "default", "meaning")


def _sections(prefix: str, model: type[BaseModel]) -> Iterator[str]:
    rows = list(_fields(prefix, model))
    if rows:
        yield f"## {f'`[{prefix[:-1]}]`' if prefix else 'At the top'}\n"
        if about := _about(model):
            yield about + "\n"
        yield _table(_HEAD, rows)
    for name, field in model.model_fields.items():
        if section := _section(field.annotation):
            yield from _sections(f"{prefix}{name}.", section)


def _about(model: type[BaseModel]) -> str:
    """The section's docstring without its own name."""
    text = inspect.cleandoc(model.__doc__ or "") if "__doc__" in vars(model) else ""
    if model is Experiment:
        return ""
    text = re.sub(r"^(``\[[\w.]+\]``(, )?)+:? ?", "", text).replace("``", "`")
    return text[:1].upper() + text[1:]


def _fields(prefix: str, model: type[BaseModel]) -> Iterator[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        if _section(field.annotation) is None:
            assert field.description, f"{prefix}{name} has no description"
            yield f"`{prefix}{name}`", _type(field), _default(field), field.description


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section that a key holds, if it holds one."""
    options = typing.get_args(annotation) or (annotation,)
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)


def _type(field: FieldInfo) -> str:
    limits = {
        name: getattr(limit, name)
        for limit in field.metadata
        for name in ("ge", "gt", "le", "lt", "multiple_of")
        if getattr(limit, name, None) is not None
    }
    low = f"≥ {limits['ge']:,}" if "ge" in limits else f"> {limits['gt']:,}" if "gt" in limits else ""
    high = f"≤ {limits['le']:,}" if "le" in limits else f"< {limits['lt']:,}" if "lt" in limits else ""
    steps = f"multiple of {limits['multiple_of']}" if "multiple_of" in limits else ""
    return ", ".join(part for part in (_name(field.annotation), low, high, steps) if part)


_NAMES = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "none"}


def _name(annotation: Any) -> str:
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in inside)
    if origin is typing.Annotated:
        return _name(inside[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_name(one) for one in inside)
    if origin in (tuple, list):
        return "list of " + _name(inside[0])
    if origin is dict:
        return f"table of {_name(inside[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "given by the preset"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"{value:,}" if value >= 1 or value == 0 else f"{value:g}"
    if isinstance(value, (tuple, list, dict)):
        return f"`{list(value)}`"
    return f"`{value}`" if value else "empty"


# --- the presets ----------------------------------------------------------------------------------------


def presets() -> str:
    """Every preset: what it trains, how long, and its nets."""
    rows = []
    for name in preset_names():
        experiment = load_experiment(name)
        nets = {part: getattr(experiment.model, part).name for part in PARTS[experiment.task]}
        length = (
            f"{experiment.train.drawings:,} drawings"
            if experiment.train.drawings
            else f"{experiment.train.epochs:g} epochs"
        )
        shown = ", ".join(f"{part} {net}" for part, net in nets.items())
        rows.append((f"`{name}`", experiment.task, shown, f"{experiment.train.global_batch:,}", length))
    text = (
        "`doodle-dist train PRESET`; `doodle-dist config show PRESET` prints every setting. Their "
        "[files](../../doodle_dist/config/presets) say what was settled here because it was left open.\n"
    )
    head = ("preset", "trains", "nets", "global batch", "length")
    return "\n".join([_NOTE, "# Presets\n", text, _table(head, rows)])


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(head), "|" + " --- |" * len(head), *map(line, rows)]) + "\n"


PAGES = {"commands.md": commands, "settings.md": config, "presets.md": presets}


def stale() -> list[str]:
    """The pages that aren't what the code says."""
    return [
        name
        for name, make in PAGES.items()
        if not (FOLDER / name).exists() or (FOLDER / name).read_text() != make()
    ]


def main() -> None:
    """The command."""
    if "--check" in sys.argv[1:]:
        if names := stale():
            sys.exit(f"docs/reference: {', '.join(names)} not current; run: python docs/make_reference.py")
        return
    FOLDER.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make())


if __name__ == "__main__":
    main()
