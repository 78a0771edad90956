"""The training loop: stream -> step -> log -> evaluate -> checkpoint. It knows no models and no Ray."""

import math
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from torch import Tensor

from doodle_dist.config.experiment import TrainConfig
from doodle_dist.data import locations, storage
from doodle_dist.data.order import step_seed
from doodle_dist.data.retry import patience
from doodle_dist.data.scratch import new_folder
from doodle_dist.data.storage_errors import StorageError
from doodle_dist.data.stream import Batch
from doodle_dist.errors import one_line, root_cause
from doodle_dist.pictures import png, to_device, to_images
from doodle_dist.training.audit import AuditWriter
from doodle_dist.training.checkpoint import save_checkpoint
from doodle_dist.training.context import Context
from doodle_dist.training.cursor import Cursor
from doodle_dist.training.late_number import LateNumber
from doodle_dist.training.metrics import Meter
from doodle_dist.training.metrics_log import MetricsLog
from doodle_dist.training.stopping import Look, never
from doodle_dist.training.task import (
    DROPOUT_LANES,
    Clock,
    LaneRandom,
    Report,
    StepInput,
    Task,
)
from doodle_dist.training.tensorboard import TensorBoard


class StoppedError(Exception):
    """A run that goes wrong stops itself. All ranks raise it at the same step."""


class NonFiniteError(StoppedError):
    """A loss or a gradient became NaN or infinite."""


class FailedError(StoppedError):
    """A failure was found that the run is to stop at (gan.failures.stop)."""


def _at_once() -> None:
    """Where a checkpoint is stored as it is reported, there is nothing to wait for."""


@dataclass
class Run:
    """Everything a run's loop works with. ``tensorboard`` and ``metrics_log`` are rank 0's alone.

    ``held_out`` makes a stream of the held-out drawings, which starts once it is read from and is closed after each
    evaluation. ``failing`` are the failures that showed at the last log. ``report_at`` are drawings seen after which
    it evaluates and checkpoints, beside every multiple that the config names. ``look`` is called after every step
    and says, on all ranks alike, whether to save or to stop there. ``step`` takes the task's steps. ``settle`` waits
    until it is known what became of the last checkpoint.
    """

    task: Task
    step: Callable[[StepInput, Clock], Mapping[str, Tensor]]
    config: TrainConfig
    context: Context
    uri: str
    total_drawings: int
    experiment: dict[str, object]
    meta: dict[str, object]
    held_out: Callable[[], Generator[Batch, None, None]]
    progress: Callable[[dict[str, float]], object]
    warn: Callable[[str], object]
    stop_at_failures: bool
    tensorboard: TensorBoard | None
    audit: AuditWriter | None
    metrics_log: MetricsLog | None = None
    failing: set[str] = field(default_factory=set)
    report_at: tuple[int, ...] = ()
    look: Callable[[], Look] = never
    settle: Callable[[], object] = _at_once


def to_input(batch: Batch, seed: int, step: int, device: torch.device) -> StepInput:
    """A batch of the stream as a task takes it, with the random numbers that belong to its step."""
    return StepInput(
        images=to_images(batch.pixels, device),
        labels=to_device(batch.labels, device),
        global_rows=batch.global_rows,
        random=LaneRandom(seed, step, batch.lane_rows, device),
    )


def train(run: Run, batches: Iterable[Batch], cursor: Cursor) -> Cursor:
    """Train from ``cursor`` until ``run.total_drawings`` were seen, or it is told to stop; the cursor at the end.

    How it ended is noted. Raises NonFiniteError, on every rank, where a loss or gradient is NaN or infinite, and
    FailedError.
    """
    try:
        cursor = _steps(run, batches, cursor)
    except StoppedError as error:
        if run.metrics_log:
            run.metrics_log.note("stopped", reason=str(error))
        raise
    except Exception as error:  # the next start of the run can't find out why this one ended
        if run.metrics_log:
            root = root_cause(error)
            run.metrics_log.note("failed", reason=f"{type(root).__name__}: {one_line(root)}")
        raise
    run.settle()  # who follows the run takes what is noted last for its end
    if run.metrics_log and cursor.drawings_seen < run.total_drawings:
        run.metrics_log.note("stopped", reason="it was asked to")
    elif run.metrics_log:
        run.metrics_log.note("finished")
    return cursor


