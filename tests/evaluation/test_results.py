"""Results go to a run's folder and come back; what is not comparable is refused in one line."""

from pathlib import Path

import pytest

from doodle_dist.evaluation.results import (
    CategoryFigures,
    ClassifierEvaluation,
    Figure,
    GanEvaluation,
    ReaderInfo,
    Recognition,
    Share,
    comparable,
    read_evaluation,
    same_evaluator,
    write_evaluation,
)
from doodle_dist.evaluation.tables import classifier_lines, comparison, gan_lines


def gan(snapshot: str = "runs/a/checkpoint_1", evaluator: str = "a" * 64, **other: object) -> GanEvaluation:
    figure = Figure(value=2.0, floor=0.5)
    fields: dict[str, object] = {
        "snapshot": snapshot,
        "content_hash": "c" * 64,
        "preset": "dcgan",
        "drawings_seen": 50_000,
        "data": "data",
        "split": "test",
        "samples": 4000,
        "seed": 0,
        "reference": 14_000,
        "evaluator": ReaderInfo(run="runs/evaluator", content_hash=evaluator),
        "judge": ReaderInfo(run="runs/judge", content_hash="b" * 64),
        **dict.fromkeys(("fid", "intra_fid", "precision", "recall", "density", "coverage"), figure),
        "kid": Figure(value=0.01, floor=-0.00002, standard_error=0.002, floor_standard_error=0.0001),
        "conditional_accuracy": Share(generated=0.6, real=0.8, drawings=4000),
        "classification_accuracy": None,
        "categories": {"cat": CategoryFigures(samples=4000, fid=figure, read=None)},
    }
    return GanEvaluation.model_validate(fields | other)


def classifier() -> ClassifierEvaluation:
    return ClassifierEvaluation(
        snapshot="runs/c", content_hash="d" * 64, preset="classifier-small", drawings_seen=9, data="data",
        split="test", drawings=3, top1=0.9, top3=1.0, map3=0.95, balanced=0.9, balanced_standard_error=0.01,
        macro_f1=0.9, loss=0.3, calibration_error=0.02, reliability=(), categories={}, confused=(),
        by_recognized={"True": Recognition(drawings=3, accuracy=0.9)}, by_country={}, confusion=((1,),),
    )  # fmt: skip


@pytest.mark.parametrize("found", [gan(), classifier()])
def test_what_was_written_is_read(found: GanEvaluation | ClassifierEvaluation, tmp_path: Path) -> None:
    write_evaluation(str(tmp_path), found)
    assert read_evaluation(str(tmp_path)) == found


def test_no_evaluation_and_a_strange_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no evaluation\.json; `doodle-dist evaluate` writes one"):
        read_evaluation(str(tmp_path))
    (tmp_path / "evaluation.json").write_text('{"kind": "gan"}')
    with pytest.raises(ValueError, match=r"evaluation\.json is not an evaluation of this release"):
        read_evaluation(str(tmp_path))


def test_figures_of_different_evaluators_are_refused() -> None:
    same_evaluator(gan(), gan("runs/b"))
    with pytest.raises(
        ValueError, match=r"runs/b was evaluated by eeeeeeeeeeee and runs/a/\S+ by aaaaaaaaaaaa"
    ):
        same_evaluator(gan(), gan("runs/b", evaluator="e" * 64))
    with pytest.raises(ValueError, match="not comparable"):
        comparable([gan(), gan("runs/b", evaluator="e" * 64)])


@pytest.mark.parametrize(("name", "value"), [("samples", 99), ("data", "other"), ("reference", 7)])
def test_another_protocol_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"was evaluated with {name}={value}"):
        comparable([gan(), gan("runs/b", **{name: value})])


def test_other_categories_are_refused() -> None:
    others = {"another": next(iter(gan().categories.values()))}
    with pytest.raises(ValueError, match="runs/b draws other categories than runs/a"):
        comparable([gan(), gan("runs/b", categories=others)])


def test_another_judge_is_refused_and_none_is_not() -> None:
    comparable([gan(), gan("runs/b", judge=None)])
    other = ReaderInfo(run="runs/other", content_hash="f" * 64)
    with pytest.raises(ValueError, match=r"read by another judge than the runs before \(bbbbbbbbbbbb, ffff"):
        comparable([gan(), gan("runs/b", judge=None), gan("runs/c", judge=other)])


def test_a_classifier_is_not_compared() -> None:
    with pytest.raises(ValueError, match="runs/c is a classifier's; only GAN runs are compared"):
        comparable([gan(), classifier()])


def test_every_line_of_figures_names_the_count_and_who_made_it() -> None:
    lines = gan_lines(gan())
    figures = [line for line in lines if line.split()[0] in {"FID", "KID", "precision", "recall", "density"}]
    assert len(figures) == 5
    assert all("n=4,000, evaluator aaaaaaaaaaaa" in line for line in figures)
    assert any("judge bbbbbbbbbbbb; ratio 0.750" in line for line in lines)
    assert any("0.0100 ± 0.00200" in line and "-0.0000200 ± 0.000100" in line for line in lines)


def test_a_comparison_has_a_row_for_each_run_and_one_for_the_floor() -> None:
    table = comparison([gan(), gan("runs/b/checkpoint_1", conditional_accuracy=None)])
    assert [line.split("|")[1].strip() for line in table[4:]] == ["a", "b", "real drawings (floor)"]
    assert {line.count("|") for line in table[2:]} == {11}
    assert "0.750" in table[4]


@pytest.mark.parametrize(
    ("places", "names"),
    [
        (("s3://b/one/gan", "s3://b/two/gan"), ("one/gan", "two/gan")),
        (("runs/a/checkpoint_1", "runs/a/checkpoint_2"), ("a/checkpoint_1", "a/checkpoint_2")),
    ],
)
def test_runs_of_one_name_are_told_apart(places: tuple[str, str], names: tuple[str, str]) -> None:
    table = comparison([gan(place) for place in places])
    assert tuple(line.split("|")[1].strip() for line in table[4:6]) == names


def test_a_classifier_is_shown_without_what_it_lacks() -> None:
    text = "\n".join(classifier_lines(classifier()))
    assert "recognized in the game" in text
    assert "country" not in text
