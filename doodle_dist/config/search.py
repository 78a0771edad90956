"""What a search varies: a ``[search]`` table, read, typed and checked against the experiment. No Ray, no torch.

An axis is one setting that is drawn: ``"optim.generator.lr" = "loguniform(1e-4, 1e-2)"``. With conditions, or
with settings that follow it, it is a table::

    "gan.noise.decay_drawings" = { draw = "logint(1_000, 20_000)", when = { "gan.noise.decay" = ["linear"] } }
    "gan.adversarial.r1_gamma_start" = { draw = "loguniform(0.1, 30)", also = ["gan.adversarial.r2_gamma_start"] }
"""

import math
import random
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import (
    SEARCH_TABLE,
    ConfigError,
    build,
    flattened,
    nearest,
    overlay,
    preset_search,
    readable,
)
from doodle_dist.config.model import Section

Value = float | int | str | bool
Settings = dict[str, Value]
Kind = Literal["uniform", "loguniform", "int", "logint", "choice", "grid"]
_NUMERIC: tuple[Kind, ...] = ("uniform", "loguniform", "int", "logint")
KINDS: tuple[Kind, ...] = (*_NUMERIC, "choice", "grid")
_INSIDE = 32  # values of a range that are tried before a search starts


@dataclass(frozen=True)
class Draw:
    """From what a value is drawn: a range, both ends in it, or a list of values.

    ``grid`` values are gone through in turn, so that every one is had; all others are drawn at random.
    """

    kind: Kind
    values: tuple[Value, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """``loguniform(1e-5, 1e-2)`` or ``choice('none', 'linear')``. Raises ValueError for anything else."""
        found = re.fullmatch(r"\s*(\w+)\s*\((.*)\)\s*", text, re.DOTALL)
        if not found or found[1] not in KINDS:
            raise ValueError(
                f"{text!r} is no draw: write one of {', '.join(KINDS)} and its values in brackets"
            )
        kind: Kind = found[1]
        try:
            values = tuple(tomllib.loads(f"v = [{found[2]}]")["v"])
        except tomllib.TOMLDecodeError:
            raise ValueError(
                f"{text!r}: the values should be numbers, true, false or 'quoted' words"
            ) from None
        if not values or any(isinstance(value, (list, dict)) for value in values):
            raise ValueError(f"{text!r}: it needs plain values")
        draw = cls(kind, values)
        draw._check(text)
        return draw

    def _check(self, text: str) -> None:
        if self.kind not in _NUMERIC:
            if len(set(map(repr, self.values))) < len(self.values):
                raise ValueError(f"{text!r}: a value stands there twice")
            return
        whole = self.kind in ("int", "logint")
        if len(self.values) != 2 or any(isinstance(value, (str, bool)) for value in self.values):
            raise ValueError(f"{text!r}: {self.kind} takes a lowest and a highest number")
        if whole and any(value != int(value) for value in self.values):
            raise ValueError(f"{text!r}: {self.kind} takes whole numbers")
        low, high = self.low, self.high
        if not low < high:
            raise ValueError(f"{text!r}: an empty range, {low:g} is not below {high:g}")
        if self.kind in ("loguniform", "logint") and low <= 0:
            raise ValueError(f"{text!r}: {self.kind} needs a range above 0")

    @property
    def is_numeric(self) -> bool:
        """Whether it is a range of numbers."""
        return self.kind in _NUMERIC

    @property
    def is_log(self) -> bool:
        """Whether the range is even in logarithms."""
        return self.kind in ("loguniform", "logint")

    @property
    def low(self) -> float:
        """The lowest number of a range."""
        return float(self.values[0])

    @property
    def high(self) -> float:
        """The highest number of a range."""
        return float(self.values[1])

    @property
    def probes(self) -> tuple[Value, ...]:
        """Values that stand for all: a list's, or a range's ends, what lies next to them, and some between."""
        if not self.is_numeric:
            return self.values
        inside = [self.at(k / _INSIDE) for k in range(_INSIDE)]
        if self.kind in ("int", "logint"):
            inside += [near for k in range(1, 4) for near in (self.low + k, self.high - k)]
        found = [self._typed(value) for value in (*self.values, *inside)]
        return tuple(dict.fromkeys(value for value in found if self.holds(value)))

    def at(self, share: float) -> Value:
        """The value at ``share`` in [0, 1) of the way through the range or the list."""
        if not self.is_numeric:
            return self.values[min(int(share * len(self.values)), len(self.values) - 1)]
        low, high = self.low, self.high
        if self.kind == "int":
            return min(int(low) + int(share * (int(high) - int(low) + 1)), int(high))
        if self.is_log:
            return self._typed(math.exp(math.log(low) + share * (math.log(high) - math.log(low))))
        return low + share * (high - low)

    def holds(self, value: Value) -> bool:
        """Whether it could be drawn."""
        if not self.is_numeric:
            return value in self.values
        return not isinstance(value, (str, bool)) and self.low <= value <= self.high

    def clip(self, value: Value) -> Value:
        """The value of the range that is nearest to a number, or a list's value as it is."""
        if not self.is_numeric or isinstance(value, str):
            return value
        return self._typed(min(max(float(value), self.low), self.high))

    def _typed(self, value: Value) -> Value:
        return round(float(value)) if self.kind in ("int", "logint") else float(value)

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(repr(value) for value in self.values)})"