def _steps(run: Run, batches: Iterable[Batch], cursor: Cursor) -> Cursor:
    config, meter, speed = run.config, Meter(), Speedometer()
    stream = iter(batches)
    taken: _Taken | None = None
    while cursor.drawings_seen < run.total_drawings:
        with speed.waiting():
            batch = next(stream)
        _seed_dropout(
            step_seed(cursor.seed, cursor.step, DROPOUT_LANES + run.context.rank), run.context.device
        )
        clock = Clock(cursor.step, cursor.drawings_seen, run.total_drawings)
        meter.add(run.step(to_input(batch, cursor.seed, cursor.step, run.context.device), clock))
        last, taken = taken, _Taken(batch, cursor, LateNumber(run.task.health()))
        if last:
            _stop_if_not_finite(run, last)
        if run.audit:
            run.audit.add(cursor.step, batch.epoch, batch.lane_rows, batch.key_ids)
        before, cursor = cursor, cursor.after(batch.epoch, batch.consumed, batch.global_rows)
        speed.drawings += batch.global_rows

        done, look = cursor.drawings_seen >= run.total_drawings, run.look()
        logs = done or _passed(before, cursor, config.log_every_drawings)
        saves = done or _is_due(run, before, cursor) or look != Look.GO_ON
        draws = not saves and _passed(before, cursor, config.pictures_every_drawings)
        if logs or saves or draws:
            _stop_if_not_finite(run, taken)
        if logs:
            _log(run, meter.take() | dict(run.task.gauges()) | speed.take(), cursor)
        if saves:
            with speed.paused():
                # Who must stop or is about to be taken away has seconds: it saves, and judges nothing.
                _checkpoint(run, cursor, is_judged=done or look == Look.GO_ON)
            if look == Look.STOP:
                break
        if draws:
            with speed.paused(), _missable(run):
                _draw(run, {}, cursor)
    return cursor


