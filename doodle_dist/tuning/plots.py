"""A search as pictures: objective against each axis, its best so far, importances, and what PBT changed when."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.search_space import Axis, Value, setting
from doodle_dist.tuning.courses import best_so_far, copies, lineage
from doodle_dist.tuning.ledger import Result, SearchRecord, TrialRecord
from doodle_dist.tuning.naming import short_names, shown

_DPI = 110
_PANEL_INCHES = (3.6, 2.9)
_COLUMNS = 3
_BEST, _DEFAULT, _FAILED = "#d1495b", "#7a7a7a", "#b3261e"
_LOG_FROM = 10.0  # objectives that differ by more than this factor are drawn on a logarithmic scale
_JITTER = 0.16  # of points of one category, in categories
_NAMED_TRIALS = 12
_LEGEND_COLUMNS = 7
_TICKS = 6  # of the colour bar: with more, its ends alone are named
_RING: dict[str, Any] = {
    "markersize": 11,
    "markerfacecolor": "none",
    "markeredgecolor": _BEST,
    "markeredgewidth": 1.8,
}


def objective_by_axis(record: SearchRecord, base: Experiment) -> bytes:
    """PNG: a panel for each axis, a point for each trial at its last objective, coloured by drawings reached.

    The best is ringed, the preset's own value a line; trials that failed without an objective are crosses at the
    top. Raises ValueError where no trial has an objective.
    """
    ranked = record.ranked()
    if not ranked:
        raise ValueError("no trial has an objective to draw")
    axes = _drawn_axes(record, base)
    figure, panels = _grid(len(axes))
    reached = sorted({result.drawings_seen for _, result in ranked})
    # Without the paler end, which a page swallows.
    colours = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0.9, 0, 256)))
    palest = reached[0] if len(reached) > 1 else reached[0] / 2
    mapping = ScalarMappable(LogNorm(palest, reached[-1]), colours)
    names = short_names(axis.key for axis in axes)
    for panel, axis in zip(panels, axes, strict=True):
        have = [row for row in ranked if axis.key in row[1].settings]
        panel.set_title(_title(names[axis.key], len(have), len(ranked)), fontsize=9)
        default = setting(base, axis.key)
        places = _Places(axis, panel, default)
        if places.has(default):
            panel.axvline(places(default), color=_DEFAULT, linestyle="--", linewidth=1.2, label="preset")
        _points(panel, places, axis.key, have, mapping)
        if have and have[0] is ranked[0]:
            where = places(ranked[0][1].settings[axis.key], ranked[0][0].number)
            panel.plot(where, _objectives(ranked)[0], "o", **_RING, label="best")
        _crosses(panel, places, axis, record)
        _log_if_wide(panel, _objectives(ranked))
    for panel in panels[::_COLUMNS]:
        panel.set_ylabel(record.objective, fontsize=8)
    _one_legend(figure, panels, "outside upper right")
    if len(reached) > 1:
        _colour_bar(figure, panels, mapping, reached)
    return _png(figure)


def _objectives(rows: Sequence[tuple[TrialRecord, Result]]) -> list[float]:
    return [result.objective for _, result in rows if result.objective is not None]


def _points(
    panel: Axes,
    places: "_Places",
    key: str,
    rows: Sequence[tuple[TrialRecord, Result]],
    mapping: ScalarMappable,
) -> None:
    across = [places(result.settings[key], trial.number) for trial, result in rows]
    colours = mapping.to_rgba(np.array([result.drawings_seen for _, result in rows]))
    panel.scatter(across, _objectives(rows), c=colours, s=22, linewidths=0.4, edgecolors="white")


def _one_legend(figure: Figure, panels: Sequence[Axes], where: str) -> None:
    """What the panels have in common, each label once."""
    found: dict[str, Artist] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    columns = min(len(found), _LEGEND_COLUMNS) or 1
    figure.legend(list(found.values()), list(found), loc=where, ncols=columns, fontsize=8)


def _colour_bar(figure: Figure, panels: list[Axes], colours: ScalarMappable, reached: list[int]) -> None:
    bar = figure.colorbar(colours, ax=panels, shrink=0.7, pad=0.01)
    bar.set_label("drawings reached", fontsize=8)
    bar.set_ticks(_apart(reached) if len(reached) <= _TICKS else [reached[0], reached[-1]])
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=7)


def _apart(values: Sequence[int]) -> list[int]:
    """Both ends, and what stands between them on a logarithmic scale without its label touching another."""
    least, kept = (values[-1] / values[0]) ** 0.04, [values[0]]
    for value in values[1:-1]:
        if value > kept[-1] * least and value * least < values[-1]:
            kept.append(value)
    return [*kept, values[-1]]


def _drawn_axes(record: SearchRecord, base: Experiment) -> list[Axis]:
    """The axes that some trial has: what was fixed or can't be met is none."""
    had = {key for trial in record.trials.values() for key in trial.settings}
    return [axis for axis in record.request.config.axes().possible(base).axes if axis.key in had]