@dataclass(frozen=True)
class Axis:
    """One searched setting: ``also`` take its value, and it is drawn only ``when`` settings have given values."""

    key: str
    draw: Draw
    also: tuple[str, ...] = ()
    when: tuple[tuple[str, tuple[Value, ...]], ...] = ()


@dataclass(frozen=True)
class SearchSpace:
    """Axes in the order in which they are drawn: a condition's axis stands before those that it holds for."""

    axes: tuple[Axis, ...]

    def settings(self, base: Experiment, pick: Callable[[Axis], Value]) -> Settings:
        """One point: overrides of ``base``. ``pick`` gives each axis' value; it is asked for active ones only."""
        drawn: Settings = {}
        for axis in self.axes:
            if _holds(axis, base, drawn):
                value = pick(axis)
                drawn |= dict.fromkeys((axis.key, *axis.also), value)
        return drawn

    def sampled(
        self, base: Experiment, seed: int, trial: int, given: Mapping[str, Value] | None = None
    ) -> Settings:
        """The random point number ``trial`` of a search: the same one whenever it is asked for. Axes that are
        ``given`` a value have that."""
        grid = [axis for axis in self.axes if axis.draw.kind == "grid"]
        places = dict(zip((axis.key for axis in grid), _digits(trial, grid), strict=True))
        rng = random.Random(f"{seed}/{trial}")
        # Every axis has its share drawn, active or not: one more axis at the end changes no other's values.
        shares = {axis.key: rng.random() for axis in self.axes}

        def pick(axis: Axis) -> Value:
            if given and axis.key in given:
                return given[axis.key]
            if axis.key in places:
                return axis.draw.values[places[axis.key]]
            return axis.draw.at(shares[axis.key])

        return self.settings(base, pick)

    def of_base(self, base: Experiment) -> Settings | None:
        """The point at which the experiment is what it was; None where an axis does not hold its value."""
        point = self.settings(base, lambda axis: setting(base, axis.key))
        draws = {axis.key: axis.draw for axis in self.axes}
        held = all(draws[key].holds(value) for key, value in point.items() if key in draws)
        is_same = all(setting(base, key) == value for key, value in point.items())
        return point if held and is_same else None

    def without(self, keys: Iterable[str]) -> "SearchSpace":
        """The space with the axes of ``keys`` left out: settings that a person has fixed."""
        fixed = set(keys)
        return SearchSpace(
            tuple(
                replace(axis, also=tuple(key for key in axis.also if key not in fixed))
                for axis in self.axes
                if axis.key not in fixed
            )
        )

    def possible(self, base: Experiment) -> "SearchSpace":
        """The axes that some point has: those whose conditions ``base`` or another axis can meet."""
        kept: list[Axis] = []
        for axis in self.axes:
            draws = {other.key: other.draw for other in kept}
            if all(_can_be(key, values, draws, base) for key, values in axis.when):
                kept.append(axis)
        return SearchSpace(tuple(kept))


