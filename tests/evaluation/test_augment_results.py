"""Means, paired differences, and the sentence's outcomes; the report says them all."""

import io

import pytest
from PIL import Image

from doodle_dist.evaluation.augment_report import markdown, picture
from doodle_dist.evaluation.augment_results import (
    Arm,
    Cell,
    Failure,
    Findings,
    Mean,
    compare,
    mean,
    sentence,
    summarise,
    verdict,
)

KS = (10, None)


def cell(k: int | None, seed: int, arm: Arm, accuracy: float) -> Cell:
    made_up = 500 if arm in ("generated", "both") else 0
    drawings = 20 if k else 90
    return Cell(
        k=k, seed=seed, arm=arm, drawings=drawings, seen=1000, seen_generated=made_up, accuracy=accuracy,
        macro_f1=accuracy / 2, seconds=1.0,
    )  # fmt: skip


def cells(gained: list[float], k: int | None = 10) -> list[Cell]:
    """Real drawings alone vary by seed far more than what the generated ones add."""
    found = []
    for seed, gain in enumerate(gained):
        found += [cell(k, seed, "real", 0.3 + seed / 10), cell(k, seed, "generated", 0.3 + seed / 10 + gain)]
    return found


def test_a_mean_has_the_standard_error_of_its_values() -> None:
    found = mean([1.0, 2.0, 6.0])
    assert (found.value, found.seeds) == (3.0, 3)
    assert found.standard_error == pytest.approx((14 / 2 / 3) ** 0.5)
    assert mean([0.5]).standard_error is None


@pytest.mark.parametrize(
    ("gained", "outcome", "words"),
    [
        ([0.05, 0.06, 0.07], "helped", "generated drawings helped at K = 10 (+6.0 ± 0.6)"),
        ([-0.05, -0.06, -0.07], "hurt", "generated drawings hurt at K = 10 (-6.0 ± 0.6)"),
        ([0.05, -0.02, 0.01], "no difference", "made no difference beyond the seeds' spread at K = 10"),
        # Two standard errors, and yet not beyond what three seeds can tell.
        ([0.01, 0.03, 0.05], "no difference", "made no difference beyond the seeds' spread at K = 10"),
        ([0.2], "unknown", "can't be told from one seed at K = 10 (+20.0)"),
    ],
)
def test_the_paired_difference_decides(gained: list[float], outcome: str, words: str) -> None:
    (found,) = compare(cells(gained), (10,))
    assert found.verdict == outcome
    assert words in sentence([found])


def test_the_bound_is_student_s() -> None:
    for seeds, t in ((2, 12.706), (3, 4.303), (31, 2.042), (1000, 1.96)):
        for value, outcome in ((t * 0.999, "no difference"), (t * 1.001, "helped"), (-t * 1.001, "hurt")):
            assert verdict(Mean(value=value, standard_error=1.0, seeds=seeds)) == outcome


def test_only_seeds_that_both_arms_finished_are_paired() -> None:
    some = [*cells([0.1, 0.1, 0.1]), cell(10, 3, "generated", 0.0)]
    (found,) = compare(some, KS)
    assert found.difference.seeds == 3
    assert found.difference.value == pytest.approx(0.1)


def findings(some: list[Cell], failed: tuple[Failure, ...] = ()) -> Findings:
    comparisons = compare(some, KS)
    return Findings(
        gan="g", classifier="c", data="d", categories=("cat", "dog"), test_drawings=77, seeds=3, ks=KS,
        per_category=((10, 10), (30, 60)), at_most=60, capped=True, share=0.5, settings={}, gans=(),
        cells=tuple(some), summaries=summarise(some, KS), comparisons=comparisons,
        sentence=sentence(comparisons), failed=failed,
    )  # fmt: skip


def test_the_report_has_every_figure_the_cap_and_what_failed() -> None:
    some = [*cells([0.05, 0.06, 0.07]), *cells([-0.05, -0.06, -0.07], None)]
    found = findings(some, (Failure(cell="k10-seed2-gan", reason="not finite"),))
    text = markdown(found)
    assert "helped at K = 10 (+6.0 ± 0.6); hurt at K = all (-6.0 ± 0.6)" in text
    assert "| 10 | 0.4000 ± 0.0577 | – | 0.4600 ± 0.0635 | – |" in text
    assert "| all | -6.0 ± 0.6, hurt | – | – |" in text
    assert "all: 30 to 60 real drawings per category; at most 60 of a category are used" in text
    assert "- k10-seed2-gan: not finite" in text
    assert "saw 1,000 drawings" in text
    image = Image.open(io.BytesIO(picture(found)))
    assert image.width > 2 * image.height


def test_nothing_finished_is_said_and_drawn() -> None:
    found = findings([])
    assert "Nothing can be said" in markdown(found)
    assert Image.open(io.BytesIO(picture(found))).format == "PNG"