def _title(name: str, have: int, of: int) -> str:
    return name if have == of else f"{name}\n(of {have} of {of} trials)"


class _Places:
    """Where a value of an axis stands in its panel, which it prepares: its range, or a strip for each category."""

    def __init__(self, axis: Axis, panel: Axes, default: object) -> None:
        draw = axis.draw
        panel.tick_params(labelsize=7)
        self.categories: list[Value] = [] if draw.is_numeric else list(draw.values)
        if self.categories:
            panel.set_xticks(range(len(self.categories)), [shown(value) for value in self.categories])
            panel.set_xlim(-0.5, len(self.categories) - 0.5)
            return
        self.low, self.high, self.is_log = draw.low, draw.high, draw.is_log
        ends = [self.low, self.high, *([float(default)] if self.has(default) else [])]  # type: ignore[arg-type]
        if draw.is_log:
            panel.set_xscale("log")
            _plain_ticks(panel, "x", self.low, self.high)
            room = (max(ends) / min(ends)) ** 0.04
            panel.set_xlim(min(ends) / room, max(ends) * room)
        else:
            room = 0.04 * (max(ends) - min(ends))
            panel.set_xlim(min(ends) - room, max(ends) + room)

    def has(self, value: object) -> bool:
        """Whether the value can be drawn: a preset's may be none, or a category that isn't searched."""
        if self.categories:
            return value in self.categories
        if not isinstance(value, int | float):
            return False
        # Far outside of the range it would squeeze all points into a corner; 0 has no place on a logarithmic axis.
        if self.is_log:
            width = math.sqrt(self.high / self.low)
            return self.low / width <= value <= self.high * width
        width = self.high - self.low
        return self.low - width / 2 <= value <= self.high + width / 2

    def __call__(self, value: Value, number: int | None = None) -> float:
        """The place; of a trial's number, so that those of one category don't hide each other."""
        if not self.categories:
            return float(value)
        shift = 0.0 if number is None else _JITTER * (2 * ((number * 0.618034) % 1) - 1)
        return self.categories.index(value) + shift


def _crosses(panel: Axes, places: _Places, axis: Axis, record: SearchRecord) -> None:
    failed = [
        places(trial.settings[axis.key], trial.number)
        for trial in record.trials.values()
        if trial.status == "failed"
        and axis.key in trial.settings
        and all(result.objective is None for result in trial.results)
    ]
    if failed:
        panel.plot(
            failed,
            [0.97] * len(failed),
            "x",
            color=_FAILED,
            markersize=5,
            transform=panel.get_xaxis_transform(),
            label="failed",
        )


def best_so_far_picture(record: SearchRecord) -> bytes:
    """PNG: the best objective against the drawings of all trials together, and against time.

    Raises ValueError where no trial has an objective.
    """
    moments = best_so_far(record)
    if not moments:
        raise ValueError("no trial has an objective to draw")
    figure = Figure(figsize=(8.4, 3.4), dpi=_DPI, layout="constrained")
    by_drawings, by_time = figure.subplots(1, 2, sharey=True)
    unit, seconds = ("hours", 3600) if moments[-1].elapsed_s > 2 * 3600 else ("minutes", 60)
    best = [moment.best for moment in moments]
    for axis, across in (
        (by_drawings, [moment.drawings_trained / 1000 for moment in moments]),
        (by_time, [moment.elapsed_s / seconds for moment in moments]),
    ):
        (line,) = axis.step(across, best, where="post", linewidth=1.6)
        axis.plot(across[-1:], best[-1:], "o", color=line.get_color(), markersize=4)
        axis.set_xlim(left=0)
        axis.grid(alpha=0.25)
    by_drawings.set(xlabel="thousand drawings, all trials together", ylabel=f"best {record.objective}")
    by_time.set(xlabel=unit)
    _log_if_wide(by_drawings, best)
    return _png(figure)


