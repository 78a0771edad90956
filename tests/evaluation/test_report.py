"""The report of a run: whole and well-formed, complete without network, and true to the run's files."""

import base64
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import pytest

from doodle_dist import cli
from doodle_dist.config.load import load_experiment, to_toml
from doodle_dist.data import storage
from doodle_dist.evaluation import report_training
from doodle_dist.evaluation.history import PANELS, Curve
from doodle_dist.evaluation.report import write_report
from doodle_dist.evaluation.results import (
    CategoryFigures,
    CategoryRecognition,
    ClassifierEvaluation,
    ConfusedPair,
    Figure,
    GanEvaluation,
    ReaderInfo,
    Recognition,
    ReliabilityBin,
    Share,
    write_evaluation,
)
from doodle_dist.pictures import grid, png
from doodle_dist.run.files import EVENTS
from doodle_dist.run.folder import read_run
from doodle_dist.training.metrics_log import MetricsLog
from doodle_dist.training.task import Clock, step_at_once
from doodle_dist.training.tensorboard import TensorBoard
from tests.runs import save_run
from tests.s3 import S3Server
from tests.training.test_tasks import build, experiment_for, part

HOSTILE = "<script>alert('doodle')</script>"
CATEGORIES = (HOSTILE, "cat & dog")
_VOID = {"meta", "img", "link", "br", "wbr"}


