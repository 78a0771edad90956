"""What runs say of themselves, on a disk and in an object store, whole, begun and damaged."""

from pathlib import Path

import pytest

from doodle_dist.data import storage
from doodle_dist.run.folder import find_runs, read_run
from doodle_dist.run.show import print_runs
from doodle_dist.training.metrics_log import MetricsLog
from tests.s3 import S3Server


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


def test_what_is_no_run_or_a_damaged_one_says_so(runs: Path) -> None:
    for place in ("other", "nowhere"):
        with pytest.raises(ValueError, match=f"{runs / place} is no run"):
            read_run(str(runs / place))
    (runs / "begun" / "config.toml").write_text("tempo = 3")
    with pytest.raises(ValueError, match=r"config\.toml: .*missing|config\.toml: tempo is not a setting"):
        read_run(str(runs / "begun"))


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
