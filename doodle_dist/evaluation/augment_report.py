"""The augmentation experiment's findings as Markdown and as a picture."""

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from doodle_dist.evaluation.augment_results import (
    ARMS,
    COMPARISONS,
    Arm,
    Findings,
    Mean,
    Summary,
    name_of,
    points,
)

_TITLES: dict[Arm, str] = {
    "real": "real only",
    "classic": "real + classic",
    "generated": "real + generated",
    "both": "real + both",
}
_COLORS: dict[Arm, str] = {"real": "#555555", "classic": "#1f77b4", "generated": "#d95f02", "both": "#1b9e77"}


def markdown(found: Findings) -> str:
    """``augment.md``: the sentence, what was done, and a table each for accuracy, macro F1 and differences."""
    seen = {cell.seen for cell in found.cells}
    gan_seen = {gan.seen for gan in found.gans}
    made = {gan.per_category for gan in found.gans}
    lines = [
        "# Does generated data help a classifier?",
        "",
        found.sentence,
        "",
        f"Every classifier ({found.classifier}) saw {_numbers(seen)} drawings, whatever its arm; where there are "
        f"generated ones they took the place of {found.share:.0%} of each batch's real drawings. For each K and "
        f"seed one GAN ({found.gan}) was trained on the same K real drawings per category and no other, for "
        f"{_numbers(gan_seen)} drawings, and drew {_numbers(made)} of each category. Judged on "
        f"{found.test_drawings:,} real drawings of the test split, which none of them has seen. "
        f"{len(found.categories)} categories; mean ± standard error over {found.seeds} seeds.",
        "",
    ]
    for title, figure in (("accuracy", "accuracy"), ("macro F1", "macro_f1")):
        lines += [*_arms_table(found, title, figure), ""]
    lines += [*_differences_table(found), ""]
    if None in found.ks:
        low, high = found.per_category[found.ks.index(None)]
        cap = (
            f"; at most {found.at_most:,} of a category are used, and some have more" if found.capped else ""
        )
        lines += [f"all: {low:,} to {high:,} real drawings per category{cap}.", ""]
    if found.failed:
        lines += ["Not finished:", ""] + [f"- {one.cell}: {one.reason}" for one in found.failed] + [""]
    return "\n".join(lines)


def _numbers(values: set[int]) -> str:
    return " or ".join(f"{value:,}" for value in sorted(values)) or "no"


def _arms_table(found: Findings, title: str, figure: str) -> list[str]:
    lines = [f"| {title}, K | {' | '.join(_TITLES[arm] for arm in ARMS)} |", "|---" * (len(ARMS) + 1) + "|"]
    for k in found.ks:
        cells = []
        for arm in ARMS:
            one = _summary(found.summaries, k, arm)
            cells.append(_share(getattr(one, figure)) if one else "–")
        lines.append(f"| {name_of(k)} | {' | '.join(cells)} |")
    return lines


def _differences_table(found: Findings) -> list[str]:
    lines = [
        f"| points of accuracy, K | {' | '.join(what for *_, what in COMPARISONS)} |",
        "|---" * (len(COMPARISONS) + 1) + "|",
    ]
    by = {(one.k, one.what): one for one in found.comparisons}
    for k in found.ks:
        cells = []
        for *_, what in COMPARISONS:
            one = by.get((k, what))
            cells.append(f"{points(one.difference)}, {one.verdict}" if one else "–")
        lines.append(f"| {name_of(k)} | {' | '.join(cells)} |")
    return lines


def _summary(summaries: Sequence[Summary], k: int | None, arm: Arm) -> Summary | None:
    return next((one for one in summaries if (one.k, one.arm) == (k, arm)), None)


def _share(mean: Mean) -> str:
    error = f" ± {mean.standard_error:.4f}" if mean.standard_error is not None else ""
    return f"{mean.value:.4f}{error}"


def picture(found: Findings) -> bytes:
    """``augment.png``: accuracy of each arm against K, and the paired differences, with standard errors."""
    figure = Figure(figsize=(10.5, 4.4), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    # Where "all" stands: at the mean number of real drawings per category.
    places = [
        k if k is not None else _mean_per_category(found, (low + high) / 2)
        for k, (low, high) in zip(found.ks, found.per_category, strict=True)
    ]
    for arm in ARMS:
        marks = [(at, _summary(found.summaries, k, arm)) for at, k in zip(places, found.ks, strict=True)]
        _draw(left, [(at, one.accuracy) for at, one in marks if one], _TITLES[arm], _COLORS[arm])
    left.set_ylabel(f"accuracy on {found.test_drawings:,} real test drawings")
    left.set_title("every classifier saw as many drawings", fontsize=10)
    by = {(one.k, one.what): one.difference for one in found.comparisons}
    for with_it, _, what in COMPARISONS:
        marks_of = [(at, by.get((k, what))) for at, k in zip(places, found.ks, strict=True)]
        scaled = [(at, _times_100(one)) for at, one in marks_of if one]
        _draw(right, scaled, what, _COLORS[with_it])
    right.axhline(0.0, color="black", linewidth=0.8)
    right.set_ylabel("points of accuracy gained, paired by seed")
    right.set_title("what it adds", fontsize=10)
    for axis in (left, right):
        axis.set_xscale("log")
        axis.set_xticks(places, [name_of(k) for k in found.ks])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlabel("real drawings per category")
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[1]:
            axis.legend(fontsize=8)
    figure.suptitle(
        f"{found.gan} → {found.classifier}, {len(found.categories)} categories, {found.seeds} seeds; bars: "
        "standard error",
        fontsize=10,
    )
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return sink.getvalue()


def _mean_per_category(found: Findings, otherwise: float) -> float:
    drawings = [cell.drawings for cell in found.cells if cell.k is None]
    return drawings[0] / len(found.categories) if drawings else otherwise


def _times_100(mean: Mean) -> Mean:
    error = None if mean.standard_error is None else 100 * mean.standard_error
    return Mean(value=100 * mean.value, standard_error=error, seeds=mean.seeds)


def _draw(axis: Axes, marks: Sequence[tuple[float, Mean]], label: str, color: str) -> None:
    if not marks:
        return
    places, means = zip(*marks, strict=True)
    errors = [mean.standard_error or 0.0 for mean in means]
    axis.errorbar(places, [m.value for m in means], errors, label=label, color=color, marker="o", capsize=3)