def _seed_dropout(seed: int, device: torch.device) -> None:
    """Dropout is the one thing drawn from torch's own generators: seeded so that a resumed run repeats it.

    Not torch.manual_seed: without a GPU it notes the caller's stack for a day when there is one, 1 % of a step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _passed(before: Cursor, after: Cursor, every: int) -> bool:
    """Whether a multiple of ``every`` drawings lies between two cursors; never for 0."""
    return every > 0 and before.drawings_seen // every != after.drawings_seen // every


def _is_due(run: Run, before: Cursor, after: Cursor) -> bool:
    """Whether a checkpoint is to be made between two cursors."""
    asked = any(before.drawings_seen < at <= after.drawings_seen for at in run.report_at)
    return asked or _passed(before, after, run.config.checkpoint_every_drawings)


class Speedometer:
    """Drawings per second and the share of time spent waiting for data, evaluations left out."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self.began, self.waited, self.drawings = time.perf_counter(), 0.0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.waited += time.perf_counter() - began

    @contextmanager
    def paused(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.began += time.perf_counter() - began

    def take(self) -> dict[str, float]:
        elapsed = max(time.perf_counter() - self.began, 1e-9)
        figures = {
            "speed/drawings_per_s": self.drawings / elapsed,
            "speed/data_wait_fraction": self.waited / elapsed,
        }
        self._start()
        return figures


def _where(run: Run, cursor: Cursor) -> dict[str, float]:
    return {"drawings_seen": cursor.drawings_seen, "total": run.total_drawings, "step": cursor.step}


def _log(run: Run, scalars: dict[str, float], cursor: Cursor) -> None:
    failures = run.task.failures(scalars)
    if run.tensorboard:
        run.tensorboard.scalars(scalars, cursor.drawings_seen)
        run.tensorboard.failures(failures, cursor.drawings_seen)
    if run.metrics_log:
        run.metrics_log.add(scalars, cursor.drawings_seen)
        run.metrics_log.alive()
    run.progress(_where(run, cursor) | scalars)
    new = [name for name in failures if name not in run.failing]
    for name in new:
        if run.metrics_log:
            run.metrics_log.note("warning", name=name, said=failures[name])
    run.failing = set(failures)
    said = [f"{name} at drawing {cursor.drawings_seen:,}: {failures[name]}" for name in new]
    for text in said:  # once, until it has ended
        run.warn(text)
    if said and run.stop_at_failures:
        raise FailedError("; ".join(said))


def _draw(run: Run, report: dict[str, NDArray[np.uint8]], cursor: Cursor) -> None:
    """A report's pictures and the task's of this moment to TensorBoard, and as PNG files to the run's folder,
    named by the drawings seen."""
    if run.context.rank != 0:
        return
    pictures = report | dict(run.task.pictures())
    if run.tensorboard:
        run.tensorboard.pictures(pictures, cursor.drawings_seen)
    for name, picture in pictures.items():
        uri = locations.join(run.uri, name, f"{cursor.drawings_seen:012d}.png")
        storage.write_atomic(uri, png(picture))


@dataclass(frozen=True)
class _Taken:
    """A step: its batch, the cursor before it, and its health.

    That is read while the device works on the next step, or before anything of this one is told or kept.
    """

    batch: Batch
    cursor: Cursor
    health: LateNumber


def _stop_if_not_finite(run: Run, taken: _Taken) -> None:
    health, batch, cursor = taken.health.read(), taken.batch, taken.cursor
    if math.isfinite(health):
        return
    what = {
        "step": cursor.step,
        "drawings_seen": cursor.drawings_seen,
        "rank": run.context.rank,
        "key_ids": batch.key_ids.tolist(),
    }
    name = f"not-finite-step-{cursor.step}-rank-{run.context.rank}.json"
    storage.write_atomic(locations.join(run.uri, name), orjson.dumps(what))
    keys = ", ".join(map(str, batch.key_ids[:4].tolist()))
    raise NonFiniteError(
        f"a loss or gradient is not finite ({health}) at step {cursor.step}, drawing {cursor.drawings_seen:,}; "
        f"the batch's key_ids begin {keys}: all are in {locations.join(run.uri, name)}"
    )


_CLOCK = ("drawings_seen", "step")


def _checkpoint(run: Run, cursor: Cursor, *, is_judged: bool) -> None:
    """Evaluate and draw, where it ``is_judged``; save and report. Every rank takes part."""
    report = Report({})
    if is_judged:
        with closing(run.held_out()) as batches:
            held_out = (
                to_input(batch, cursor.seed, k, run.context.device) for k, batch in enumerate(batches)
            )
            report = run.task.evaluate(held_out)
    metrics = {"drawings_seen": float(cursor.drawings_seen), "step": float(cursor.step)} | report.scalars
    if report.score is not None:
        metrics["score"] = report.score
    if run.audit:
        run.audit.flush()
    with _saved(run, cursor, metrics) as folder:
        if is_judged:
            with _missable(run):
                _draw(run, report.pictures, cursor)
        _tell(run, report, metrics, cursor)
        run.context.report(metrics, folder)


@contextmanager
def _saved(run: Run, cursor: Cursor, metrics: dict[str, float]) -> Iterator[Path | None]:
    """Rank 0's checkpoint as a local folder, which whoever it is reported to deletes; gone where that fails."""
    if run.context.rank != 0:
        yield None
        return
    folder = new_folder("checkpoint")
    try:
        save_checkpoint(
            folder,
            state=run.task.state_dict(),
            cursor=cursor,
            snapshot=run.task.snapshot(),
            experiment=run.experiment,
            meta=run.meta | {"metrics": metrics},
        )
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _tell(run: Run, report: Report, metrics: dict[str, float], cursor: Cursor) -> None:
    """What was found at a checkpoint to whoever follows the run, before the checkpoint is there."""
    if run.tensorboard:
        run.tensorboard.scalars(report.scalars, cursor.drawings_seen)
        with _missable(run):
            run.tensorboard.flush()
    if run.metrics_log:
        figures = {name: value for name, value in metrics.items() if name not in _CLOCK}
        if figures:
            run.metrics_log.add(figures, cursor.drawings_seen)
        run.metrics_log.seen = cursor.drawings_seen  # where nothing was judged there were no figures
        run.metrics_log.note("checkpoint")
        with _missable(run):
            run.metrics_log.flush()
    run.progress(_where(run, cursor) | report.scalars)


# What waits for a store holds up training: pictures and curves, which come again, don't wait for long.
_MISSABLE_PATIENCE_S = 10.0


@contextmanager
def _missable(run: Run) -> Iterator[None]:
    """What a store refuses inside is a warning: the run needs it for nothing, and the next checkpoint tries again."""
    try:
        with patience(_MISSABLE_PATIENCE_S):
            yield
    except StorageError as error:
        run.warn(f"{error}; training goes on")
