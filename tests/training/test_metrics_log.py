"""metrics.jsonl of a run that was interrupted: each point once, on a disk and on an object store."""

from pathlib import Path

import pytest

from doodle_dist.evaluation.runs import METRICS_LOG, read_metrics_log
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
    assert again.path != log.path
    write(again, (30, 40), offset=0.5)
    again.close()
    assert points(run) == [(10, 10), (20, 20), (30, 30.5), (40, 40.5)]


@pytest.mark.parametrize("text", [b"", b"5\nnull\n[]\n{}\n"])
def test_lines_that_are_no_figures_are_left_out(tmp_path: Path, text: bytes) -> None:
    (tmp_path / METRICS_LOG).write_bytes(text)
    assert read_metrics_log(str(tmp_path)) == []
