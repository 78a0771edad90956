"""`runs watch`: what it shows of a run that is written meanwhile, and how it ends."""

import threading
from pathlib import Path

import orjson
import pytest

from doodle_dist.config.load import load_experiment, to_toml
from doodle_dist.data import storage
from doodle_dist.errors import WorkFailedError
from doodle_dist.evaluation.watch import follow, look, watch_run
from doodle_dist.run.files import STOPPED
from doodle_dist.run.folder import read_run
from doodle_dist.training.metrics_log import MetricsLog
from tests.runs import save_run
from tests.s3 import S3Server

SOON = 0.05


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "doodles"
    folder.mkdir()
    experiment = load_experiment("doodle-gan-small", ["train.drawings=3000"])
    (folder / "config.toml").write_text(to_toml(experiment))
    return folder


def test_it_follows_a_run_to_its_end_through_a_resume(run: Path) -> None:
    news = follow(str(run), SOON, 20)
    assert next(news).figures == {}
    log = MetricsLog(str(run), 0)
    log.add({"loss/critic": 0.7, "speed/drawings_per_s": 100.0}, 1000)
    first = next(news)
    assert (first.seen, first.total, first.figures["loss/critic"], first.is_over) == (1000, 3000, 0.7, False)
    log.add({"loss/critic": 0.6}, 2000)
    assert next(news).seen == 2000
    log.close()
    again = MetricsLog(str(run), 1000)  # what came after the checkpoint is dropped, and comes again
    assert next(news).seen == 1000
    again.add({"loss/critic": 0.5}, 3000)
    last = next(news)
    assert (last.seen, last.is_over) == (3000, True)
    assert last.figures["speed/drawings_per_s"] == 100.0
    with pytest.raises(StopIteration):
        next(news)


def test_without_a_terminal_it_prints_plain_lines_and_the_best_checkpoint(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_run(run, "doodle-gan-small", seen=1000, score=0.25, settings=("train.drawings=3000",))
    log = MetricsLog(str(run), 0)
    log.add({"loss/critic": 0.75}, 1000)

    def go_on() -> None:
        log.add({"loss/critic": 0.5}, 3000)
        log.close()

    timer = threading.Timer(0.5, go_on)
    timer.start()
    watch_run(str(run), every_s=SOON, patience_s=20, as_json=False)
    timer.join()
    first, last, done = capsys.readouterr().out.splitlines()
    assert first.startswith("1,000/3,000 drawings   33%")
    assert "loss/critic 0.750" in first
    assert last.startswith("3,000/3,000 drawings  100%")
    assert done == f"done: 3,000 drawings; best checkpoint {run}/checkpoint_001000, score 0.2500"


def test_json_is_an_object_a_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = MetricsLog(str(run), 0)
    log.add({"loss/critic": float("nan")}, 3000)
    log.close()
    watch_run(str(run), every_s=SOON, patience_s=20, as_json=True)
    [line] = capsys.readouterr().out.splitlines()
    assert orjson.loads(line) == {"drawings_seen": 3000, "loss/critic": None, "total": 3000}


def test_json_is_an_object_a_line_on_a_terminal_too(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # which rich takes for one
    monkeypatch.setenv("COLUMNS", "80")
    figures = {f"optim/gradient_norm_max_{k}": 1.0 for k in range(9)}
    log = MetricsLog(str(run), 0)
    log.add(figures, 3000)
    log.close()
    watch_run(str(run), every_s=SOON, patience_s=20, as_json=True)
    [line] = capsys.readouterr().out.splitlines()
    assert orjson.loads(line) == figures | {"drawings_seen": 3000, "total": 3000}


def test_a_figure_that_is_not_finite_is_left_out_of_the_line(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = MetricsLog(str(run), 0)
    log.add({"loss/critic": float("nan"), "loss/generator": 1.0}, 3000)
    log.close()
    watch_run(str(run), every_s=SOON, patience_s=20, as_json=False)
    line = capsys.readouterr().out.splitlines()[0]
    assert "loss/critic" not in line
    assert "loss/generator 1.000" in line


def test_a_run_that_stopped_itself_ends_with_its_reason(run: Path) -> None:
    (run / STOPPED).write_bytes(orjson.dumps({"reason": "a loss is not finite at step 7"}))
    with pytest.raises(WorkFailedError, match="stopped itself at drawing 0: a loss is not finite at step 7"):
        watch_run(str(run), every_s=SOON, patience_s=20, as_json=False)
    (run / STOPPED).write_bytes(b"{}")  # as the next start leaves it
    assert not look(str(run), read_run(str(run))).is_over


def test_a_run_that_was_told_to_stop_says_where_and_may_go_on(run: Path) -> None:
    log = MetricsLog(str(run), 0)
    log.add({"loss/critic": 0.7}, 1000)
    news = follow(str(run), SOON, 20)
    assert not next(news).is_resting
    log.add({"judge/frechet_distance": 40.0}, 1500)  # of the checkpoint that it makes before it stops
    log.note("stopped", reason="it was asked to")
    log.close()
    rests = next(one for one in news if one.is_resting)
    assert (rests.seen, rests.is_over) == (1500, False)
    again = MetricsLog(str(run), 1500)
    again.note("started")
    again.add({"loss/critic": 0.6}, 3000)
    again.note("finished")
    assert [one.seen for one in news][-1] == 3000


def test_silence_ends_it_when_it_is_asked_to(run: Path) -> None:
    with pytest.raises(WorkFailedError, match=r"nothing new for 0\.2 s at drawing 0"):
        watch_run(str(run), every_s=SOON, patience_s=0.2, as_json=False)


@pytest.mark.parametrize("patience_s", [20, 0])
def test_a_run_that_begins_later_is_waited_for(
    tmp_path: Path, run: Path, patience_s: float, capsys: pytest.CaptureFixture[str]
) -> None:
    later = tmp_path / "later"
    timer = threading.Timer(0.3, lambda: run.rename(later))
    timer.start()
    assert next(follow(str(later), SOON, patience_s)).seen == 0
    timer.join()
    assert capsys.readouterr().err == f"waiting: {later} is no run: there is nothing\n"


def test_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no run"):
        watch_run(str(tmp_path / "nothing"), every_s=SOON, patience_s=1, as_json=False)


def test_a_run_in_an_object_store_is_followed(
    s3_env: S3Server, s3_bucket: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"{s3_bucket}/runs/doodles"
    storage.put_file(run / "config.toml", f"{uri}/config.toml")
    log = MetricsLog(uri, 0)
    log.add({"loss/critic": 0.5}, 1000)
    log.flush()
    news = follow(uri, SOON, 20)
    assert next(news).seen == 1000
    log.add({"loss/critic": 0.4}, 3000)
    log.close()
    assert next(news).is_over
    watch_run(uri, every_s=SOON, patience_s=20, as_json=False)
    assert capsys.readouterr().out.splitlines()[-1].startswith("done: 3,000 drawings")


def test_it_is_not_over_before_its_last_checkpoint(run: Path) -> None:
    log = MetricsLog(str(run), 0)
    log.note("started")
    log.add({"loss/critic": 0.5}, 3000)
    assert not look(str(run), read_run(str(run))).is_over
    log.note("checkpoint")
    assert not look(str(run), read_run(str(run))).is_over
    log.note("finished")
    log.close()
    assert look(str(run), read_run(str(run))).is_over
