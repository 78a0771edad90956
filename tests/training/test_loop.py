"""The loop with a task, a context and a stream of a few lines each: when what happens, and what stops it."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from doodle_dist.config.experiment import TrainConfig
from doodle_dist.data import storage
from doodle_dist.data.storage_errors import StorageError
from doodle_dist.data.stream import Batch
from doodle_dist.run.folder import read_events, read_metrics_log
from doodle_dist.training import loop
from doodle_dist.training.checkpoint import load_cursor
from doodle_dist.training.cursor import Cursor
from doodle_dist.training.loop import FailedError, NonFiniteError, Run, Speedometer, train
from doodle_dist.training.metrics_log import MetricsLog
from doodle_dist.training.stopping import Look
from doodle_dist.training.task import Clock, Planned, Report, StepInput, step_at_once

BATCH, EPOCH = 10, 95


class FakeTask:
    """Remembers its clocks; its loss is the step's number, its health NaN at one step."""

    def __init__(self, nan_at: int | None = None, fails_above: float = float("inf")) -> None:
        self.nan_at, self.fails_above = nan_at, fails_above
        self.clocks: list[Clock] = []
        self.seen = 0
        self.drawn: list[float] = []
        self.judged: list[tuple[int, int]] = []

    def plan(self, clock: Clock, global_rows: int) -> Planned:
        return Planned(None, None, partial(self._step, clock))

    def _step(self, clock: Clock, batch: StepInput) -> Mapping[str, Tensor]:
        self.clocks.append(clock)
        self.seen = clock.drawings_seen + batch.global_rows
        self.drawn.append(float(torch.rand(())))
        return {"loss/fake": torch.tensor(float(clock.step))}

    def gauges(self) -> Mapping[str, float]:
        return {"optim/lr": 0.5}

    def health(self) -> Tensor:
        return torch.tensor(float("nan") if self.clocks[-1].step == self.nan_at else 1.0)

    def evaluate(self, batches: Iterable[StepInput]) -> Report:
        self.judged.append((self.seen, sum(len(batch.labels) for batch in batches)))
        return Report({"val/top1": 0.25}, score=0.25)

    def failures(self, figures: Mapping[str, float]) -> Mapping[str, str]:
        return (
            {"too-large": f"loss {figures['loss/fake']}"} if figures["loss/fake"] > self.fails_above else {}
        )

    def pictures(self) -> Mapping[str, NDArray[np.uint8]]:
        return {"samples": np.full((4, 4), len(self.clocks), np.uint8)}

    def state_dict(self) -> dict[str, object]:
        return {"steps": len(self.clocks)}

    def load_state_dict(self, state: dict[str, object]) -> None: ...

    def snapshot(self) -> dict[str, Tensor]:
        return {"w": torch.zeros(1)}


@dataclass
class FakeContext:
    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    reports: list[tuple[dict[str, float], Path | None]] = field(default_factory=list)

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        self.reports.append((metrics, checkpoint))


def stream(cursor: Cursor) -> Iterator[Batch]:
    """Epochs of 95 drawings in batches of 10, the last of each being a short one."""
    epoch, at = cursor.epoch, cursor.consumed
    while True:
        for first in range(at, EPOCH, BATCH):
            rows = min(BATCH, EPOCH - first)
            yield Batch(
                epoch=epoch,
                pixels=np.zeros((rows, 1, 4, 4), np.uint8),
                labels=np.zeros(rows, np.int64),
                key_ids=np.arange(first, first + rows, dtype=np.uint64) + np.uint64(1000 * epoch),
                lane_rows=((0, rows),),
                global_rows=rows,
                consumed=first + rows,
            )
        epoch, at = epoch + 1, 0


def new_run(task: FakeTask, context: FakeContext, folder: Path, total: int, **config: int) -> Run:
    shown: list[dict[str, float]] = []
    warned: list[str] = []
    run = Run(
        task=task,
        step=partial(step_at_once, task),
        config=TrainConfig(global_batch=BATCH, drawings=total, **config),
        context=context,
        uri=str(folder),
        total_drawings=total,
        experiment={},
        meta={"categories": ["cat"]},
        held_out=lambda: (batch for batch, _ in zip(stream(Cursor(0, BATCH)), range(3), strict=False)),
        progress=shown.append,
        warn=warned.append,
        stop_at_failures=False,
        tensorboard=None,
        audit=None,
    )
    run.shown, run.warned = shown, warned  # type: ignore[attr-defined]
    return run


