"""What a search varies: a ``[search]`` table, read, typed and checked against the experiment. No Ray, no torch.

An axis is one setting that is drawn: ``"optim.generator.lr" = "loguniform(1e-4, 1e-2)"``. With conditions, or
with settings that follow it, it is a table::

    "gan.noise.decay_drawings" = { draw = "logint(1_000, 20_000)", when = { "gan.noise.decay" = ["linear"] } }
    "gan.adversarial.r1_gamma_start" = { draw = "loguniform(0.1, 30)", also = ["gan.adversarial.r2_gamma_start"] }
"""

import math
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import (
    SEARCH_TABLE,
    ConfigError,
    build,
    overlay,
    preset_search,
    readable,
    text_of,
)
from doodle_dist.config.model import Section
from doodle_dist.config.names import nearest
from doodle_dist.config.search_space import Axis, Draw, SearchSpace, Value


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

    @field_validator("space", mode="before")
    @classmethod
    def _axes_are_draws_or_tables(cls, space: Any) -> Any:
        for key, axis in space.items() if isinstance(space, dict) else ():
            if not isinstance(axis, dict):
                continue
            if "draw" not in axis:
                raise ValueError(
                    f"{key}: an axis that is a table needs draw (a dotted key stands in quotes: "
                    '"optim.generator.lr" = …)'
                )
            try:
                AxisTable.model_validate(axis)
            except ValidationError as error:
                raise ValueError(f"{key}: {readable(error, AxisTable)}") from None
        return space

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
        # Of the one that the scheduler uses: the other is a default that nobody gave, mostly.
        name = {"asha": "first_rung", "pbt": "perturb_every"}.get(self.scheduler)
        if name and getattr(self, name) > self.drawings:
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
    axes = table.get("space", {})
    for text in extra if isinstance(axes, dict) else ():  # what else it is SearchConfig refuses
        key, equals, draw = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"--search-space {text!r} is not key=draw, such as optim.critic.lr=loguniform(1e-5,1e-2)"
            )
        had = axes.get(key.strip())
        axis = {**had, "draw": draw.strip()} if isinstance(had, dict) else draw.strip()
        axes = {**axes, key.strip(): axis}
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
            if not isinstance(own, dict):
                raise ConfigError(f"preset {preset}: {SEARCH_TABLE}={own!r} should be a table")
            return own
        spaces = SPACES.get(base.task, {})
        if not spaces:
            raise ConfigError(
                f"preset {preset} has no [search], and a {base.task} no shipped space: give --space FILE.toml"
            )
        space = spaces["pbt" if scheduler == "pbt" else "search"]
    if space.endswith(".toml"):
        text = text_of(space, "--space")
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
