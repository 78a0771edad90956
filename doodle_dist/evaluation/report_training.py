"""What a report says of the way of a run: its samples, curves, checkpoints, speed, cost and failures."""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from statistics import fmean, median

from doodle_dist.config.experiment import Experiment
from doodle_dist.evaluation.attempts import Attempt, Cost, cost_of, repeated_drawings
from doodle_dist.evaluation.history import PANELS, Curve, Panel
from doodle_dist.evaluation.line_chart import Series, chart
from doodle_dist.evaluation.markup import Content, Markup, el, facts, folded, join, picture, scrolling, table
from doodle_dist.pictures import GAP
from doodle_dist.progress_line import duration
from doodle_dist.run.files import EVENTS
from doodle_dist.run.folder import RunInfo

SPEED, WAIT = "speed/drawings_per_s", "speed/data_wait_fraction"
_LARGE_PX = 760
_ROWS_NAMED = 40

# Beside the panels of `doodle-dist curves`, in the same form. A task of one net logs its last step's norm.
_MORE: tuple[Panel, ...] = (
    ("gradient norm", {"optim/gradient_norm": "gradient norm"}, {}),
    (
        "largest gradient norm",
        {"optim/gradient_norm_max_critic": "critic", "optim/gradient_norm_max_generator": "generator"},
        {},
    ),
    (
        "learning rate",
        {
            "optim/lr": "learning rate",
            "optim/lr_critic": "critic",
            "optim/lr_generator": "generator",
        },
        {},
    ),
    ("validation loss", {"val/loss": "validation loss"}, {}),
)
_VALIDATION = "val/"
# Shown as numbers elsewhere, or of no use as a curve.
_LEFT_OUT = {"val/balanced_standard_error"}


# --- samples --------------------------------------------------------------------------------------------


