"""What runs say of themselves, on a disk and in an object store, whole, begun and damaged."""

from pathlib import Path

import orjson
import pytest

from doodle_dist.config.load import load_experiment, to_toml
from doodle_dist.data import storage
from doodle_dist.run.folder import find_runs, print_run, print_runs, read_run
from doodle_dist.training.metrics_log import MetricsLog
from tests.runs import save_run, sweep_before_reading
from tests.s3 import S3Server


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    for seen, score in ((1000, 0.5), (2000, 0.9), (3000, 0.7)):
        save_run(folder / "judge", "classifier-small", seen=seen, score=score)
    save_run(folder / "search" / "trial-1", "doodle-gan-small", seen=500)
    (folder / "begun").mkdir()
    experiment = load_experiment("cdcgan-small", ["train.drawings=4000"])
    (folder / "begun" / "config.toml").write_text(to_toml(experiment))
    (folder / "begun" / "stopped.json").write_bytes(b'{"reason": "a loss is not finite"}')
    (folder / "other").mkdir()
    (folder / "other" / "notes.json").write_text("{}")
    return folder


def test_runs_are_found_at_any_depth_and_nothing_else_is_one(runs: Path) -> None:
    names = [uri.removeprefix(f"{runs}/") for uri in find_runs(str(runs))]
    assert names == ["begun", "judge", "search/trial-1"]
    assert find_runs(str(runs / "judge")) == [str(runs / "judge")]
    for empty in (runs / "other", runs / "nowhere"):
        with pytest.raises(ValueError, match=f"{empty} holds no runs"):
            find_runs(str(empty))


def test_a_run_tells_its_task_its_way_and_its_best_checkpoint(runs: Path) -> None:
    log = MetricsLog(str(runs / "judge"), 0)
    log.add({"loss/classifier": 2.0, "val/top1": 0.25}, 2500)
    log.add({"loss/classifier": 1.5}, 3200)
    log.close()
    run = read_run(str(runs / "judge"))
    assert (run.name, run.task, run.preset) == ("judge", "classifier", "classifier-small")
    assert (run.drawings_seen, run.categories) == (3200, ("cat", "dog"))
    assert [one.drawings_seen for one in run.checkpoints] == [1000, 2000, 3000]
    assert run.best is not None
    assert (run.best.score, run.best.drawings_seen) == (0.9, 2000)
    assert run.figures == {"score": 0.7, "loss/classifier": 1.5, "val/top1": 0.25}
    assert run.files == {f"checkpoint_00{k}000/": 5 for k in (1, 2, 3)} | {"metrics.jsonl": 1}


def test_a_run_without_a_checkpoint_says_what_it_is_and_why_it_stopped(runs: Path) -> None:
    run = read_run(str(runs / "begun"))
    assert (run.task, run.preset, run.drawings, run.checkpoints) == ("gan", "cdcgan-small", 4000, ())
    assert run.stopped == "a loss is not finite"
    assert run.best is None


def test_a_run_is_found_by_any_spelling_of_its_place(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs / "other")
    for spelled in ("../judge", "../judge/", f"file://{runs}/judge"):
        print_run(spelled, as_json=True)
        assert orjson.loads(capsys.readouterr().out)["uri"] == str(runs / "judge")
    print_runs("..", as_json=True)
    assert len(orjson.loads(capsys.readouterr().out)) == 3


def test_what_is_no_run_or_a_damaged_one_says_so(runs: Path) -> None:
    for place in ("other", "nowhere"):
        with pytest.raises(ValueError, match=f"{runs / place} is no run"):
            read_run(str(runs / place))
    (runs / "begun" / "config.toml").write_text("tempo = 3")
    with pytest.raises(ValueError, match=r"config\.toml: .*missing|config\.toml: tempo is not a setting"):
        read_run(str(runs / "begun"))


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
    log.add({"loss/classifier": float("nan"), "optim/lr_classifier": 5e-5, "train/accuracy": 0.0}, 10)
    log.close()
    print_run(str(runs / "judge"), as_json=False)
    out = capsys.readouterr().out
    shown = dict(line.split() for line in out.splitlines() if "/" in line and len(line.split()) == 2)
    assert shown["optim/lr_classifier"] == "5e-05", "and not 0.0001, twice as much"
    assert shown["train/accuracy"] == "0.0000"
    assert "classifier, preset classifier-small" in out
    assert "checkpoint_002000 (best)" in out
    assert "2: cat, dog" in out
    assert "not finite" in out
    print_run(str(runs / "judge"), as_json=True)
    answer = orjson.loads(capsys.readouterr().out)
    assert [one["score"] for one in answer["checkpoints"]] == [0.5, 0.9, 0.7]


def test_runs_in_an_object_store_are_listed_and_shown(
    s3_env: S3Server, s3_bucket: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (path for path in runs.rglob("*") if path.is_file()):
        storage.put_file(file, f"{s3_bucket}/{file.relative_to(runs.parent)}")
    assert find_runs(f"{s3_bucket}/runs") == [
        f"{s3_bucket}/runs/{name}" for name in ("begun", "judge", "search/trial-1")
    ]
    there, here = read_run(f"{s3_bucket}/runs/judge"), read_run(str(runs / "judge"))
    assert there.uri == f"{s3_bucket}/runs/judge"
    assert [one.metrics for one in there.checkpoints] == [one.metrics for one in here.checkpoints]
    assert (there.files, there.figures) == (here.files, here.figures)
    print_runs(f"{s3_bucket}/runs", as_json=False)
    assert "judge" in capsys.readouterr().out


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
