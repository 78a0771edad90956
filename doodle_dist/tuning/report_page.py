"""A search's report as one HTML file, which fetches nothing and runs nothing."""

from collections.abc import Mapping

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.search_space import Settings, Value, setting
from doodle_dist.data import locations
from doodle_dist.evaluation.markup import (
    Content,
    Markup,
    anchor,
    breakable,
    el,
    facts,
    folded,
    page,
    picture,
    scrolling,
    section,
    table,
)
from doodle_dist.evaluation.report_style import STYLE
from doodle_dist.progress_line import duration
from doodle_dist.tuning.found import (
    BEST,
    BY_AXIS,
    IMPORTANCE,
    SCHEDULES,
    SO_FAR,
    Found,
    Row,
    counted,
    figure,
    flattered,
    retrain_command,
)
from doodle_dist.tuning.ledger import SearchRecord
from doodle_dist.tuning.naming import short, short_names, shown

_SHOWN = 10
_ROUGH_BELOW = 30
_NONE = "–"
# Grids of panels are read from this width on, and scroll on a narrower screen.
_STYLE = """
dt, .cards span { overflow-wrap: break-word; }
.scroll img.wide { max-width: 100%; min-width: 56rem; }
"""


def page_of(
    record: SearchRecord, base: Experiment, found: Found, pictures: Mapping[str, bytes], best: str
) -> str:
    """The report. ``pictures`` are PNGs by their files' names, ``best`` is `best.toml`'s text, "" without one."""
    parts: list[tuple[str, list[Content]]] = [
        ("Best", _best(record, base, found)),
        ("Trials", _trials(record, found)),
        ("Failed", _failed(record, found)),
        ("Axes", _axes(found, pictures)),
        ("Course", _course(pictures)),
        ("Population", _population(record, found, pictures)),
        ("Request", _request(record, best)),
    ]
    kept = [(title, content) for title, content in parts if content]
    links = [el("li", el("a", title, href=f"#{anchor(title)}")) for title, _ in kept]
    title = f"Search {locations.basename(record.uri)}"
    top = el(
        "header",
        el("h1", title),
        el("p", f"{counted(record)}. {_how(found)}", class_="soft"),
        _cards(found),
        el("nav", el("ul", links), aria_label="parts of this report"),
    )
    return page(title, [top, el("main", [section(name, content) for name, content in kept])], STYLE + _STYLE)


def _how(found: Found) -> str:
    goal = "low" if found.mode == "min" else "high"
    points = "points chosen by Optuna's TPE" if found.searcher == "optuna" else "random points"
    ends = {
        "asha": "asynchronous successive halving ends the worse ones early",
        "pbt": "population based training changes settings on the way",
    }.get(found.scheduler, "every trial is trained to its end")
    return f"By {found.objective}, which should be {goal}: {points}, seed {found.seed}; {ends}."


def _cards(found: Found) -> Markup:
    best = found.leaderboard[0] if found.leaderboard else None
    over = sum(found.trials.get(status, 0) for status in ("finished", "stopped", "failed"))
    cards = [
        (figure(best.objective) if best else _NONE, f"best {found.objective}"),
        (f"{over} / {found.asked}", "trials over"),
        (f"{found.drawings_seen:,}", "drawings, all trials together"),
        (duration(found.elapsed_s), "hours : minutes : seconds"),
    ]
    return el(
        "ul",
        [el("li", el("strong", value), el("span", breakable(what))) for value, what in cards],
        class_="cards",
    )


def _best(record: SearchRecord, base: Experiment, found: Found) -> list[Content]:
    if not found.leaderboard:
        return [el("p", "No trial has reached an objective, so there is no best one.")]
    row = found.leaderboard[0]
    draws = {axis.key: str(axis.draw) for axis in record.request.config.axes().axes}
    rows = [
        [key, _value(row.settings, key), _default(setting(base, key)), draws[key]]
        for key in _searched(record)
    ]
    said = [
        ("trial", str(row.trial)),
        (found.objective, figure(row.objective)),
        *([("with fresh seeds", row.fresh)] if row.fresh else []),
        ("drawings seen", f"{row.drawings_seen:,}"),
        ("as a preset", el("code", BEST)),
    ]
    caption = "Settings of the best trial, and those of the preset that the search began from"
    return [
        facts(said),
        table(caption, ["setting", "best", "preset", "drawn from"], rows),
        el("p", flattered(record)),
        el("pre", el("code", retrain_command(record)), tabindex=0),
    ]


def _trials(record: SearchRecord, found: Found) -> list[Content]:
    rows = found.leaderboard
    if not rows:
        return []
    caption = (
        "The best trials: first by the mean over fresh seeds where they were trained again, then by the drawings they "
        "got to, then by the objective there, since a trial that was ended early was worse at that point"
    )
    shown_rows = _ranking(record, found, rows[:_SHOWN], caption)
    if len(rows) <= _SHOWN:
        return [shown_rows]
    everyone = _ranking(record, found, rows, "Every trial with an objective")
    return [shown_rows, folded(f"all {len(rows)} trials with an objective", everyone)]


