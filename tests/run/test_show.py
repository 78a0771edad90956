"""What the commands print of runs: each is listed, by any spelling of its place, the damaged ones too."""

from pathlib import Path

import orjson
import pytest

from doodle_dist.run.show import print_run, print_runs
from doodle_dist.training.metrics_log import MetricsLog
from tests.runs import sweep_before_reading


def test_a_run_is_found_by_any_spelling_of_its_place(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs / "other")
    for spelled in ("../judge", "../judge/", f"file://{runs}/judge"):
        print_run(spelled, as_json=True)
        assert orjson.loads(capsys.readouterr().out)["uri"] == str(runs / "judge")
    print_runs("..", as_json=True)
    assert len(orjson.loads(capsys.readouterr().out)) == 3


def test_the_list_has_a_line_for_each_run_the_damaged_ones_too(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meta = runs / "search" / "trial-1" / "checkpoint_000500" / "meta.json"
    meta.write_bytes(orjson.dumps(orjson.loads(meta.read_bytes()) | {"format_version": 9}))
    print_runs(str(runs), as_json=False)
    head, *lines, note = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["run", "task", "preset"]
    assert [line.split()[0] for line in lines] == ["begun", "judge", "search/trial-1"]
    assert note.startswith("* higher is better"), "a GAN's score is below zero"
    assert "0 of 4,000" in lines[0]
    assert "a loss is not finite" in lines[0]
    assert "3,000" in lines[1]
    assert "0.9000" in lines[1]
    assert "damaged" in lines[2]
    assert "format version 9" in lines[2]
    print_runs(str(runs), as_json=True)
    answers = orjson.loads(capsys.readouterr().out)
    assert [answer["name"] for answer in answers] == ["begun", "judge", "search/trial-1"]
    assert "format version 9" in answers[2]["damaged"]


def test_show_prints_checkpoints_and_figures(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = MetricsLog(str(runs / "judge"), 0)
    log.add({"loss/classifier": float("nan"), "optim/lr": 5e-5, "train/top1": 0.0}, 10)
    log.close()
    print_run(str(runs / "judge"), as_json=False)
    out = capsys.readouterr().out
    shown = dict(line.split() for line in out.splitlines() if "/" in line and len(line.split()) == 2)
    assert shown["optim/lr"] == "5e-05", "and not 0.0001, twice as much"
    assert shown["train/top1"] == "0.0000"
    assert "classifier, preset classifier-small" in out
    assert "checkpoint_002000 (best)" in out
    assert "2: cat, dog" in out
    assert "not finite" in out
    print_run(str(runs / "judge"), as_json=True)
    answer = orjson.loads(capsys.readouterr().out)
    assert [one["score"] for one in answer["checkpoints"]] == [0.5, 0.9, 0.7]


@pytest.mark.parametrize("file", ["meta.json", "experiment.json"])
def test_a_run_whose_checkpoints_come_and_go_is_listed(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    swept = runs / "judge" / "checkpoint_003000"
    sweep_before_reading(str(swept), file, monkeypatch)
    print_runs(str(runs), as_json=True)
    listed = {run["name"]: run for run in orjson.loads(capsys.readouterr().out)}
    assert not swept.exists()
    assert listed["judge"]["preset"] == "classifier-small"
    assert "damaged" not in listed["judge"]
    assert len(listed) == 3, "and so are the others"
