"""Curves as inline SVG, whose colours are the page's: legible on a light and on a dark one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from doodle_dist.evaluation.markup import Content, Markup, el

# In the SVG's own units, about a CSS pixel each: a chart is as wide as a phone, or a column of a desktop's.
_WIDTH, _HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 10, 36
_POINTS = 300
_MARKED = 12  # so few points are marked each
_COLOURS = 6
# A range of more than this is drawn on a logarithmic axis, where all values are positive.
_LOGARITHMIC = 1000.0
# An axis spans at least this share of its values, so that what hardly changes looks like it.
_LEAST_RANGE = 0.05


@dataclass(frozen=True)
class Series:
    """A curve: values against drawings seen. A value that is not finite is a gap in it."""

    name: str
    drawings: Sequence[float]
    values: Sequence[float]


def chart(title: str, series: Sequence[Series], along: str = "drawings seen") -> Markup:
    """A figure: the curves against drawings seen, their legend, and what they say as text for who can't see them.

    ``series`` have at least one finite value among them. ``along`` names the axis where it is another.
    """
    lines = [_thinned(_points(one)) for one in series]
    xs = [x for line in lines for x, y in line if y is not None]
    ys = [y for line in lines for _, y in line if y is not None]
    logarithmic = min(ys) > 0 and max(ys) / min(ys) > _LOGARITHMIC
    across = _Scale(min(0.0, *xs), max(xs), _LEFT, _WIDTH - _RIGHT)
    up = _Scale(min(ys), max(ys), _HEIGHT - _BOTTOM, _TOP, logarithmic=logarithmic)
    drawn = [_curve(line, across, up, k) for k, line in enumerate(lines)]
    svg = el(
        "svg",
        _axes(across, up, along),
        drawn,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=f"{title}, against {along}. {' '.join(map(_said, series))}",
    )
    keys = [el("li", _key(k), one.name) for k, one in enumerate(series)]
    heading: Content = [el("strong", title), " (logarithmic)" if logarithmic else None]
    named = len(series) > 1 or series[0].name != title
    legend = el("ul", keys, class_="legend") if named else None
    return el("figure", el("figcaption", heading, legend), svg, class_="chart")


def reliability_chart(bins: Sequence[tuple[float, float]], error: float) -> Markup:
    """A figure: the share read right against confidence, (confidence, share) each, beside the diagonal."""
    across = _Scale(0.0, 1.0, _LEFT, _WIDTH - _RIGHT)
    up = _Scale(0.0, 1.0, _HEIGHT - _BOTTOM, _TOP)
    diagonal = el("path", d=f"M{across(0)} {up(0)}L{across(1)} {up(1)}", class_="dashed")
    drawn = _curve([(x, y) for x, y in bins], across, up, 0, marked=True)
    said = f"Share read right against confidence; expected calibration error {error:.4f}"
    svg = el(
        "svg",
        _axes(across, up, "confidence"),
        diagonal,
        drawn,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=said,
    )
    return el(
        "figure", el("figcaption", el("strong", said), "; dashed: as sure as right."), svg, class_="chart"
    )


def short(value: float) -> str:
    """A number for an axis: 12.5M, 40k, 0.25, 3e-05."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}" if abs(value) < 1e13 else f"{value:.0e}"
    return f"{value:.3g}"


def _points(series: Series) -> list[tuple[float, float | None]]:
    pairs = zip(series.drawings, series.values, strict=True)
    return [(x, y if math.isfinite(y) else None) for x, y in pairs]


def _thinned(points: list[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """At most about 300 points: of each stretch the lowest, the highest and a gap, so that no spike is lost."""
    if len(points) <= _POINTS:
        return points
    size = -(-len(points) // (_POINTS // 2))
    kept: set[int] = {0, len(points) - 1}
    for first in range(0, len(points), size):
        stretch = range(first, min(first + size, len(points)))
        known = [(value, k) for k in stretch if (value := points[k][1]) is not None]
        kept |= {min(known)[1], max(known)[1]} if known else set()
        kept |= {next((k for k in stretch if points[k][1] is None), first)}
    return [points[k] for k in sorted(kept)]


class _Scale:
    """From values to the SVG's units, and the ticks between. Both ends are widened to ticks on a value's axis."""

    def __init__(
        self, low: float, high: float, start: float, end: float, *, logarithmic: bool = False
    ) -> None:
        self.logarithmic = logarithmic
        if logarithmic:
            low, high = math.floor(math.log10(low)), math.ceil(math.log10(high))
            step = float(max(1, math.ceil((high - low) / 5)))
        else:
            least = _LEAST_RANGE * max(abs(low), abs(high)) or 1.0
            if high - low < least:
                low, high = (low + high - least) / 2, (low + high + least) / 2
            rough = (high - low) / 4
            power = 10.0 ** math.floor(math.log10(rough))
            step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        self.places = [k * step for k in range(first, last + 1)]
        self.low, self.high, self.start, self.end = self.places[0], self.places[-1], start, end

    @property
    def ticks(self) -> list[tuple[float, str]]:
        return [
            (self._place(at), short(10.0**at if self.logarithmic else round(at, 12))) for at in self.places
        ]

    def __call__(self, value: float) -> float:
        return self._place(math.log10(value) if self.logarithmic else value)

    def _place(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def _axes(across: _Scale, up: _Scale, along: str = "drawings seen") -> list[Markup]:
    rules = [el("path", d=f"M{_LEFT} {y}H{_WIDTH - _RIGHT}", class_="rule") for y, _ in up.ticks]
    left = [
        el("text", text, x=_LEFT - 6, y=y, text_anchor="end", dominant_baseline="central")
        for y, text in up.ticks
    ]
    ends = {0: "start", len(across.ticks) - 1: "end"}
    below = [
        el("text", text, x=x, y=_HEIGHT - _BOTTOM + 14, text_anchor=ends.get(k, "middle"))
        for k, (x, text) in enumerate(across.ticks)
    ]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    name = el("text", along, x=middle, y=_HEIGHT - 5, text_anchor="middle")
    return [*rules, *left, *below, name]


def _curve(
    points: Sequence[tuple[float, float | None]],
    across: _Scale,
    up: _Scale,
    number: int,
    *,
    marked: bool = False,
) -> Markup:
    steps, pen_down, known = [], False, []
    for x, y in points:
        if y is None:
            pen_down = False
            continue
        known.append((across(x), up(y)))
        steps.append(f"{'L' if pen_down else 'M'}{known[-1][0]} {known[-1][1]}")
        pen_down = True
    marks = [el("circle", cx=x, cy=y, r=2.5) for x, y in known] if marked or len(known) <= _MARKED else []
    return el("g", el("path", d="".join(steps)), marks, class_=f"curve c{number % _COLOURS}")


def _key(number: int) -> Markup:
    line = el("path", d="M0 5H22")
    return el(
        "svg",
        el("g", line, class_=f"curve c{number % _COLOURS}"),
        viewBox="0 0 22 10",
        class_="key",
        aria_hidden="true",
    )


def _said(series: Series) -> str:
    known = [y for _, y in _points(series) if y is not None]
    if not known:
        return f"{series.name}: no finite value."
    return f"{series.name}: {known[0]:.4g} at first, {known[-1]:.4g} at last, {min(known):.4g} to {max(known):.4g}."