def _digits(number: int, grid: Sequence[Axis]) -> Iterator[int]:
    for axis in grid:
        number, digit = divmod(number, len(axis.draw.values))
        yield digit


def setting(base: Experiment, key: str) -> Any:
    """The value of a dotted key. Raises ConfigError, with the nearest key, where there is none."""
    node: Any = base
    for part in key.split("."):
        if node is None or not hasattr(type(node), "model_fields") or part not in type(node).model_fields:
            raise ConfigError(f"{key} is not a setting{nearest(key, list(flattened(base.model_dump())))}")
        node = getattr(node, part)
    return node


def _holds(axis: Axis, base: Experiment, drawn: Settings) -> bool:
    return all((drawn[key] if key in drawn else setting(base, key)) in values for key, values in axis.when)


def _can_be(key: str, values: tuple[Value, ...], draws: Mapping[str, Draw], base: Experiment) -> bool:
    if key in draws:
        draw = draws[key]
        return draw.is_numeric or any(value in values for value in draw.values)
    return setting(base, key) in values


# --- the table ----------------------------------------------------------------------------------------


class AxisTable(Section):
    """An axis with conditions, or with settings that take its value as well."""

    draw: str
    also: tuple[str, ...] = ()
    when: dict[str, Value | tuple[Value, ...]] = Field(default_factory=dict)


class SearchConfig(Section):
    """``[search]``: the axes, what a trial is judged by, and how long it is."""

    space: dict[str, str | AxisTable] = Field(min_length=1, description="axes by dotted key")
    objective: str = Field("", description="figure of a checkpoint to search by; empty: the task's own")
    mode: Literal["min", "max"] = Field("min", description="whether the objective should be low or high")
    drawings: int = Field(20_000, ge=2, description="length of a whole trial, in drawings seen")
    first_rung: int = Field(
        1_250, ge=1, description="asha: drawings after which the first trials are stopped"
    )
    reduction: int = Field(4, ge=2, le=16, description="asha: one of so many goes on at each rung")
    perturb_every: int = Field(2_500, ge=1, description="pbt: drawings after which settings may change")
    scheduler: Literal["asha", "pbt", "none"] = Field("asha", description="what ends or changes trials")
    confirm: int = Field(
        4, ge=0, description="so many of the best are trained again with seeds that the search has not used"
    )
    confirm_seeds: int = Field(2, ge=1, le=100, description="how often each of them is")

    @field_validator("space")
    @classmethod
    def _draws_are_draws(cls, space: dict[str, str | AxisTable]) -> dict[str, str | AxisTable]:
        for key, axis in space.items():
            try:
                Draw.parse(axis if isinstance(axis, str) else axis.draw)
            except ValueError as error:
                raise ValueError(f"{key} = {error}") from None
        return space

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        for name in ("first_rung", "perturb_every"):
            if getattr(self, name) > self.drawings:
                raise ValueError(
                    f"search.{name}={getattr(self, name)} is more than search.drawings={self.drawings}"
                )
        return self

    def of_length(self, drawings: int) -> "SearchConfig":
        """The same search of longer or shorter trials, judged at the same shares of their length."""

        def scaled(length: int) -> int:
            return math.ceil(length * drawings / self.drawings)  # no rung just before the end

        lengths = {name: scaled(getattr(self, name)) for name in ("first_rung", "perturb_every")}
        return self.model_copy(update={"drawings": drawings, **lengths})

    def rungs(self) -> tuple[int, ...]:
        """Drawings after which a trial reports: first_rung * reduction^k, and its end."""
        rungs, at = [], self.first_rung
        while at < self.drawings:
            rungs.append(at)
            at *= self.reduction
        return (*rungs, self.drawings)

    def axes(self) -> SearchSpace:
        """The space with its draws read."""
        return SearchSpace(tuple(_axis(key, axis) for key, axis in self.space.items()))