def samples(grids: Mapping[int, bytes], categories: Sequence[str], side: int) -> Markup | None:
    """The last grid large, and those on the way there in a row."""
    if not grids:
        return None
    last = max(grids)
    rows = _rows_of(grids[last], categories, side)
    asked = "by the category that was asked for"  # a generator may not see it
    order = f"rows from the top, {asked}: {rows}" if rows else f"rows {asked}"
    width = _width(grids[last])
    ink = "" if _is_rgb(grids[last]) else ", white ink on black"
    large = picture(
        grids[last],
        f"Samples after {last:,} drawings; {order}",
        f"After {last:,} drawings. The same latents each time{ink}; {order}.",
        class_="pixels",
        width=width * max(1, _LARGE_PX // width),
    )
    if len(grids) == 1:
        return large
    way = [
        picture(png, f"Samples after {seen:,} drawings", f"{seen:,}", class_="pixels", width=_width(png))
        for seen, png in sorted(grids.items())
    ]
    return join(
        el("h3", "On the way, by drawings seen"),
        scrolling("Sample grids on the way", el("div", way, class_="moments")),
        el("h3", "At the end"),
        large,
    )


def _rows_of(png: bytes, categories: Sequence[str], side: int) -> str:
    if not side:
        return ""
    count = (int.from_bytes(png[20:24], "big") - GAP) // (side + GAP)
    named = list(categories[: min(count, _ROWS_NAMED)])
    return ", ".join(named) + (" and so on" if count > _ROWS_NAMED else "")


def _width(png: bytes) -> int:
    return max(1, int.from_bytes(png[16:20], "big"))  # of the file's IHDR, in pixels


def _is_rgb(png: bytes) -> bool:
    return png[25:26] == b"\x02"  # IHDR's type of colour


# --- curves ---------------------------------------------------------------------------------------------


def curves(found: Mapping[str, Curve]) -> Markup | None:
    """A chart for each panel that the run has curves of."""
    charts = [chart(title, series) for title, series in _panels(found) if _is_known(series)]
    if not charts:
        return el("p", "The run has not logged yet.")
    return el("div", charts, class_="charts few" if len(charts) < 3 else "charts")


def _panels(found: Mapping[str, Curve]) -> Iterator[tuple[str, list[Series]]]:
    shown = set(_LEFT_OUT)
    for title, left, right in (*PANELS, *_MORE):
        yield _capital(title), _series(found, left)
        for name, label in right.items():
            if any(found[name].values if name in found else ()):
                yield _capital(label), _series(found, {name: label})
        shown |= {*left, *right}
    rest = [name for name in found if name.startswith(_VALIDATION) and name not in shown]
    yield "Validation", _series(found, {name: name.removeprefix(_VALIDATION) for name in rest})


def _series(found: Mapping[str, Curve], names: Mapping[str, str]) -> list[Series]:
    return [Series(label, found[n].drawings, found[n].values) for n, label in names.items() if n in found]


def _is_known(series: Sequence[Series]) -> bool:
    return any(math.isfinite(value) for one in series for value in one.values)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def checkpoints(info: RunInfo) -> Markup | None:
    """The checkpoints that are kept, with the figures that each was made with."""
    if not info.checkpoints:
        return el("p", "None was reached.")
    names = sorted(
        {
            name
            for one in info.checkpoints
            for name in one.metrics
            if name.startswith(("val/", "judge/")) and name not in _LEFT_OUT
        }
    )
    heads = [
        f"after {one.drawings_seen:,}" + (" (best)" if one is info.best else "") for one in info.checkpoints
    ]
    scores = [one.score for one in info.checkpoints]
    values = [("score", scores)] + [(n, [one.metrics.get(n) for one in info.checkpoints]) for n in names]
    rows = [(name, *("–" if v is None else f"{v:.4f}" for v in found)) for name, found in values]
    return table("Checkpoints in the run's folder, by drawings seen", ("figure", *heads), rows)


# --- speed and cost -------------------------------------------------------------------------------------


def summary(attempts: Sequence[Attempt], found: Mapping[str, Curve]) -> list[tuple[str, str]]:
    """Value and name of the two figures that a reader looks for first."""
    cards = []
    if hours := _hours_of_training(found):
        cards.append((f"{found[SPEED].drawings[-1] / hours / 3600:,.0f}", "drawings/s"))
    if attempts:
        cards.append((f"{cost_of(attempts).worker_hours:.2f}", "worker-hours"))
    return cards


def speed(found: Mapping[str, Curve]) -> Markup | None:
    """Drawings per second and the share of time that workers waited for data, over the run."""
    if SPEED not in found or not _is_known(_series(found, {SPEED: ""})):
        return None
    rates = [value for value in found[SPEED].values if math.isfinite(value)]
    waits = [value for value in found[WAIT].values if math.isfinite(value)] if WAIT in found else []
    rows = [
        (
            "drawings a second",
            f"{median(rates):,.0f} (median of the logs); {min(rates):,.0f} to {max(rates):,.0f}",
        ),
        ("waiting for data", f"{fmean(waits):.1%} of the time (mean of the logs)" if waits else ""),
    ]
    charts = [
        chart(title, _series(found, {name: title}))
        for name, title in ((SPEED, "Drawings per second"), (WAIT, "Share of time waiting for data"))
        if _is_known(_series(found, {name: title}))
    ]
    note = el("p", "Evaluations and checkpoints are left out of both.", class_="soft")
    return join(facts(rows), note, el("div", charts, class_="charts few"))


def cost(
    attempts: Sequence[Attempt],
    found: Mapping[str, Curve],
    experiment: Experiment | None,
    price_per_hour: float | None,
) -> Markup | None:
    """Worker-hours, and the money where a price is given: as noted, else estimated from the logged speeds."""
    if attempts:
        spent = cost_of(attempts)
        how = "From each start of the workers to its last sign of life; time between starts is left out."
    else:
        hours = _hours_of_training(found)
        if not hours or experiment is None:
            return None
        scaling = experiment.scaling
        spent = Cost(
            hours,
            hours * scaling.workers,
            hours * scaling.workers * scaling.cpus_per_worker,
            hours * scaling.workers * scaling.gpus_per_worker,
        )
        how = (
            f"Estimated: the run has no {EVENTS}, so this is what its logged speeds come to on the workers it was "
            "asked for; starting, evaluations and lost work are left out."
        )
    rows: list[tuple[str, Content]] = [
        ("wall time", duration(round(spent.wall_hours * 3600))),
        ("worker-hours", f"{spent.worker_hours:.3f}"),
        ("CPU-hours", f"{spent.cpu_hours:.3f}"),
        ("GPU-hours", f"{spent.gpu_hours:.3f}" if spent.gpu_hours else "none"),
    ]
    if price_per_hour is not None:
        money = price_per_hour * spent.worker_hours
        rows.append(("money", f"{money:,.2f}, at {price_per_hour:g} for an hour of a worker"))
    return join(facts(rows), el("p", how, class_="soft"))


def _hours_of_training(found: Mapping[str, Curve]) -> float:
    """What the logged speeds come to; 0 where none was logged."""
    if SPEED not in found:
        return 0.0
    curve, before, seconds = found[SPEED], 0, 0.0
    for drawings, rate in zip(curve.drawings, curve.values, strict=True):
        if math.isfinite(rate) and rate > 0:
            seconds += (drawings - before) / rate
            before = drawings
    return seconds / 3600


# --- failures -------------------------------------------------------------------------------------------


def failures(info: RunInfo, attempts: Sequence[Attempt], found: Mapping[str, Curve]) -> Markup:
    """What went wrong and what became of it: starts, warnings, stops, steps that were not finite."""
    parts: list[Content] = [el("p", _verdict(info, attempts))]
    if attempts:
        parts.append(_starts(attempts))
    noted = [(name, f"{seen:,}", said) for one in attempts for seen, name, said in one.warnings]
    # A run that repeats the drawings after a checkpoint meets the same once more.
    warnings = list(dict.fromkeys(noted)) or _logged_warnings(found)
    if warnings:
        parts.append(table("Warnings", ("what", "at drawing", "sign"), warnings, words=3))
    if info.stopped:
        parts.append(el("p", "The run stopped itself: ", info.stopped, class_="bad"))
    if steps := [name for name in info.files if name.startswith("not-finite-step-")]:
        listed = el("ul", [el("li", el("code", name)) for name in steps])
        parts.append(folded("Files that name the drawings of steps that were not finite", listed))
    return join(*parts)


def _verdict(info: RunInfo, attempts: Sequence[Attempt]) -> str:
    if not attempts:
        return f"The run has no {EVENTS}: its starts and warnings were not noted as they came." + (
            "" if info.stopped else " It did not stop itself."
        )
    interrupted = [one for one in attempts[:-1] if one.end != "finished"]
    again = repeated_drawings(attempts)  # none of a start that was told to stop, and saved
    lost = (
        f"; what those had learnt past a checkpoint, of {again:,} drawings, was lost, and the drawings were seen again"
        if again
        else ""
    )
    survived = (
        f"{len(attempts)} starts: the run went on after {len(interrupted)} that were interrupted or failed{lost}."
        if interrupted
        else "The workers were never started anew after a failure."
    )
    last = attempts[-1].end or "no end noted, so it is under way or was cut off"
    return f"{survived} The last start: {last}."


def _starts(attempts: Sequence[Attempt]) -> Markup:
    rows = []
    for k, one in enumerate(attempts):
        cut_off = "cut off: killed, or its machine lost" if k < len(attempts) - 1 else "no end noted"
        ended = join(one.end or cut_off, f": {one.reason}" if one.reason else None)
        workers = f"{one.workers} × {one.cpus_per_worker:g} CPU"
        if one.gpus_per_worker:
            workers += f" + {one.gpus_per_worker:g} GPU ({one.device})"
        began = datetime.fromtimestamp(one.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
        drawings = f"{one.first_drawing:,} to {one.last_drawing:,}"
        rows.append([str(k + 1), ended, drawings, duration(round(one.seconds)), workers, began])
    return table(
        "Starts of the workers, and how each ended",
        ("start", "ended", "drawings seen", "lasted", "workers", "began (UTC)"),
        rows,
        words=6,
        class_="starts",
    )


def _logged_warnings(found: Mapping[str, Curve]) -> list[tuple[str, str, str]]:
    """Failures that TensorBoard's files know of, for a run without events."""
    start = "failure/"
    rows = []
    for name, curve in found.items():
        first = next((x for x, y in zip(curve.drawings, curve.values, strict=True) if y), None)
        if name.startswith(start) and first is not None:
            rows.append((name.removeprefix(start), f"{first:,}", "see TensorBoard's text of this name"))
    return rows
