"""metrics.jsonl of a run that was interrupted: each point once, on a disk and on an object store."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from doodle_dist.data import storage
from doodle_dist.run.files import EVENTS, METRICS_LOG
from doodle_dist.run.folder import read_events, read_metrics_log
from doodle_dist.training.checkpoint_store import CheckpointStore
from doodle_dist.training.lease import _as_json, check, held
from doodle_dist.training.metrics_log import MetricsLog
from tests.s3 import S3Server


def points(run: str) -> list[tuple[float, float]]:
    return [(line["drawings_seen"], line["loss"]) for line in read_metrics_log(run)]


def write(log: MetricsLog, seen: tuple[int, ...], offset: float = 0.0) -> None:
    for at in seen:
        log.add({"loss": at + offset}, at)


def test_what_came_after_the_checkpoint_and_a_line_cut_short_are_replaced(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    log = MetricsLog(run, 0)
    write(log, (10, 20, 30, 40))
    assert points(run) == [(10, 10), (20, 20), (30, 30), (40, 40)], "there at once"
    with (tmp_path / "run" / METRICS_LOG).open("ab") as file:
        file.write(b'{"drawings_seen": 50, "lo')  # as a kill leaves it
    again = MetricsLog(run, 20)
    write(again, (30,), offset=0.5)
    again.close()
    assert points(run) == [(10, 10), (20, 20), (30, 30.5)]
    MetricsLog(run, 0).close()
    assert points(run) == [], "interrupted before its first checkpoint a run begins anew"


def test_a_figure_that_is_not_finite_is_null(tmp_path: Path) -> None:
    log = MetricsLog(str(tmp_path), 0)
    log.add({"loss": float("nan"), "other": 1.0}, 10)
    log.close()
    assert read_metrics_log(str(tmp_path)) == [{"drawings_seen": 10, "loss": None, "other": 1.0}]


def test_on_an_object_store_it_is_there_at_each_checkpoint_and_goes_on_elsewhere(
    s3_env: S3Server, s3_bucket: str
) -> None:
    run = f"{s3_bucket}/run"
    log = MetricsLog(run, 0)
    write(log, (10, 20))
    assert points(run) == []
    log.flush()
    assert points(run) == [(10, 10), (20, 20)], "there before the checkpoint that counts it"
    write(log, (30, 40))  # and then rank 0's node is lost
    again = MetricsLog(run, 20)
    assert again.figures.path != log.figures.path
    write(again, (30, 40), offset=0.5)
    again.close()
    assert points(run) == [(10, 10), (20, 20), (30, 30.5), (40, 40.5)]


@pytest.mark.parametrize("text", [b"", b"5\nnull\n[]\n{}\n"])
def test_lines_that_are_no_figures_are_left_out(tmp_path: Path, text: bytes) -> None:
    (tmp_path / METRICS_LOG).write_bytes(text)
    assert read_metrics_log(str(tmp_path)) == []


def events(run: str) -> list[tuple[str, float]]:
    return [(line["event"], line["drawings_seen"]) for line in read_events(run)]


def test_what_happened_stays_over_restarts_the_lost_part_too(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    log = MetricsLog(run, 0)
    assert events(run) == [], "no file before the first event"
    log.note("started", workers=2)
    write(log, (10, 20, 30))
    log.alive()
    log.note("warning", name="critic-too-strong", said="look")
    with (tmp_path / "run" / EVENTS).open("ab") as file:
        file.write(b'{"at": 5, "eve')  # as a kill leaves it
    again = MetricsLog(run, 20)
    again.note("started", workers=1)
    again.close()
    assert events(run) == [("started", 0), ("warning", 30), ("started", 20)], "a minute has not passed"
    first, _, last = read_events(run)
    assert (first["workers"], last["workers"]) == (2, 1)
    assert 0 <= last["at"] - first["at"] < 3600


def test_threads_may_note_while_another_ends_it_and_nothing_is_noted_after_that(tmp_path: Path) -> None:
    """As whoever stores a run's checkpoints does."""
    log = MetricsLog(str(tmp_path), 0)
    others = [threading.Thread(target=lambda: [log.note("warning") for _ in range(200)]) for _ in range(4)]
    for other in others:
        other.start()
    log.note("finished")
    log.close()
    before = read_events(str(tmp_path))
    for other in others:
        other.join()
    log.note("warning")
    assert read_events(str(tmp_path)) == before
    assert {line["event"] for line in before} >= {"finished"}


def test_a_run_that_says_nothing_is_noted_to_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = MetricsLog(str(tmp_path), 0)
    log.note("started")
    clock = "doodle_dist.training.metrics_log.time.monotonic"  # the other one may be set back
    for elapsed in (59, 30, 31):
        monkeypatch.setattr(clock, lambda at=log.noted + elapsed: at)
        log.alive()
    assert events(str(tmp_path)) == [("started", 0)]
    monkeypatch.setattr(clock, lambda at=log.noted + 60: at)
    log.alive()
    assert events(str(tmp_path)) == [("started", 0), ("alive", 0)]


def test_events_on_an_object_store_go_on_from_the_last_checkpoint(s3_env: S3Server, s3_bucket: str) -> None:
    run = f"{s3_bucket}/run"
    log = MetricsLog(run, 0)
    log.note("started")
    assert events(run) == []
    write(log, (10,))
    log.note("checkpoint")
    log.flush()
    assert events(run) == [("started", 0), ("checkpoint", 10)]
    again = MetricsLog(run, 10)
    again.note("started")
    again.close()
    assert events(run) == [("started", 0), ("checkpoint", 10), ("started", 10)]


def test_who_was_taken_over_puts_no_figures_over_the_other_s(s3_env: S3Server, s3_bucket: str) -> None:
    run = f"{s3_bucket}/run"
    with held(run, lambda _: None) as (lease, _):
        mine = MetricsLog(run, 0, lambda: check(lease))
        write(mine, (10, 20))
        mine.flush()
        theirs = replace(lease, fence=lease.fence + 1, token="another")
        storage.write_atomic(theirs.uri, _as_json(theirs))
        other = MetricsLog(run, 20, lambda: check(theirs))
        write(other, (30,))
        other.close()
        mine.note("finished")
        mine.close()
    assert points(run) == [(10, 10), (20, 20), (30, 30)]
    assert events(run) == []


def test_workers_that_were_replaced_put_no_figures_over_the_new_ones(
    s3_env: S3Server, s3_bucket: str
) -> None:
    run = f"{s3_bucket}/run"
    with held(run, lambda _: None) as (lease, _):
        before, after = (CheckpointStore(run, 1, lease, lambda _: None) for _ in range(2))
        before.begin()
        theirs = MetricsLog(run, 0, before.check_writer)
        write(theirs, (10, 20))
        theirs.flush()
        after.begin()
        mine = MetricsLog(run, 20, after.check_writer)
        write(mine, (30,))
        mine.note("checkpoint")
        mine.flush()
        write(theirs, (30, 40), offset=0.5)
        theirs.note("failed")
        theirs.close()
        assert points(run) == [(10, 10), (20, 20), (30, 30)]
        assert events(run) == [("checkpoint", 30)]


@pytest.mark.parametrize("text", [b"5\n[]\n{}\n", b'{"event": "started", "at": "now", "drawings_seen": 0}\n'])
def test_lines_that_are_no_events_are_left_out(tmp_path: Path, text: bytes) -> None:
    (tmp_path / EVENTS).write_bytes(text)
    assert read_events(str(tmp_path)) == []
