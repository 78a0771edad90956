"""From a prepared dataset to the batches of one rank.

An epoch's order is arithmetic (order.py). What a rank's lanes hold of a run of steps is a window (stream_plan.py).
Ray Data's tasks read windows (stream_rows.py), the first ones the rank itself (stream_ray.py); or the rank reads them
all (stream_here.py), as it does where there is one node, unless ``StreamPlan.read`` says who. So starting at a cursor
reads nothing that was consumed, and the drawings of a step are the same for any number of ranks.

Strokes take an eighth of their rasters' bytes, so they travel as strokes and are rasterised where they are used
(stream_pictures.py), a few steps at a time and ahead of the consumer, by threads of the worker. Where the workers' own
cores are busy and others are not, the tasks rasterise (``StreamPlan.rasterize = "tasks"``); where the worker has a GPU,
that can (``"device"``, by the rasteriser that it is given).
"""

from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from doodle_dist.data.order import EpochOrder, lanes_of_rank
from doodle_dist.data.stream_here import threads_that_read, windows_here
from doodle_dist.data.stream_pictures import Pictures, Rasteriser, pictures_by
from doodle_dist.data.stream_plan import StreamPlan, Window, windows
from doodle_dist.data.stream_ray import nodes_with_cores, windows_read
from doodle_dist.data.stream_rows import RowGroupsInMemory, read_window
from doodle_dist.reading import who_reads

# A thread of the worker rasterises so many drawings at once. Handing a chunk from thread to thread costs 0.4 ms, as
# much as rasterising 130 drawings, so chunks are large; but not so large that pictures of many pixels fill the memory.
CHUNK_DRAWINGS, CHUNK_BYTES = 8192, 8 << 20
# A task whose process was killed as it began may never be heard of again, and Ray Data waits for it without end. Twice
# as long as storage is given, and then some.
SILENCE_S = 300.0
_CLOSE_WITHIN_S = 30.0


class SilentStreamError(Exception):
    """Nothing came of a stream for so long that nothing will."""


@dataclass(frozen=True)
class Batch:
    """One rank's part of a global batch.

    ``pixels`` uint8 [B, channels, side, side] (on the device, where that drew them), ``labels`` int64 [B],
    ``key_ids`` uint64 [B], rows lane by lane; ``lane_rows`` gives the lanes and their row counts.
    ``global_rows`` counts all ranks' rows. ``consumed`` drawings of ``epoch`` lie behind once this step is done.
    """

    epoch: int
    pixels: Pictures
    labels: NDArray[np.int64]
    key_ids: NDArray[np.uint64]
    lane_rows: tuple[tuple[int, int], ...]
    global_rows: int
    consumed: int


class RankBatches:
    """Iterates over the batches of a rank; reading begins before the first is asked for, ``close`` ends it."""

    def __init__(
        self,
        plan: StreamPlan,
        lanes: range,
        todo: Iterator[Window],
        buffer_bytes: int,
        threads: int,
        memory: RowGroupsInMemory | None,
        draw: Rasteriser | None,
    ) -> None:
        self._draw = draw
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="rasterize")
        # One thread waits for Ray Data's first window, one reads what comes before it.
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="read")
        # Ours, and not of the generator that they read for: where a stream is dropped and not closed, the garbage
        # collector ends that, in any thread, which must not wait for another one.
        self._windows = ThreadPoolExecutor(threads_that_read(plan), thread_name_prefix="window")
        read: Iterator[tuple[Window, pa.Table]]
        if memory is not None:
            read = ((window, read_window(plan, lanes, window, memory)) for window in todo)
        elif who_reads(plan.read, plan.rasterize, nodes_with_cores()) == "worker":
            read = windows_here(plan, lanes, todo, self._windows)
        else:
            read = windows_read(plan, lanes, todo, buffer_bytes, self._readers)
        self._chunks = _chunks(plan, lanes, read)
        self._coming: Future[_Chunk | None] = self._readers.submit(next, self._chunks, None)
        self._batches = self._all_steps(plan, lanes, threads)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._batches)

    def _all_steps(self, plan: StreamPlan, lanes: range, threads: int) -> Generator[Batch, None, None]:
        ahead: deque[tuple[_Chunk, Future[Pictures]]] = deque()
        while True:
            # What is rasterised is handed on at once, whether or not more has been read.
            while len(ahead) < threads + 2 and (not ahead or self._coming.done()):
                chunk = self._next_chunk()
                if chunk is None:
                    break
                drawn = self._pool.submit(pictures_by, self._draw, plan, chunk.table, chunk.order.epoch)
                ahead.append((chunk, drawn))
                self._coming = self._readers.submit(next, self._chunks, None)
            if not ahead:
                return
            yield from _steps(plan, lanes, *ahead.popleft())

    def _next_chunk(self) -> "_Chunk | None":
        if not wait([self._coming], timeout=SILENCE_S).done:
            raise SilentStreamError(
                f"no drawings came for {SILENCE_S:.0f} s; tasks that read them and find no CPU free are one reason, "
                "and data.read=worker does without such"
            )
        return self._coming.result()

    def close(self) -> None:
        """End the pipeline and the threads; there are no more batches. What doesn't answer is left alone."""
        self._batches.close()
        answers = bool(wait([self._coming], timeout=_CLOSE_WITHIN_S).done)
        self._readers.shutdown(wait=answers)
        if answers:
            self._chunks.close()  # a generator that runs can't be
        self._windows.shutdown(wait=answers, cancel_futures=True)
        self._pool.shutdown()


