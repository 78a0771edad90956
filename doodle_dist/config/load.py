"""Preset -> overrides -> Experiment, with one readable line for whatever is wrong."""

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, time
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.model import NONE, Section
from doodle_dist.config.names import nearest

DEFAULT_PRESET = "doodle-gan-small"
SEARCH_TABLE = "search"  # of a preset: what `doodle-dist tune` varies, see search.py


class ConfigError(ValueError):
    """A preset, key or value is wrong. The message is one line for the person who typed it."""


def preset_names() -> list[str]:
    """The names of the presets that ship with the package."""
    folder = resources.files("doodle_dist.config") / "presets"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def preset_text(name_or_file: str) -> str:
    """A preset's TOML, by its name or as a file of one's own. Raises ConfigError for neither."""
    if name_or_file.endswith(".toml"):
        return text_of(name_or_file, "preset")
    names = preset_names()
    if name_or_file not in names:
        raise ConfigError(f"preset {name_or_file!r} is unknown{nearest(name_or_file, names)}")
    return (resources.files("doodle_dist.config") / "presets" / f"{name_or_file}.toml").read_text("utf-8")


def text_of(file: str, what: str) -> str:
    """The text of a person's own file. Raises ConfigError, naming it and ``what`` it was given as, without one."""
    path = Path(file)
    if not path.is_file():
        raise ConfigError(f"{what} {file}: no such file")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{what} {file}: should be UTF-8") from None


def load_experiment(preset: str = DEFAULT_PRESET, overrides: Iterable[str] = ()) -> Experiment:
    """A preset with ``key=value`` overrides laid over it, validated. Raises ConfigError."""
    tree = _preset_tree(preset) | {"preset": preset}
    return build(overlay(tree, dict(parse_override(text) for text in overrides)))


def _preset_tree(preset: str) -> dict[str, Any]:
    """A preset's settings, laid over those of the preset that it ``extends``."""
    own, *bases = _lineage(preset)
    tree: dict[str, Any] = bases[-1] if bases else own
    for above in [*reversed(bases[:-1]), own] if bases else []:
        tree = overlay(tree, flattened(above))
    return {key: value for key, value in tree.items() if key != SEARCH_TABLE}


def preset_search(preset: str) -> dict[str, Any] | None:
    """The ``[search]`` table of a preset, or of the nearest preset that it extends and that has one."""
    return next((tree[SEARCH_TABLE] for tree in _lineage(preset) if SEARCH_TABLE in tree), None)


def _lineage(preset: str) -> list[dict[str, Any]]:
    """A preset's own settings, then those of the preset that it ``extends``, and so on."""
    trees: list[dict[str, Any]] = []
    names = [preset]
    while len(trees) < len(names):
        name = names[-1]
        try:
            tree = tomllib.loads(preset_text(name))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"preset {name}: {error}") from None
        base = tree.pop("extends", None)
        trees.append(tree)
        if base is None:
            break
        if not isinstance(base, str):
            raise ConfigError(f"preset {name}: extends={base!r} should be another preset's name")
        if base in names:
            raise ConfigError(f"preset {base}: extends itself, by {' -> '.join([*names, base])}")
        names.append(base)
    return trees