class Document(HTMLParser):
    """A parsed report: its elements with what they say. Fails where a tag is not closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.inside: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said: list[str] = []
        self.elements.append((tag, {name: value or "" for name, value in attrs}, said))
        if tag not in _VOID:
            self.open.append(tag)
            self.inside.append(said)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.inside.pop()

    def handle_data(self, data: str) -> None:
        for said in self.inside:
            said.append(data)

    def all(self, *tags: str) -> list[tuple[dict[str, str], str]]:
        return [(attributes, "".join(said)) for tag, attributes, said in self.elements if tag in tags]

    def section(self, title: str) -> str:
        (text,) = (said for attributes, said in self.all("section") if said.startswith(title))
        return text.removeprefix(title)


def document(run: Path, **options: float) -> Document:
    where = write_report(str(run), **options)  # type: ignore[arg-type]
    assert where == str(run / "report.html")
    return Document(Path(where).read_text())


def picture(rows: int, shade: int) -> bytes:
    return png(grid(np.full((rows * 3, 1, 28, 28), shade, np.uint8), columns=3))


def gan_evaluation() -> GanEvaluation:
    figure, share = Figure(value=40.0, floor=0.875), Share(generated=0.6, real=0.8, drawings=500)
    reader = ReaderInfo(run="runs/evaluator", content_hash="c752366fd257" + "0" * 52)
    category = CategoryFigures(samples=250, fid=Figure(value=70.0, floor=5.0), read=share)
    return GanEvaluation(
        snapshot="runs/gan/checkpoint_002000", content_hash="ab" * 32, preset="doodle-gan-small",
        drawings_seen=2000, data="data", split="test", samples=500, seed=0, reference=900, evaluator=reader,
        judge=reader, fid=figure, intra_fid=None, kid=Figure(value=7.0, floor=-0.5, standard_error=0.25),
        precision=figure, recall=figure, density=figure, coverage=figure, conditional_accuracy=share,
        classification_accuracy=share, categories=dict.fromkeys(CATEGORIES, category),
    )  # fmt: skip


def classifier_evaluation() -> ClassifierEvaluation:
    one = CategoryRecognition(drawings=100, recall=0.75, precision=0.9, f1=None)
    return ClassifierEvaluation(
        snapshot="runs/judge/checkpoint_001000", content_hash="cd" * 32, preset="classifier-small",
        drawings_seen=1000, data="data", split="test", drawings=200, top1=0.825, top3=1.0, map3=0.9,
        balanced=0.825, balanced_standard_error=0.03, macro_f1=0.8, loss=0.5, calibration_error=0.0625,
        reliability=(ReliabilityBin(drawings=200, confidence=0.9, accuracy=0.825),),
        categories=dict.fromkeys(CATEGORIES, one),
        confused=(ConfusedPair(category=HOSTILE, read_as="cat & dog", drawings=25, share=0.25),),
        by_recognized={"True": Recognition(drawings=200, accuracy=0.825)}, by_country={},
        confusion=((75, 25), (10, 90)),
    )  # fmt: skip


@pytest.fixture
def gan(tmp_path: Path) -> Path:
    """A run that was killed once, with everything that a run and its evaluation leave behind."""
    run = tmp_path / "runs" / "gan"
    for seen, score in ((1000, 0.5), (2000, 0.75)):
        save_run(run, "doodle-gan-small", CATEGORIES, seen=seen, score=score)
    log = MetricsLog(str(run), 0)
    for seen in range(100, 2001, 100):
        log.add({"loss/critic": 1 / seen, "loss/generator": float("nan") if seen == 500 else 2.0,
                 "speed/drawings_per_s": 50.0, "speed/data_wait_fraction": 0.125}, seen)  # fmt: skip
    log.add({"judge/frechet_distance": 12.5, "judge/conditional_accuracy": 0.5}, 2000)
    log.close()
    events = [
        {"at": 0, "event": "started", "drawings_seen": 0, "workers": 2, "cpus_per_worker": 3},
        {"at": 1800, "event": "warning", "drawings_seen": 1300, "name": "gradient-norm", "said": HOSTILE},
        {"at": 3600, "event": "alive", "drawings_seen": 1500},
        {"at": 5000, "event": "started", "drawings_seen": 1000, "workers": 1, "cpus_per_worker": 3},
        {"at": 8600, "event": "finished", "drawings_seen": 2000},
    ]
    (run / EVENTS).write_bytes(b"\n".join(map(orjson.dumps, events)))
    (run / "samples").mkdir()
    for seen in (100, 500, 1000, 1500, 2000):
        (run / "samples" / f"{seen:012d}.png").write_bytes(picture(2, seen % 251))
    (run / "evaluation").mkdir()
    (run / "evaluation" / "neighbours.png").write_bytes(picture(4, 9))
    write_evaluation(str(run), gan_evaluation())
    return run


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    run = tmp_path / "runs" / "judge"
    save_run(run, "classifier-small", CATEGORIES, score=0.825)
    log = MetricsLog(str(run), 0)
    log.add({"val/top1": 0.8, "val/loss": 0.5, f"val_category/{HOSTILE}": 0.7}, 1000)
    log.close()
    return run


# --- the page -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gan", "judge", "judge evaluated", "begun"])
def test_a_report_is_one_well_formed_page_that_needs_nothing_else(
    kind: str, gan: Path, classifier: Path, tmp_path: Path
) -> None:
    run = gan if kind == "gan" else classifier
    if kind == "judge evaluated":
        write_evaluation(str(run), classifier_evaluation())
    if kind == "begun":
        run = tmp_path / "runs" / "begun"
        run.mkdir()
        (run / "config.toml").write_text(to_toml(load_experiment("face-critic")))
    page = document(run)
    assert not page.all("script", "iframe", "object", "base")
    links = [attributes["href"] for attributes, _ in page.all("a", "link")]
    outside = [link for link in links if not link.startswith(("#", "data:"))]
    assert outside == [
        "https://github.com/googlecreativelab/quickdraw-dataset",
        "https://creativecommons.org/licenses/by/4.0/",
    ]
    names = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    assert {link[1:] for link in links if link.startswith("#")} <= set(names)
    for tag, attributes, _ in page.elements:
        assert "src" not in attributes or attributes["src"].startswith("data:image/png;base64,")
        assert not any(name.startswith("on") for name in attributes), tag
        assert not re.search(r"url\(|@import|https?:", attributes.get("style", ""))
    ((_, style),) = page.all("style")
    assert not re.search(r"url\(|@import|https?:", style)
    assert all(a["alt"] for a, _ in page.all("img"))
    assert all(a.get("aria-label") or a.get("aria-hidden") == "true" for a, _ in page.all("svg"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(a["scope"] in ("row", "col") for a, _ in page.all("th"))
    levels = [int(tag[1]) for tag, *_ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_names_from_the_data_are_text(gan: Path, classifier: Path) -> None:
    write_evaluation(str(classifier), classifier_evaluation())
    for run in (gan, classifier):
        page = document(run)
        assert HOSTILE in [said for _, said in page.all("th")]
        assert HOSTILE in page.section("Trained on")
        assert "<script" not in (run / "report.html").read_text().replace("&lt;script", "")


# --- what it says ---------------------------------------------------------------------------------------


def rows_of(page: Document) -> dict[str, list[str]]:
    """The rows of all tables by their first cell."""
    rows: dict[str, list[str]] = {}
    cells: list[str] = []
    for tag, attributes, said in page.elements:
        if tag == "th" and attributes["scope"] == "row":
            cells = rows.setdefault("".join(said), [])
        elif tag == "td" and "title" not in attributes:
            cells.append("".join(said))
    return rows


def test_a_generator_s_figures_stand_beside_their_floors(gan: Path) -> None:
    page = document(gan)
    rows = rows_of(page)
    assert rows["Fréchet distance (FID)"] == ["40.000", "0.875", "", "500", "lower"]
    assert rows["kernel distance (KID)"][:2] == ["7.000 ±\N{NO-BREAK SPACE}0.250", "-0.500"]
    assert rows["conditional accuracy"] == ["0.6000", "0.8000", "0.750", "500", "higher"]
    assert "c752366fd257" in page.section("Figures")
    assert rows["cat & dog"] == ["70.00", "5.00", "0.600", "0.800", "250"]
    pictures = [attributes["alt"] for attributes, _ in page.all("img")]
    assert [alt for alt in pictures if alt.startswith("Samples after 2,000")]
    assert [alt for alt in pictures if "training drawings" in alt]
    assert len([alt for alt in pictures if alt.startswith("Samples after")]) == 5 + 1
    assert f"from the top, by the category that was asked for: {HOSTILE}, cat & dog." in page.section(
        "Samples"
    )
    assert "A GAN, preset doodle-gan-small." in page.all("header")[0][1], "it may see no category"


def test_colour_pictures_are_no_white_ink(gan: Path) -> None:
    assert "white ink on black" in document(gan).section("Samples")
    colours = png(grid(np.full((6, 3, 28, 28), 9, np.uint8), columns=3))
    (gan / "samples" / f"{2000:012d}.png").write_bytes(colours)
    assert "white ink" not in document(gan).section("Samples")


def test_failures_survived_and_what_the_run_cost(gan: Path) -> None:
    page = document(gan, price_per_hour=2.5)
    failures, cost = page.section("Failures"), page.section("Cost")
    assert "2 starts: the run went on after 1 that were interrupted or failed" in failures
    assert "of 500 drawings, was lost" in failures
    assert "The last start: finished." in failures
    assert rows_of(page)["gradient-norm"] == ["1,300", HOSTILE]
    # An hour of two workers with three CPUs each, then an hour of one.
    assert "worker-hours3.000" in cost
    assert "CPU-hours9.000" in cost
    assert "wall time2:00:00" in cost
    assert "7.50, at 2.5 for an hour of a worker" in cost


def test_a_run_that_was_told_to_stop_did_not_stop_itself_and_lost_nothing(classifier: Path) -> None:
    events = [
        {"at": 0, "event": "started", "drawings_seen": 0},
        {"at": 60, "event": "checkpoint", "drawings_seen": 500},
        {"at": 60, "event": "stopped", "drawings_seen": 500, "reason": "it was asked to"},
    ]
    (classifier / EVENTS).write_bytes(b"\n".join(map(orjson.dumps, events)))
    page = document(classifier)
    assert rows_of(page)["1"][0] == "stopped: it was asked to"
    assert "The last start: stopped." in page.section("Failures")
    assert "stopped itself" not in page.section("Failures")
    events += [
        {"at": 90, "event": "started", "drawings_seen": 500},
        {"at": 150, "event": "finished", "drawings_seen": 1000},
    ]
    (classifier / EVENTS).write_bytes(b"\n".join(map(orjson.dumps, events)))
    said = document(classifier).section("Failures")
    assert "went on after 1 that were interrupted or failed. The last start: finished." in said


def test_curves_are_those_of_the_metrics_log(gan: Path) -> None:
    labels = {
        a["aria-label"].partition(",")[0]: a["aria-label"]
        for a, _ in document(gan).all("svg")
        if "aria-label" in a
    }
    assert "critic: 0.01 at first, 0.0005 at last" in labels["Losses"]
    assert "generator: 2 at first" in labels["Losses"]
    assert "12.5 at first" in labels["Fréchet distance"]
    assert "50 at first, 50 at last" in labels["Drawings per second"]


def figures_of_a_step(name: str) -> dict[str, float]:
    """All that a task logs of a step and of an evaluation."""
    task = build(experiment_for(name))
    step = step_at_once(task, part(0), Clock(0, 0, 1000))
    return {**task.gauges(), **{k: float(v) for k, v in step.items()}, **task.evaluate([part(0)]).scalars}


@pytest.mark.parametrize(
    ("task", "charts"),
    [
        (
            "classifier-small",
            {
                "Losses": ["classifier"],
                "Classifier: read right": [
                    "top-1, training",
                    "top-1, held out",
                    "balanced accuracy, held out",
                ],
                "Gradient norm": ["gradient norm"],
                "Learning rate": ["learning rate"],
            },
        ),
        (
            "critic",
            {
                "Losses": ["critic"],
                "Critic: told right": ["training"],
                "Gradient norm": ["gradient norm"],
                "Learning rate": ["learning rate"],
            },
        ),
        (
            "doodle-gan-small",
            {
                "Losses": ["critic", "generator"],
                "Critic: told right": ["real", "generated"],
                "Largest gradient norm": ["critic", "generator"],
                "Learning rate": ["critic", "generator"],
            },
        ),
    ],
)
def test_what_a_task_logs_has_its_chart(task: str, charts: dict[str, list[str]]) -> None:
    logged = {name: Curve([16], [value]) for name, value in figures_of_a_step(task).items()}
    page = Document(str(report_training.curves(logged)))
    labels = [a["aria-label"] for a, _ in page.all("svg") if "aria-label" in a]
    drawn = {label.partition(",")[0]: label for label in labels}
    assert charts.keys() <= drawn.keys()
    assert [title for title in drawn if "norm" in title] == [title for title in charts if "norm" in title]
    for title, curves in charts.items():
        assert all(f"{curve}: " in drawn[title] for curve in curves), title


def test_every_curve_of_a_chart_is_one_that_a_task_logs() -> None:
    logged = {
        name
        for task in ("classifier-small", "critic", "doodle-gan-small")
        for name in figures_of_a_step(task)
    }
    shown = {name for _, *axes in (*PANELS, *report_training._MORE) for names in axes for name in names}
    assert {name for name in shown if not name.startswith("judge/")} <= logged, (
        "the judge's are in gan_judge.py"
    )


def test_a_run_without_an_evaluation_says_how_to_get_one(gan: Path, classifier: Path) -> None:
    (gan / "evaluation.json").unlink()
    page = document(gan)
    assert f"doodle-dist evaluate {gan} --evaluator RUN --judge RUN" in page.section("Figures")
    assert page.section("Samples")
    (classifier / "val" / "confusion").mkdir(parents=True)
    for seen in (500, 1000):
        (classifier / "val" / "confusion" / f"{seen:012d}.png").write_bytes(picture(1, seen % 251))
    page = document(classifier)
    ((shown, _),) = page.all("img")
    assert shown["src"].endswith(base64.b64encode(picture(1, 1000 % 251)).decode()), "the newest matrix"
    assert f"doodle-dist evaluate {classifier}" in page.section("Figures")
    assert "--evaluator" not in page.section("Figures")
    assert rows_of(page)[HOSTILE] == ["0.7000"], "of the newest checkpoint"


def test_a_classifier_s_mistakes_are_counted_as_they_are(classifier: Path) -> None:
    write_evaluation(str(classifier), classifier_evaluation())
    page = document(classifier)
    cells = [(a["title"], said) for a, said in page.all("td") if "title" in a]
    assert cells == [
        (f"{HOSTILE} read as {HOSTILE}: 75", "75"),
        (f"{HOSTILE} read as cat & dog: 25", "25"),
        (f"cat & dog read as {HOSTILE}: 10", "10"),
        ("cat & dog read as cat & dog: 90", "90"),
    ]
    rows = rows_of(page)
    assert rows["top-1"] == ["0.8250", "0.5000", "higher"]
    assert rows["MAP@3"][1] == "0.7500", "of two categories one is first or second"
    assert "0.0625" in page.section("Figures")


def test_an_older_run_is_read_from_tensorboard_and_its_cost_estimated(tmp_path: Path) -> None:
    run = tmp_path / "old"
    save_run(run, "doodle-gan-small", CATEGORIES, settings=("scaling.workers=2",))
    board = TensorBoard(str(run), 0)
    for seen in (3600, 7200):
        board.scalars({"loss/critic": 0.5, "speed/drawings_per_s": 2.0}, seen)
        board.failures({"critic-too-strong": "look"} if seen == 7200 else {}, seen)
    board.close()
    page = document(run)
    assert "Estimated" in page.section("Cost")
    assert "worker-hours2.000" in page.section("Cost"), "an hour of two workers"
    assert rows_of(page)["critic-too-strong"][0] == "7,200"
    assert f"no {EVENTS}" in page.section("Failures")


def test_a_run_that_stopped_itself_says_why(classifier: Path) -> None:
    (classifier / "stopped.json").write_bytes(orjson.dumps({"reason": f"a loss is not finite {HOSTILE}"}))
    (classifier / "not-finite-step-52-rank-1.json").write_text("{}")
    failures = document(classifier).section("Failures")
    assert f"The run stopped itself: a loss is not finite {HOSTILE}" in failures
    assert "not-finite-step-52-rank-1.json" in failures


# --- where it is written, and wrong requests -----------------------------------------------------------


def test_in_an_object_store_it_lies_beside_the_run(s3_env: S3Server, s3_bucket: str, gan: Path) -> None:
    for file in (path for path in gan.rglob("*") if path.is_file()):
        storage.put_file(file, f"{s3_bucket}/runs/gan/{file.relative_to(gan)}")
    where = write_report(f"{s3_bucket}/runs/gan")
    assert where == f"{s3_bucket}/runs/gan/report.html"
    there = storage.read_bytes(where).decode()
    assert there.replace(s3_bucket, str(gan.parents[1])) == Path(write_report(str(gan))).read_text()
    assert read_run(f"{s3_bucket}/runs/gan").files["report.html"] == 1


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main(["report", *arguments])
    return int(stop.value.code or 0), *capsys.readouterr()


def test_the_command_prints_where_it_wrote(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "it.html"
    assert command(capsys, str(classifier), "-o", str(output)) == (0, f"{output}\n", "")
    assert Document(output.read_text()).all("h1")[0][1] == "judge"
    assert not (classifier / "report.html").exists()


def test_what_is_wrong_is_said_in_one_line(
    gan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    wrong = [
        ([str(tmp_path / "empty")], "is no run: it has neither a checkpoint nor a config.toml"),
        ([str(tmp_path / "nowhere")], "is no run: there is nothing"),
        ([str(gan), "--price-per-hour", "-1"], "--price-per-hour -1: should be 0 or more"),
        ([str(gan), "--price-per-hour", "nan"], "--price-per-hour nan: should be 0 or more"),
        ([str(gan), "-o", str(tmp_path)], f"-o {tmp_path}: is a folder"),
        ([str(gan), "-o", "http://example.org/report.html"], "is read-only"),
    ]
    for arguments, message in wrong:
        code, out, err = command(capsys, *arguments)
        assert (code, out) == (2, ""), arguments
        assert message in err
        assert err.count("\n") == 1
    (gan / "samples" / "000000002000.png").write_bytes(b"\x89PNG")
    assert "000000002000.png is no PNG file" in command(capsys, str(gan))[2]
    (gan / "evaluation.json").write_text("{}")
    assert "is not an evaluation of this release" in command(capsys, str(gan))[2]
    assert not (gan / "report.html").exists()