def rank_batches(
    plan: StreamPlan,
    *,
    rank: int = 0,
    world_size: int = 1,
    epoch: int = 0,
    consumed: int = 0,
    epochs: int | None = 1,
    drawings: int | None = None,
    buffer_bytes: int = 512 << 20,
    threads: int = 1,
    memory: RowGroupsInMemory | None = None,
    draw: Rasteriser | None = None,
) -> RankBatches:
    """Batches of a rank from the cursor (epoch, drawings consumed of it) on, to the end of ``epochs``.

    ``epochs=None`` goes on for ever; with ``drawings``, an epoch ends with the step that has that many behind it.
    ``threads`` of this process rasterise, ahead of the consumer, by ``draw`` where one is given. Rows come as
    ``plan.read`` says, or from ``memory``: the same batches. Raises ValueError where ranks, lanes, batch and drawings
    don't fit; drawing from them raises SilentStreamError where nothing comes for SILENCE_S.
    """
    lanes = lanes_of_rank(rank, world_size, plan.lanes)
    todo = windows(plan, len(lanes), epoch, consumed, epochs, drawings)
    return RankBatches(plan, lanes, todo, buffer_bytes, threads, memory, draw)


def first_drawings(plan: StreamPlan, batches: Iterable[Batch], wanted: int) -> Iterator[Batch]:
    """A rank's part of the first ``wanted`` drawings of an epoch: the same drawings for any number of ranks.

    The step that they end in is cut, and some ranks may have no part in it.
    """
    for batch in batches:
        if batch.consumed > wanted:
            left = batch.global_rows - (batch.consumed - wanted)
            batch = _cut(batch, left, plan.order(batch.epoch))
        if len(batch.labels):
            yield batch
        if batch.consumed >= wanted:
            return


def _cut(batch: Batch, left: int, order: EpochOrder) -> Batch:
    """A rank's part of the first ``left`` drawings of a step: every lane's first, every lane's second, and so on."""
    begins = batch.consumed - batch.global_rows
    sizes = _rows_by_lane(order, range(order.lanes), begins // order.global_batch)
    in_turn = sorted((row, lane) for lane, rows in enumerate(sizes) for row in range(rows))
    kept = Counter(lane for _, lane in in_turn[:left])
    rows = np.flatnonzero(np.concatenate([np.arange(rows) < kept[lane] for lane, rows in batch.lane_rows]))
    return Batch(
        epoch=batch.epoch,
        pixels=batch.pixels[rows.tolist()],
        labels=batch.labels[rows],
        key_ids=batch.key_ids[rows],
        lane_rows=tuple((lane, kept[lane]) for lane, _ in batch.lane_rows if kept[lane]),
        global_rows=left,
        consumed=begins + left,
    )


@dataclass(frozen=True)
class _Chunk:
    """Steps [first, stop) of an epoch and the rank's drawings in them."""

    order: EpochOrder
    first: int
    stop: int
    table: pa.Table


def _rows_by_lane(order: EpochOrder, lanes: range, step: int) -> list[int]:
    return [stop - start for start, stop in (order.lane_rows(lane, step) for lane in lanes)]


def _chunks(
    plan: StreamPlan, lanes: range, read: Iterable[tuple[Window, pa.Table]]
) -> Generator[_Chunk, None, None]:
    """The windows cut into runs of whole steps of about CHUNK_DRAWINGS, or CHUNK_BYTES of pictures."""
    drawings = min(CHUNK_DRAWINGS, CHUNK_BYTES // plan.pixels)
    for window, table in read:
        order, at = plan.order(window.epoch), 0
        length = max(1, drawings // (len(lanes) * order.rows_per_lane_step))
        for first in range(window.first, window.stop, length):
            stop = min(first + length, window.stop)
            rows = sum(sum(_rows_by_lane(order, lanes, step)) for step in range(first, stop))
            yield _Chunk(order, first, stop, table.slice(at, rows))
            at += rows
        assert at == len(table), f"a window of {at} drawings came as {len(table)}"


def _steps(plan: StreamPlan, lanes: range, chunk: _Chunk, pixels: Future[Pictures]) -> Iterator[Batch]:
    order = chunk.order
    key_ids = chunk.table["key_id"].to_numpy()
    labels = chunk.table["label"].to_numpy().astype(np.int64)
    at = 0
    for step in range(chunk.first, chunk.stop):
        sizes = _rows_by_lane(order, lanes, step)
        part = slice(at, at + sum(sizes))
        at = part.stop
        yield Batch(
            epoch=order.epoch,
            pixels=pixels.result()[part],
            labels=labels[part],
            key_ids=key_ids[part],
            lane_rows=tuple(zip(lanes, sizes, strict=True)),
            global_rows=order.step_rows(step),
            consumed=step * plan.global_batch + order.step_rows(step),
        )
