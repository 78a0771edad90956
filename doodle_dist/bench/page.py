"""The benchmarks' page: the bars and plots of every result, one HTML file that needs no network and no script."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from doodle_dist.bench.bars import Bar, Results
from doodle_dist.bench.full_size import PHASES, FullSize, Phase
from doodle_dist.bench.machine import Machine
from doodle_dist.evaluation.line_chart import Series, chart, short
from doodle_dist.evaluation.markup import Content, Markup, anchor, el, facts, page, section, table
from doodle_dist.evaluation.report_style import STYLE

# A chart is drawn at a phone's width, so that its text is not shrunk there: a name, and its bar below.
_WIDTH, _NAME, _BAR, _GAP = 400, 18, 14, 12
_FIGURE = 60  # room for the figure behind the longest bar
_STYLE = """
.bars { max-width: 30rem; } .bars > svg { display: block; width: 100%; height: auto; }
.charts:has(.bars) { align-items: start; } th .soft { display: block; font-weight: 400; }
.date { white-space: nowrap; }
.bars rect { fill: var(--c0); } .bars rect.ours { fill: var(--c2); } .bars text.name { fill: var(--ink); }
"""


def write_page(file: Path, found: Sequence[Bar], results: Results) -> None:
    """Write the page of what was measured."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(render(found, results))


def render(found: Sequence[Bar], results: Results) -> str:
    """The page as a string."""
    sections = [
        section("Bars", _bars(found)),
        *(section(title, *content) for title, content in _plots(results) if content),
    ]
    links = [el("li", el("a", title, href=f"#{anchor(title)}")) for title in _titles(results)]
    top = el("header", el("h1", "doodle_dist: how fast"), el("nav", el("ul", links)))
    return page("doodle_dist: how fast", [top, el("main", sections)], STYLE + _STYLE)


def _titles(results: Results) -> list[str]:
    return ["Bars", *(title for title, content in _plots(results) if content)]


def _bars(found: Sequence[Bar]) -> Markup:
    rows = [
        [
            [one.what, " ", el("span", one.against, class_="soft")] if one.against else one.what,
            el("strong", one.verdict, class_="bad") if one.verdict == "missed" else one.verdict,
            one.figure or "–",
            one.bar,
            [one.command, " ", el("span", one.date, class_="soft date")] if one.date else one.command,
        ]
        for one in found
    ]
    head = ("what, against what", "verdict", "here", "bar", "command, date")
    return table("Every bar, and this machine's figure", head, rows, words=5)


def _plots(results: Results) -> list[tuple[str, list[Content]]]:
    return [
        ("Rasterise", _raster(results)),
        ("Stream", _loaders(results)),
        ("Train", _training(results)),
        ("Fifty million", _full_size(results)),
    ]


def _beside(*charts: Markup) -> Markup:
    return el("div", *charts, class_="charts")


def _on(machine: Machine) -> Markup:
    text = f"{machine.processor}, {machine.cores} cores, Python {machine.python}, {machine.date}"
    return el("p", text, class_="soft")


def _raster(results: Results) -> list[Content]:
    found = results.raster
    if found is None:
        return []
    rows = [row for row in (found.ours, *found.others) if row.drawings_per_s and row.error]
    error = [row.error.ink_mean if row.error else None for row in rows]
    return _ours_first(
        found.machine,
        [row.name for row in rows],
        ("Drawings a second on one core", [row.drawings_per_s for row in rows]),
        ("Mean error on ink against Google's bitmaps, grey levels", error),
    )


def _loaders(results: Results) -> list[Content]:
    found = results.loaders
    if found is None:
        return []
    there = sorted((one for one in found.results if one.drawings_per_s), key=lambda one: one.name != "ours")
    speed = "Drawings a second to the consumer, from strokes unless it says rasters"
    return _ours_first(
        found.machine,
        [one.what for one in there],
        (speed, [one.drawings_per_s for one in there]),
        ("Seconds to the first batch", [one.first_batch_s for one in there]),
    )


def _ours_first(
    machine: Machine, names: Sequence[str], *charts: tuple[str, Sequence[float | None]]
) -> list[Content]:
    """Figures of ours, the first, and of others: a chart for each title and its values."""
    drawn = []
    for title, values in charts:
        bars = [(name, value or 0.0) for name, value in zip(names, values, strict=True)]
        drawn.append(bar_chart(title, bars, first_is_ours=True))
    return [_on(machine), _beside(*drawn)]


def _training(results: Results) -> list[Content]:
    content: list[Content] = []
    for title, bench in (
        ("Whole training over a plain loop with the data in memory", results.process),
        ("A step's time: the textbook loop's over ours", results.step),
    ):
        if bench:
            bars = [(one.preset, one.ratio) for one in bench.results]
            content += [_on(bench.machine), bar_chart(title, bars)]
    return content


def _full_size(results: Results) -> list[Content]:
    runs = results.full_size
    if not runs:
        return []
    last = runs[-1]
    content: list[Content] = [_on(last.machine)]
    if len(runs) > 1:
        sizes = [one.drawings for one in runs]
        memory = [Series(name, sizes, _figures(runs, name, lambda phase: phase.pss_mb)) for name in PHASES]
        speed = [
            Series(name, sizes, _figures(runs, name, lambda phase: phase.drawings_per_s))
            for name in ("prepare", "stream")
        ]
        content.append(
            _beside(
                chart("Memory of all processes, MB", memory, along="drawings"),
                chart("Drawings a second", speed, along="drawings"),
            )
        )
    content.append(
        facts(
            [
                (
                    phase.name,
                    f"{phase.seconds:,.0f} s, {phase.drawings_per_s:,.0f} drawings/s, {phase.pss_mb:,.0f} MB",
                )
                for phase in last.phases
            ]
        )
    )
    return content


def _figures(runs: Sequence[FullSize], name: str, figure: Callable[[Phase], float]) -> list[float]:
    """A figure of a phase in each run; nan where a run did not come to it."""
    return [next((figure(phase) for phase in run.phases if phase.name == name), math.nan) for run in runs]


def bar_chart(title: str, rows: Sequence[tuple[str, float]], *, first_is_ours: bool = False) -> Markup:
    """A figure: a horizontal bar a row, in the order given, its value beside it."""
    most = max((value for _, value in rows), default=0.0) or 1.0
    room = _WIDTH - _FIGURE
    drawn = []
    for k, (name, value) in enumerate(rows):
        top = k * (_NAME + _BAR + _GAP)
        length = max(round(value / most * room, 1), 1.0)
        middle = top + _NAME + _BAR / 2
        ours = "ours" if first_is_ours and not k else None
        drawn += [
            el("text", name, x=0, y=top + _NAME / 2, dominant_baseline="central", class_="name"),
            el("rect", x=0, y=top + _NAME, width=length, height=_BAR, class_=ours),
            el("text", short(value), x=length + 6, y=middle, dominant_baseline="central"),
        ]
    said = "; ".join(f"{name} {short(value)}" for name, value in rows)
    svg = el(
        "svg",
        drawn,
        viewBox=f"0 0 {_WIDTH} {len(rows) * (_NAME + _BAR + _GAP)}",
        role="img",
        aria_label=f"{title}: {said}",
    )
    return el("figure", el("figcaption", el("strong", title)), svg, class_="bars")