def flattened(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{above}{key}.")
        else:
            flat[above + key] = value
    return flat


def load_run(
    preset: str, overrides: Iterable[str], options: Mapping[str, Any], environ: Mapping[str, str] = os.environ
) -> Experiment:
    """An experiment that is ready to run: with command-line ``options``, a dataset and a run's name.

    Dataset and storage are those of the environment where nothing else names any. A run without a name is named
    after its preset. Raises ConfigError.
    """
    experiment = planned(preset, overrides, options, environ)
    if not experiment.data.uri:
        raise ConfigError(
            "no dataset: give --data URI or set DOODLE_DATA; `doodle-dist data synth --to raw` and "
            "`doodle-dist data prepare --source raw --to prepared` make one"
        )
    if experiment.run:
        return experiment
    name = Path(experiment.preset).stem
    try:  # by the rules of a name that is given: what is saved with a run has to be read again
        return build(overlay(experiment.model_dump(exclude_unset=True), {"run": name}))
    except ConfigError:
        raise ConfigError(
            f"a run is named after its preset, and {name!r} can't be a run's name: give --run NAME, of letters, "
            "digits, dots, dashes and underscores"
        ) from None


def planned(
    preset: str, overrides: Iterable[str], options: Mapping[str, Any], environ: Mapping[str, str] = os.environ
) -> Experiment:
    """As `load_run`, of a run that may lack a dataset and a name. Raises ConfigError.

    DOODLE_DATA and DOODLE_STORAGE name what neither options nor settings do; runs go to a folder ``runs`` by default.
    """
    tree = overlay(load_experiment(preset, overrides).model_dump(exclude_unset=True), options)
    default = Experiment.model_fields["storage"].default
    if not tree.get("data", {}).get("uri") and environ.get("DOODLE_DATA"):
        tree = overlay(tree, {"data.uri": environ["DOODLE_DATA"]})
    if "storage" not in options and tree.get("storage", default) == default and environ.get("DOODLE_STORAGE"):
        tree = overlay(tree, {"storage": environ["DOODLE_STORAGE"]})
    return build(tree)


def build(tree: Mapping[str, Any]) -> Experiment:
    """Validate a tree of settings. Raises ConfigError naming the key, the value and what is allowed."""
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(readable(error)) from None


def from_toml(text: str) -> Experiment:
    """An experiment that `to_toml` wrote. Raises ConfigError for what is none of this release's."""
    try:
        return build(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(error)) from None


_OF_A_RUN = ("Every setting of a run: `doodle-dist train config.toml` trains the same.",)


def to_toml(experiment: Experiment, header: Iterable[str] = _OF_A_RUN) -> str:
    """Every setting of an experiment as a preset of one's own; what is none by default, and is, is left out.

    ``header`` are the lines of the comment that it opens with.
    """
    lines = [f"# {_printable(line)}".rstrip() for line in header]
    _write_table(experiment, (), lines)
    return "\n".join(lines) + "\n"


def _write_table(section: Section, path: tuple[str, ...], lines: list[str]) -> None:
    fields = type(section).model_fields
    values = {key: value for key, value in section if value is not None or fields[key].default is not None}
    tables = {key: value for key, value in values.items() if isinstance(value, Section)}
    if path and len(values) > len(tables):
        lines += ["", f"[{'.'.join(path)}]"]
    lines += [f"{key} = {_as_toml(value)}" for key, value in values.items() if key not in tables]
    for key, table in tables.items():
        _write_table(table, (*path, key), lines)


def _printable(text: str) -> str:
    """A comment's text: TOML allows no control characters there, and a line's end would end it."""
    return "".join(c if c.isprintable() else " " for c in text)


def _as_toml(value: Any) -> str:
    """A number, truth value, string or list of such: TOML writes them as JSON does, but for DEL in a string.

    None, which TOML lacks, as the word that a setting's section reads it by.
    """
    if value is None:
        value = NONE
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def parse_override(text: str) -> tuple[str, Any]:
    """``optim.generator.lr=1e-4`` -> (key, value). The value is TOML; what isn't is a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r} is not key=value")
    try:
        found = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        found = None
    # No setting is a date or a time; a name may look like one.
    return key.strip(), value.strip() if found is None or isinstance(found, (date, time)) else found


def parse_workers(text: str) -> dict[str, Any]:
    """``4``, or ``2:8`` for as many as the cluster holds, 2 at least -> settings; none for no text."""
    least, colon, most = text.partition(":")
    try:
        if not text:
            return {}
        if not colon:
            return {"scaling.workers": int(text), "scaling.workers_min": 0}
        if int(least) < 1:
            raise ValueError
        return {"scaling.workers": int(most), "scaling.workers_min": int(least)}
    except ValueError:
        raise ConfigError(
            f"--workers {text!r} is neither a number of workers nor MIN:MAX, such as 2:8"
        ) from None


def overlay(tree: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``tree`` with dotted keys replaced. Setting one length of a run unsets the other."""
    result = _copy(tree)
    for dotted, value in overrides.items():
        node, parts = result, dotted.split(".")
        for part in parts[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ConfigError(f"{dotted}: {part} is a value, not a table")
        node[parts[-1]] = value
        other = {"train.epochs": "drawings", "train.drawings": "epochs"}.get(dotted)
        if other and f"train.{other}" not in overrides:
            node.pop(other, None)
    return result


def _copy(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in tree.items()}


def readable(error: ValidationError, root: type[BaseModel] = Experiment) -> str:
    """The first thing that is wrong with a tree of ``root``'s settings, as one line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        *parents, _ = (str(part) for part in first["loc"])
        siblings = [".".join([*parents, name]) for name in _fields_at(root, parents)]
        return f"{where} is not a setting{nearest(where, siblings)}"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    message = message.removeprefix("String should ")
    if first["type"] == "value_error":
        return message if not where else f"{where}: {message}"
    if first["type"] == "missing":
        return f"{where} is missing"
    return f"{where}={first['input']!r}: should be {message}"


def _fields_at(root: type[BaseModel], path: list[str]) -> list[str]:
    model = root
    for part in path:
        annotation = model.model_fields[part].annotation
        options = [annotation, *get_args(annotation)]
        model = next(t for t in options if isinstance(t, type) and issubclass(t, BaseModel))
    return list(model.model_fields)