def seen(figures: list[dict[str, float]], name: str) -> list[float]:
    return [shown["drawings_seen"] for shown in figures if name in shown]


def begin() -> Cursor:
    return Cursor(seed=3, global_batch=BATCH)


def test_logs_and_checkpoints_come_by_drawings_and_once_more_at_the_end(tmp_path: Path) -> None:
    task, context = FakeTask(), FakeContext()
    run = new_run(task, context, tmp_path, 200, log_every_drawings=50, checkpoint_every_drawings=100)
    end = train(run, stream(begin()), begin())
    # 95 drawings an epoch: the first step past 100 ends at 105, the first past 150 at 155, and so on.
    assert seen(run.shown, "loss/fake") == [50, 105, 155, 200]  # type: ignore[attr-defined]
    assert [report["drawings_seen"] for report, _ in context.reports] == [105, 200]
    assert task.judged == [(105, 30), (200, 30)]
    assert (end.drawings_seen, end.step, end.epoch, end.consumed) == (200, 21, 2, 10)
    assert [clock.drawings_seen for clock in task.clocks[:3]] == [0, 10, 20]
    assert {clock.total_drawings for clock in task.clocks} == {200}


def test_a_log_holds_the_mean_since_the_last_one(tmp_path: Path) -> None:
    run = new_run(FakeTask(), FakeContext(), tmp_path, 90, log_every_drawings=30)
    train(run, stream(begin()), begin())
    losses = [figures["loss/fake"] for figures in run.shown if "loss/fake" in figures]  # type: ignore[attr-defined]
    assert losses == [1.0, 4.0, 7.0]


def test_the_metrics_log_has_every_log_and_evaluation_before_the_checkpoint_counts_it(tmp_path: Path) -> None:
    context = FakeContext()
    run = new_run(FakeTask(), context, tmp_path, 200, log_every_drawings=50, checkpoint_every_drawings=100)
    run.metrics_log = MetricsLog(str(tmp_path), 0)
    written: list[int] = []
    context.report = lambda *_: written.append(len(read_metrics_log(str(tmp_path))))  # type: ignore[method-assign]
    train(run, stream(begin()), begin())
    lines = read_metrics_log(str(tmp_path))
    assert seen(lines, "loss/fake") == [50, 105, 155, 200]
    assert seen(lines, "val/top1") == seen(lines, "score") == [105, 200]
    assert written == [3, 6]
    assert not any("step" in line for line in lines)


def test_a_checkpoint_holds_the_cursor_it_was_made_at_and_its_report(tmp_path: Path) -> None:
    context = FakeContext()
    run = new_run(FakeTask(), context, tmp_path, 100, checkpoint_every_drawings=0)
    end = train(run, stream(begin()), begin())
    ((metrics, folder),) = context.reports
    assert folder is not None
    assert load_cursor(folder, begin()) == end
    assert metrics == {"drawings_seen": 105.0, "step": 11.0, "val/top1": 0.25, "score": 0.25}
    meta = orjson.loads((folder / "meta.json").read_bytes())
    assert meta == {"format_version": 1, "categories": ["cat"], "metrics": metrics}


def test_other_ranks_report_too_and_save_nothing(tmp_path: Path) -> None:
    context = FakeContext(rank=1, world_size=2)
    train(new_run(FakeTask(), context, tmp_path, 50), stream(begin()), begin())
    assert [folder for _, folder in context.reports] == [None]


def test_from_a_cursor_the_same_steps_follow_with_the_same_random_numbers(tmp_path: Path) -> None:
    whole, first, second = FakeTask(), FakeTask(), FakeTask()
    train(new_run(whole, FakeContext(), tmp_path, 200), stream(begin()), begin())
    middle = train(new_run(first, FakeContext(), tmp_path, 100), stream(begin()), begin())
    train(new_run(second, FakeContext(), tmp_path, 200), stream(middle), middle)
    assert [c.step for c in first.clocks + second.clocks] == [c.step for c in whole.clocks]
    assert first.drawn + second.drawn == whole.drawn
    assert len(set(whole.drawn)) == len(whole.drawn)


