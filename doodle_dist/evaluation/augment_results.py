"""What the augmentation experiment found: each cell, their means, paired differences, and the sentence on them."""

import statistics
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

Arm = Literal["real", "classic", "generated", "both"]
ARMS: tuple[Arm, ...] = ("real", "classic", "generated", "both")
Verdict = Literal["helped", "hurt", "no difference", "unknown"]

# What is compared: the arm with, the arm without, and what the one has that the other lacks.
COMPARISONS: tuple[tuple[Arm, Arm, str], ...] = (
    ("generated", "real", "generated drawings added to real ones"),
    ("both", "classic", "generated drawings added to classic augmentation"),
    ("classic", "real", "classic augmentation added to real drawings"),
)

# Student's t at 97.5 % for 1 to 30 degrees of freedom: with few seeds, two standard errors are not enough.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cell(_Frozen):
    """A classifier: ``k`` real drawings per category (None: all), ``drawings`` real ones in all."""

    k: int | None
    seed: int
    arm: Arm
    drawings: int
    seen: int
    seen_generated: int
    accuracy: float
    macro_f1: float
    seconds: float


class GanCell(_Frozen):
    """A GAN trained on those real drawings, and the number that it drew of each category."""

    k: int | None
    seed: int
    drawings: int
    seen: int
    per_category: int
    seconds: float


class Failure(_Frozen):
    """A cell that could not be finished, by its name, and why."""

    cell: str
    reason: str


class Mean(_Frozen):
    """Mean over seeds; no standard error of fewer than two."""

    value: float
    standard_error: float | None
    seeds: int


class Summary(_Frozen):
    """One arm at one K."""

    k: int | None
    arm: Arm
    accuracy: Mean
    macro_f1: Mean


class Comparison(_Frozen):
    """Accuracy of arm ``with_it`` less that of ``without``, seed by seed on the same real drawings."""

    k: int | None
    with_it: Arm
    without: Arm
    what: str
    difference: Mean
    verdict: Verdict


class Findings(_Frozen):
    """``augment.json``. ``per_category`` are the real drawings of the smallest and the largest category at
    each of ``ks``; ``at_most`` of a category were read, ``capped`` says whether some has more."""

    gan: str
    classifier: str
    data: str
    categories: tuple[str, ...]
    test_drawings: int
    seeds: int
    ks: tuple[int | None, ...]
    per_category: tuple[tuple[int, int], ...]
    at_most: int
    capped: bool
    share: float
    settings: dict[str, object]
    gans: tuple[GanCell, ...]
    cells: tuple[Cell, ...]
    summaries: tuple[Summary, ...]
    comparisons: tuple[Comparison, ...]
    sentence: str
    failed: tuple[Failure, ...]


def name_of(k: int | None) -> str:
    return "all" if k is None else str(k)


def mean(values: Sequence[float]) -> Mean:
    """Mean and standard error (of the sample's standard deviation) of at least one value."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return Mean(value=statistics.fmean(values), standard_error=error, seeds=len(values))


def verdict(difference: Mean) -> Verdict:
    """Whether a paired difference lies beyond the seeds' spread: outside its 95 % interval (Student's t).

    ``unknown`` for one seed, which has no spread.
    """
    error = difference.standard_error
    if error is None:
        return "unknown"
    freedom = difference.seeds - 1
    bound = (_T[freedom - 1] if freedom <= len(_T) else 1.96) * error
    if abs(difference.value) <= bound:
        return "no difference"
    return "helped" if difference.value > 0 else "hurt"


def summarise(cells: Sequence[Cell], ks: Sequence[int | None]) -> tuple[Summary, ...]:
    """The mean of every arm at every K that has a finished cell."""
    found = []
    for k in ks:
        for arm in ARMS:
            mine = [cell for cell in cells if cell.k == k and cell.arm == arm]
            if mine:
                accuracy, f1 = mean([c.accuracy for c in mine]), mean([c.macro_f1 for c in mine])
                found.append(Summary(k=k, arm=arm, accuracy=accuracy, macro_f1=f1))
    return tuple(found)


def compare(cells: Sequence[Cell], ks: Sequence[int | None]) -> tuple[Comparison, ...]:
    """Every comparison at every K over the seeds that both arms have."""
    accuracy = {(cell.k, cell.arm, cell.seed): cell.accuracy for cell in cells}
    seeds = sorted({cell.seed for cell in cells})
    found = []
    for with_it, without, what in COMPARISONS:
        for k in ks:
            pairs = [(accuracy.get((k, with_it, s)), accuracy.get((k, without, s))) for s in seeds]
            differences = [a - b for a, b in pairs if a is not None and b is not None]
            if differences:
                difference = mean(differences)
                found.append(
                    Comparison(
                        k=k,
                        with_it=with_it,
                        without=without,
                        what=what,
                        difference=difference,
                        verdict=verdict(difference),
                    )
                )
    return tuple(found)


_SAID: dict[Verdict, str] = {
    "helped": "helped",
    "hurt": "hurt",
    "no difference": "made no difference beyond the seeds' spread",
    "unknown": "can't be told from one seed",
}


def sentence(comparisons: Sequence[Comparison]) -> str:
    """Plain words on whether generated drawings helped, at which K, and by how many points of accuracy."""
    said = []
    for _, without, what in COMPARISONS[:2]:
        mine = [one for one in comparisons if one.what == what]
        if not mine:
            continue
        subject = {"real": "Added to real drawings alone", "classic": "Added to classic augmentation"}[
            without
        ]
        parts = []
        for outcome, words in _SAID.items():
            at = [f"{name_of(one.k)} ({points(one.difference)})" for one in mine if one.verdict == outcome]
            if at:
                parts.append(f"{words} at K = {', '.join(at)}")
        said.append(f"{subject}, generated drawings {'; '.join(parts)}.")
    return " ".join(said) or "Nothing can be said: no pair of classifiers was finished."


def points(difference: Mean) -> str:
    """A difference of accuracies in points of a hundred: ``+1.2 ± 0.4``."""
    error = f" ± {100 * difference.standard_error:.1f}" if difference.standard_error is not None else ""
    return f"{100 * difference.value:+.1f}{error}"