def importance_bars(shares: Mapping[str, float], drawings: int) -> bytes:
    """PNG: a bar for each axis, the largest at the top. Raises ValueError without any."""
    if not shares:
        raise ValueError("no axis has an importance")
    ordered = sorted(shares.items(), key=lambda item: item[1])
    names = short_names(shares)
    figure = Figure(figsize=(6.4, 0.8 + 0.32 * len(ordered)), dpi=_DPI, layout="constrained")
    axis = figure.subplots()
    bars = axis.barh([names[key] for key, _ in ordered], [share for _, share in ordered], color="#3d6fb4")
    axis.bar_label(bars, [f"{share:.0%}" for _, share in ordered], padding=3, fontsize=8)
    axis.set_xlim(0, 1.12 * ordered[-1][1])
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.set_xlabel(f"share of importance at {drawings:,} drawings", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def pbt_schedules(record: SearchRecord, base: Experiment) -> bytes:
    """PNG: each setting over drawings seen, a line for each trial, an arrow from donor to copier for each copy.

    The way of the model that was best at the end is the thick line. The last panel is the objective. Raises
    ValueError where no trial has reported.
    """
    trials = [trial for trial in record.trials.values() if trial.results]
    if not trials or record.best is None:
        raise ValueError("no trial has an objective to draw")
    axes = _drawn_axes(record, base)
    figure, panels = _grid(len(axes) + 1)
    way = lineage(record, record.best[0].number)
    names = short_names(axis.key for axis in axes)
    for panel, axis in zip(panels, axes, strict=False):
        panel.set_title(names[axis.key], fontsize=9)
        heights = _heights(axis, panel)
        for trial in trials:
            _course(panel, trial, [heights(result.settings.get(axis.key)) for result in trial.results])
        known = [stretch for stretch in way if axis.key in stretch.settings]
        across = [at for one in known for at in (one.drawings_from, one.drawings_to)]
        up = [heights(one.settings[axis.key]) for one in known for _ in range(2)]
        panel.plot(across, up, color=_BEST, linewidth=2.6, alpha=0.85, label="way of the best", zorder=4)
        _arrows(panel, record, partial(_height_of, key=axis.key, heights=heights))
    last = panels[-1]
    last.set_title(record.objective, fontsize=9)
    for trial in trials:
        reports = [(trial, result) for result in trial.results if result.objective is not None]
        last.plot(
            [result.drawings_seen for _, result in reports],
            _objectives(reports),
            ".-",
            color=_trial_colour(trial),
            linewidth=0.9,
            markersize=4,
            label=f"trial {trial.number}" if len(trials) <= _NAMED_TRIALS else None,
        )
    _log_if_wide(last, _objectives([(trial, result) for trial in trials for result in trial.results]))
    last.tick_params(labelsize=7)
    for panel in panels:
        panel.set_xlabel("drawings seen", fontsize=8)
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _one_legend(figure, panels, "outside lower center")
    return _png(figure)


def _heights(axis: Axis, panel: Axes) -> Callable[[Value | None], float]:
    """The place of a value on a panel's vertical scale, which it prepares; nan for a value that isn't there."""
    draw = axis.draw
    panel.tick_params(labelsize=7)
    if draw.is_log:
        panel.set_yscale("log")
        _plain_ticks(panel, "y", draw.low, draw.high)
    if not draw.is_numeric:
        panel.set_yticks(range(len(draw.values)), [shown(value) for value in draw.values])
        panel.set_ylim(-0.4, len(draw.values) - 0.6)

    def height(value: Value | None) -> float:
        if value is None:
            return math.nan
        return float(value) if draw.is_numeric else float(draw.values.index(value))

    return height


def _height_of(result: Result, key: str, heights: Callable[[Value | None], float]) -> float:
    return heights(result.settings.get(key))


def _course(panel: Axes, trial: TrialRecord, heights: Sequence[float]) -> None:
    """A trial's setting as steps: level through what was trained with it, broken where it was copied."""
    across: list[float] = []
    up: list[float] = []
    at = 0
    for result, height in zip(trial.results, heights, strict=True):
        if result.copied_at is not None:
            at = result.copied_at
            across.append(math.nan)
            up.append(math.nan)
        across += [at, result.drawings_seen]
        up += [height, height]
        at = result.drawings_seen
    panel.plot(across, up, color=_trial_colour(trial), linewidth=1.1, alpha=0.75)


def _arrows(panel: Axes, record: SearchRecord, height: Callable[[Result], float]) -> None:
    """From where the donor's setting was at a copy to where the copier's was after it."""
    for trial, place in copies(record):
        result = trial.results[place]
        donor = record.trials.get(result.copied_from if result.copied_from is not None else -1)
        given = [one for one in donor.results if one.drawings_seen == result.copied_at] if donor else []
        if not given or result.copied_at is None:
            continue
        middle = (result.copied_at + result.drawings_seen) / 2
        panel.annotate(
            "",
            (middle, height(result)),
            (result.copied_at, height(given[-1])),
            arrowprops={"arrowstyle": "->", "color": _trial_colour(trial), "linewidth": 0.9, "shrinkA": 0},
        )


def _trial_colour(trial: TrialRecord) -> str:
    # Without tab10's red, which is the best's.
    return f"C{(0, 1, 2, 4, 5, 6, 7, 8, 9)[trial.number % 9]}"


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * columns + 0.8, height * rows + 0.4), dpi=_DPI, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels[count:]:
        panel.remove()
    return figure, panels[:count]


def _log_if_wide(axis: Axes, values: Sequence[float]) -> None:
    if values and min(values) > 0 and max(values) > _LOG_FROM * min(values):
        axis.set_yscale("log")
        _plain_ticks(axis, "y", min(values), max(values))


def _plain_ticks(axis: Axes, which: str, low: float, high: float) -> None:
    """Numbers and not powers on a logarithmic scale, at 1, 2 and 5 where it is short."""
    one = axis.xaxis if which == "x" else axis.yaxis
    decades = math.log10(high / low)
    one.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 1.5 else (1, 3) if decades < 3 else (1,)))
    one.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1000 else f"{value:.3g}")
    one.set_minor_formatter(NullFormatter())


def _png(figure: Figure) -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return sink.getvalue()
