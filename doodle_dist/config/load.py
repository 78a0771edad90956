"""Preset -> overrides -> Experiment, with one readable line for whatever is wrong."""

import difflib
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from doodle_dist.config.experiment import Experiment

DEFAULT_PRESET = "doodle-gan-small"


class ConfigError(ValueError):
    """A preset, key or value is wrong. The message is one line for the person who typed it."""


def preset_names() -> list[str]:
    """The names of the presets that ship with the package."""
    folder = resources.files("doodle_dist.config") / "presets"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def preset_text(name_or_file: str) -> str:
    """A preset's TOML, by its name or as a file of one's own. Raises ConfigError for neither."""
    if name_or_file.endswith(".toml"):
        path = Path(name_or_file)
        if not path.is_file():
            raise ConfigError(f"preset {name_or_file}: no such file")
        return path.read_text(encoding="utf-8")
    names = preset_names()
    if name_or_file not in names:
        raise ConfigError(f"preset {name_or_file!r} is unknown{_nearest(name_or_file, names)}")
    return (resources.files("doodle_dist.config") / "presets" / f"{name_or_file}.toml").read_text("utf-8")


def load_experiment(preset: str = DEFAULT_PRESET, overrides: Iterable[str] = ()) -> Experiment:
    """A preset with ``key=value`` overrides laid over it, validated. Raises ConfigError."""
    tree = _preset_tree(preset) | {"preset": preset}
    return build(overlay(tree, dict(parse_override(text) for text in overrides)))


def _preset_tree(name: str, below: tuple[str, ...] = ()) -> dict[str, Any]:
    """A preset's settings, laid over those of the preset that it ``extends``."""
    if name in below:
        raise ConfigError(f"preset {name}: extends itself, by {' -> '.join([*below, name])}")
    try:
        tree = tomllib.loads(preset_text(name))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"preset {name}: {error}") from None
    base = tree.pop("extends", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError(f"preset {name}: extends={base!r} should be another preset's name")
    return overlay(_preset_tree(base, (*below, name)), _flat(tree))


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{above}{key}.")
        else:
            flat[above + key] = value
    return flat


def load_run(
    preset: str, overrides: Iterable[str], options: Mapping[str, Any], environ: Mapping[str, str] = os.environ
) -> Experiment:
    """An experiment that is ready to run: with command-line ``options``, a dataset and a run's name.

    Without a dataset it is the one that DOODLE_DATA names. A run without a name is named after its preset.
    Raises ConfigError.
    """
    experiment = load_experiment(preset, overrides)
    tree = overlay(experiment.model_dump(exclude_unset=True), options)
    if not tree.get("data", {}).get("uri"):
        if not environ.get("DOODLE_DATA"):
            raise ConfigError(
                "no dataset: give --data URI or set DOODLE_DATA; `doodle-dist data synth --to raw` and "
                "`doodle-dist data prepare --source raw --to prepared` make one"
            )
        tree = overlay(tree, {"data.uri": environ["DOODLE_DATA"]})
    if not tree.get("run"):
        tree["run"] = Path(experiment.preset).stem
    return build(tree)


def build(tree: Mapping[str, Any]) -> Experiment:
    """Validate a tree of settings. Raises ConfigError naming the key, the value and what is allowed."""
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_readable(error)) from None


def from_toml(text: str) -> Experiment:
    """An experiment that `to_toml` wrote. Raises ConfigError for what is none of this release's."""
    try:
        return build(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(error)) from None


def to_toml(experiment: Experiment) -> str:
    """Every setting of an experiment as a preset of one's own; what is none is left out, as its default is none."""
    lines = ["# Every setting of a run: `doodle-dist train config.toml` trains the same."]
    _write_table(experiment.model_dump(mode="json"), (), lines)
    return "\n".join(lines) + "\n"


def _write_table(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    values = {k: v for k, v in table.items() if v is not None and not isinstance(v, Mapping)}
    if path and values:
        lines += ["", f"[{'.'.join(path)}]"]
    lines += [f"{key} = {_as_toml(value)}" for key, value in values.items()]
    for key, value in table.items():
        if isinstance(value, Mapping):
            _write_table(value, (*path, key), lines)


def _as_toml(value: Any) -> str:
    """A number, truth value, string or list of such: TOML writes them as JSON does, but for DEL in a string."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def parse_override(text: str) -> tuple[str, Any]:
    """``optim.generator.lr=1e-4`` -> (key, value). The value is TOML; what isn't is a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r} is not key=value")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value


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


def _readable(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        *parents, _ = (str(part) for part in first["loc"])
        siblings = [".".join([*parents, name]) for name in _fields_at(parents)]
        return f"{where} is not a setting{_nearest(where, siblings)}"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if first["type"] == "value_error":
        return message if not where else f"{where}: {message}"
    if first["type"] == "missing":
        return f"{where} is missing"
    return f"{where}={first['input']!r}: should be {message}"


def _fields_at(path: list[str]) -> list[str]:
    model: type[BaseModel] = Experiment
    for part in path:
        annotation = model.model_fields[part].annotation
        options = [annotation, *get_args(annotation)]
        model = next(t for t in options if isinstance(t, type) and issubclass(t, BaseModel))
    return list(model.model_fields)


def _nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(names)}"