def test_a_run_that_is_over_does_nothing(tmp_path: Path) -> None:
    task, context = FakeTask(), FakeContext()
    over = Cursor(3, BATCH, drawings_seen=100)
    assert train(new_run(task, context, tmp_path, 100), stream(begin()), over) == over
    assert task.clocks == []
    assert context.reports == []


# A step whose answer comes with the next one's, one that ends where a checkpoint is due, and the last.
@pytest.mark.parametrize(
    ("step", "seen_before", "first_key", "kept"),
    [(11, 105, 1010, [50, 105]), (10, 95, 1000, [50]), (20, 190, 2000, [50, 105, 155])],
)
def test_what_is_not_finite_stops_it_with_the_step_and_its_drawings(
    tmp_path: Path, step: int, seen_before: int, first_key: int, kept: list[int]
) -> None:
    context = FakeContext()
    # Step 11 ends where the sample grid is due.
    every = {"checkpoint_every_drawings": 50, "pictures_every_drawings": 110}
    run = new_run(FakeTask(nan_at=step), context, tmp_path, 200, **every)
    said = rf"at step {step}, drawing {seen_before}; .*key_ids begin {first_key}, {first_key + 1}"
    with pytest.raises(NonFiniteError, match=said):
        train(run, stream(begin()), begin())
    record: dict[str, Any] = orjson.loads((tmp_path / f"not-finite-step-{step}-rank-0.json").read_bytes())
    keys = list(range(first_key, first_key + 10))
    assert record == {"step": step, "drawings_seen": seen_before, "rank": 0, "key_ids": keys}
    assert [report["drawings_seen"] for report, _ in context.reports] == kept, "none after it"
    drawn = [int(file.stem) for file in (tmp_path / "samples").glob("*.png")]
    assert max(drawn) <= seen_before, "no picture of what is not finite"


def test_the_speedometer_leaves_pauses_out_and_counts_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    speed = Speedometer()
    with speed.waiting():
        now[0] += 2
    now[0] += 6
    with speed.paused():
        now[0] += 1000
    speed.drawings += 400
    assert speed.take() == {"speed/drawings_per_s": 50.0, "speed/data_wait_fraction": 0.25}
    now[0] += 1
    assert speed.take() == {"speed/drawings_per_s": 0.0, "speed/data_wait_fraction": 0.0}


def test_pictures_come_by_drawings_and_lie_in_the_run_s_folder(tmp_path: Path) -> None:
    task, context = FakeTask(), FakeContext()
    run = new_run(task, context, tmp_path, 95, checkpoint_every_drawings=0, pictures_every_drawings=30)
    train(run, stream(begin()), begin())
    files = sorted((tmp_path / "samples").iterdir())
    assert [file.name for file in files] == [f"{seen:012d}.png" for seen in (30, 60, 90, 95)]
    assert [int(np.asarray(Image.open(file))[0, 0]) for file in files] == [3, 6, 9, 10]


def test_a_failure_is_said_and_stops_the_run_only_where_asked(tmp_path: Path) -> None:
    task, context = FakeTask(fails_above=4), FakeContext()
    run = new_run(task, context, tmp_path, 100, log_every_drawings=30)
    run.metrics_log = MetricsLog(str(tmp_path), 0)
    train(run, stream(begin()), begin())
    noted = [(line["event"], line["drawings_seen"], line.get("name")) for line in read_events(str(tmp_path))]
    assert [one for one in noted if one[0] != "alive"] == [
        ("warning", 90, "too-large"),
        ("checkpoint", 105, None),
        ("finished", 105, None),
    ]
    warned = run.warned  # type: ignore[attr-defined]
    assert len(warned) == 1, "said once, though it shows at two logs"
    assert warned[0].startswith("too-large at drawing 90: loss 7")
    run = new_run(FakeTask(fails_above=4), context, tmp_path, 100, log_every_drawings=30)
    run.stop_at_failures = True
    run.metrics_log = MetricsLog(str(tmp_path), 0)
    with pytest.raises(FailedError, match="too-large at drawing 90: loss 7"):
        train(run, stream(begin()), begin())
    last = read_events(str(tmp_path))[-1]
    assert (last["event"], last["drawings_seen"]) == ("stopped", 90)
    assert last["reason"].startswith("too-large at drawing 90")
    with pytest.raises(StopIteration):
        train(run, [], begin())
    last = read_events(str(tmp_path))[-1]
    assert (last["event"], last["reason"]) == ("failed", "StopIteration: StopIteration")