def _axis(key: str, axis: str | AxisTable) -> Axis:
    if isinstance(axis, str):
        return Axis(key, Draw.parse(axis))
    when = tuple((k, v if isinstance(v, tuple) else (v,)) for k, v in axis.when.items())
    return Axis(key, Draw.parse(axis.draw), axis.also, when)


# The spaces that ship, by task: of a search, and of population based training.
SPACES = {
    "gan": {"search": "gan", "pbt": "pbt"},
    "classifier": {"search": "classifier", "pbt": "pbt-classifier"},
}


def search_names() -> list[str]:
    """The search spaces that ship with the package."""
    folder = resources.files("doodle_dist.config") / "searches"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def load_search(
    preset: str,
    base: Experiment,
    *,
    space: str = "",
    scheduler: str = "",
    extra: Iterable[str] = (),
    drawings: int | None = None,
) -> SearchConfig:
    """The search of ``space``, a shipped name or a file; by default the preset's own ``[search]``, else its task's.

    ``extra`` are axes as ``key=draw``; where the space has the key, its draw alone is replaced, and its conditions and
    the settings that follow it stay. ``scheduler`` replaces the table's, and ``drawings`` stretches its trials.
    Raises ConfigError.
    """
    table = _table(space, preset, base, scheduler)
    axes = dict(table.get("space", {}))
    for text in extra:
        key, equals, draw = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"--search-space {text!r} is not key=draw, such as optim.lr=loguniform(1e-5,1e-2)"
            )
        had = axes.get(key.strip())
        axes[key.strip()] = {**had, "draw": draw.strip()} if isinstance(had, dict) else draw.strip()
    table = {**table, "space": axes}
    table |= {"scheduler": scheduler} if scheduler else {}
    try:
        search = SearchConfig.model_validate(table)
    except ValidationError as error:
        raise ConfigError(f"search: {readable(error, SearchConfig)}") from None
    return search.of_length(drawings) if drawings else search


def _table(space: str, preset: str, base: Experiment, scheduler: str) -> dict[str, Any]:
    if not space:
        own = preset_search(preset)
        if own is not None:
            return own
        spaces = SPACES.get(base.task, {})
        if not spaces:
            raise ConfigError(
                f"preset {preset} has no [search], and a {base.task} no shipped space: give --space FILE.toml"
            )
        space = spaces["pbt" if scheduler == "pbt" else "search"]
    if space.endswith(".toml"):
        path = Path(space)
        if not path.is_file():
            raise ConfigError(f"--space {space}: no such file")
        text = path.read_text(encoding="utf-8")
    elif space in search_names():
        text = (resources.files("doodle_dist.config") / "searches" / f"{space}.toml").read_text("utf-8")
    else:
        raise ConfigError(f"--space {space!r} is unknown{nearest(space, search_names())}")
    try:
        table = tomllib.loads(text).get(SEARCH_TABLE)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"--space {space}: {error}") from None
    if not isinstance(table, dict):
        raise ConfigError(f"--space {space}: it has no [{SEARCH_TABLE}] table")
    return table


def experiment_with(base: Experiment, settings: Mapping[str, Value]) -> Experiment:
    """``base`` with a point's settings laid over it. Raises ConfigError."""
    return build(overlay(base.model_dump(exclude_unset=True), settings))