def _ranking(record: SearchRecord, found: Found, rows: list[Row], caption: str) -> Markup:
    keys = _searched(record)
    names = short_names(keys)
    fresh = ["fresh seeds"] if any(row.fresh for row in rows) else []
    head = ["place", "trial", "ended", "drawings", found.objective, *fresh, *(names[key] for key in keys)]
    cells: list[list[Content]] = [
        [
            str(row.place),
            str(row.trial),
            row.status,
            f"{row.drawings_seen:,}",
            figure(row.objective),
            *([row.fresh] if fresh else []),
            *(_value(row.settings, key) for key in keys),
        ]
        for row in rows
    ]
    return table(caption, head, cells)


def _failed(record: SearchRecord, found: Found) -> list[Content]:
    if not found.failed:
        return []
    rows: list[list[Content]] = [
        [str(one.trial), one.reason, short(one.settings, record), f"{one.drawings_seen:,}"]
        for one in found.failed
    ]
    caption = "Trials that failed, where they last reported, and why; the search went on without them"
    return [table(caption, ["trial", "reason", "settings", "drawings"], rows, words=3)]


def _axes(found: Found, pictures: Mapping[str, bytes]) -> list[Content]:
    if BY_AXIS not in pictures:
        return []
    caption = (
        f"{found.objective} of each trial at its last report against each axis. The darker a point, the further its "
        "trial got: points of one shade can be compared, others had more or fewer drawings. Crosses are trials that "
        "failed without an objective."
    )
    scatter = _wide(pictures[BY_AXIS], "A scatter plot for each axis", caption)
    if not found.importance:
        return [scatter, el("p", f"No importances: {found.importance_none}.")]
    said = (
        f"How far the values of the best trials, a quarter and five at least, differ from those of all, at "
        f"{found.importance_drawings:,} drawings, which all of them reached (PED-ANOVA, in shares of their sum). An "
        "axis that only some trials have is judged among those. It says what told good from bad in this space and at "
        "that length, and not which way to go."
    )
    trials = len(found.leaderboard)
    if trials < _ROUGH_BELOW:
        said += f" With {trials} trials it is a rough guess."
    rows = [[key, f"{share:.1%}"] for key, share in found.importance.items()]
    bars = picture(pictures[IMPORTANCE], "A bar for each axis; the table below has its figures", said)
    return [scatter, bars, folded("as figures", table("Importance", ["axis", "share"], rows))]


def _course(pictures: Mapping[str, bytes]) -> list[Content]:
    if SO_FAR not in pictures:
        return []
    caption = (
        "The best objective of any report so far, against the drawings that all trials together had been trained "
        "on, and against the time that the search ran."
    )
    return [picture(pictures[SO_FAR], "Two curves that only get better", caption)]


def _population(record: SearchRecord, found: Found, pictures: Mapping[str, bytes]) -> list[Content]:
    if SCHEDULES not in pictures:
        return []
    caption = (
        f"Each setting over drawings seen, a line for each trial. Arrows are copies, {found.copies} in all: from the "
        "donor's setting to the copier's after it. The thick line is the way of the model that was best at the end."
    )
    keys = _searched(record)
    names = short_names(keys)
    rows: list[list[Content]] = [
        [
            f"{one.drawings_from:,} – {one.drawings_to:,}",
            str(one.trial),
            *(_value(one.settings, key) for key in keys),
        ]
        for one in found.lineage
    ]
    way = table("The way of the best model", ["drawings", "trial", *(names[key] for key in keys)], rows)
    said = "The settings of every trial over drawings seen; the table below has the best one's"
    return [_wide(pictures[SCHEDULES], said, caption), way]


def _request(record: SearchRecord, best: str) -> list[Content]:
    request = record.request
    config = request.config
    said: list[tuple[str, Content]] = [
        ("folder", locations.public(record.uri)),
        ("preset", str(request.experiment.get("preset", ""))),
        ("trials", str(request.trials)),
        ("scheduler", request.scheduler),
        ("points", request.searcher),
        ("seed of the points", str(request.seed)),
        ("drawings of a trial", f"{config.drawings:,}"),
        ("trials judged at", ", ".join(f"{seen:,}" for seen in _judged_at(record))),
    ]
    rows: list[list[Content]] = [
        [
            axis.key,
            str(axis.draw),
            "; ".join(f"{key} is {' or '.join(map(shown, values))}" for key, values in axis.when),
            ", ".join(axis.also),
        ]
        for axis in config.axes().axes
    ]
    space = table("What was asked for", ["axis", "drawn from", "where", "also sets"], rows, words=4)
    toml = folded(BEST, el("pre", el("code", best), tabindex=0)) if best else None
    return [facts(said), folded("the space", space), toml]


def _wide(png: bytes, alt: str, caption: str) -> Markup:
    return scrolling(alt, picture(png, alt, caption, class_="wide"))


def _judged_at(record: SearchRecord) -> list[int]:
    """Drawings seen at which some trial reported."""
    return sorted({result.drawings_seen for trial in record.trials.values() for result in trial.results})


def _searched(record: SearchRecord) -> list[str]:
    """The axes that some trial has, in the space's order."""
    had = {key for trial in record.trials.values() for key in trial.settings}
    return [key for key in record.request.config.space if key in had]


def _value(settings: Settings, key: str) -> str:
    return shown(settings[key]) if key in settings else _NONE


def _default(value: Value | None) -> str:
    return _NONE if value is None else shown(value)