def test_a_checkpoint_that_is_not_handed_over_leaves_no_folder_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def folder(purpose: str) -> Path:
        made.append(tmp_path / f"{purpose}-{len(made)}")
        made[-1].mkdir()
        return made[-1]

    class Full(FakeContext):
        def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
            assert checkpoint is not None
            assert list(checkpoint.iterdir())
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(loop, "new_folder", folder)
    with pytest.raises(OSError, match="No space"):
        train(new_run(FakeTask(), Full(), tmp_path, 10), stream(begin()), begin())
    assert len(made) == 1
    assert not made[0].exists()


@pytest.mark.parametrize("look", [Look.STOP, Look.SAVE])
def test_who_is_asked_to_stop_or_save_does_so_at_once_and_judges_nothing(tmp_path: Path, look: Look) -> None:
    task, context = FakeTask(), FakeContext()
    run = new_run(task, context, tmp_path, 100, checkpoint_every_drawings=0)
    looks = iter([Look.GO_ON, Look.GO_ON, look])
    run.look = lambda: next(looks, Look.GO_ON)
    run.metrics_log = MetricsLog(str(tmp_path), 0)
    end = train(run, stream(begin()), begin())
    stopped = look == Look.STOP
    noted = [(line["event"], line["drawings_seen"]) for line in read_events(str(tmp_path))]
    assert ("checkpoint", 30) in noted
    assert noted[-1] == (("stopped", 30) if stopped else ("finished", 105))
    assert end.drawings_seen == (30 if stopped else 105)
    assert [report["drawings_seen"] for report, _ in context.reports] == ([30] if stopped else [30, 105])
    assert task.judged == ([] if stopped else [(105, 30)])
    metrics, folder = context.reports[0]
    assert "score" not in metrics
    assert folder is not None
    assert load_cursor(folder, begin()).drawings_seen == 30


def test_the_end_is_noted_once_it_is_known_what_became_of_the_last_checkpoint(tmp_path: Path) -> None:
    run = new_run(FakeTask(), FakeContext(), tmp_path, 20)
    log = run.metrics_log = MetricsLog(str(tmp_path), 0)
    run.settle = lambda: log.note("warning", name="checkpoint", said="it was not stored")
    train(run, stream(begin()), begin())
    noted = [line["event"] for line in read_events(str(tmp_path)) if line["event"] != "alive"]
    assert noted == ["checkpoint", "warning", "finished"]


def test_pictures_and_curves_that_a_store_refuses_are_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = FakeContext()
    run = new_run(FakeTask(), context, tmp_path, 40, checkpoint_every_drawings=20)

    def refuse(uri: str, data: bytes) -> None:
        raise StorageError(f"{uri}: the store is unreachable")

    monkeypatch.setattr(storage, "write_atomic", refuse)
    assert train(run, stream(begin()), begin()).drawings_seen == 40
    assert [report["drawings_seen"] for report, _ in context.reports] == [20, 40]
    warned = run.warned  # type: ignore[attr-defined]
    assert len(warned) == 2
    assert all("unreachable; training goes on" in text for text in warned)


@pytest.mark.parametrize("reads", [0, 1, 3])
def test_held_out_drawings_are_begun_when_they_are_read_and_closed_by_the_one_who_judges(
    tmp_path: Path, reads: int
) -> None:
    happened: list[str] = []

    def held_out() -> Iterator[Batch]:
        happened.append("begun")
        try:
            for _, batch in zip(range(3), stream(begin()), strict=False):
                yield batch
        finally:
            happened.append("closed")

    class Reader(FakeTask):
        def evaluate(self, batches: Iterable[StepInput]) -> Report:
            self.kept = batches  # as a traceback would keep it
            for _ in range(reads):
                next(iter(batches))
            return Report({})

    context = FakeContext()
    run = new_run(Reader(), context, tmp_path, 100, checkpoint_every_drawings=0)
    run.held_out = held_out
    context.report = lambda *_: happened.append("reported")  # type: ignore[method-assign]
    train(run, stream(begin()), begin())
    assert happened == (["begun", "closed"] if reads else []) + ["reported"]
