"""Points of a search: draws, axes, and the space that they span. No tables, no Ray, no torch."""

import math
import random
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal, Self

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import ConfigError, flattened
from doodle_dist.config.names import nearest

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
        if not all(map(math.isfinite, self.values)):  # type: ignore[arg-type]
            raise ValueError(f"{text!r}: {self.kind} takes finite numbers")
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
        ``given`` a value have that. Seeds of a grid are gone through first, each with the same point."""
        grid = sorted(self.grid, key=lambda axis: axis.key != "seed")
        places = dict(zip((axis.key for axis in grid), _digits(trial, grid), strict=True))
        repeats = len(grid[0].draw.values) if grid and grid[0].key == "seed" else 1
        rng = random.Random(f"{seed}/{trial // repeats}")
        # Every axis has its share drawn, active or not: one more axis at the end changes no other's values.
        shares = {axis.key: rng.random() for axis in self.axes}

        def pick(axis: Axis) -> Value:
            if given and axis.key in given:
                return given[axis.key]
            if axis.key in places:
                return axis.draw.values[places[axis.key]]
            return axis.draw.at(shares[axis.key])

        return self.settings(base, pick)

    def points(self, base: Experiment, seed: int, trials: int) -> list[Settings]:
        """The first random points of a search, as many as ``trials``; of grids alone each once, and so maybe fewer.

        Where a condition leaves an axis out, its whole grid would be gone through with the same point.
        """
        if self.size is None:
            return [self.sampled(base, seed, trial) for trial in range(trials)]
        return list(islice(_each_once(self.sampled(base, seed, trial) for trial in range(self.size)), trials))

    @property
    def grid(self) -> list[Axis]:
        """The axes that are gone through value by value."""
        return [axis for axis in self.axes if axis.draw.kind == "grid"]

    @property
    def size(self) -> int | None:
        """How many points there are at most; None where some axis is drawn at random."""
        if len(self.grid) < len(self.axes):
            return None
        return math.prod(len(axis.draw.values) for axis in self.axes)

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


def _each_once(points: Iterable[Settings]) -> Iterator[Settings]:
    seen: set[frozenset[tuple[str, Value]]] = set()
    for point in points:
        if (values := frozenset(point.items())) not in seen:
            seen.add(values)
            yield point


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
