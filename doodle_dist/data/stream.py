"""From a prepared dataset to the batches of one rank, through Ray Data.

Each rank runs one Ray Data pipeline. Its input items are windows: a run of steps of one epoch. Its tasks
read the row groups behind the rank's lanes in that window (see order.py) and hand the drawings on in the
order of their steps, one Arrow block a window. Which rows those are is arithmetic, so starting at a cursor
reads nothing that was consumed, and the drawings of a step are the same for any number of ranks.

Strokes take an eighth of their rasters' bytes, so they travel as strokes and are rasterised where they are
used, a few steps at a time and ahead of the consumer, by threads of the worker. Where the workers' own cores
are busy and others are not, the tasks rasterise (``StreamPlan.rasterize = "tasks"``); where the worker has a GPU,
that can (``"device"``, by the rasteriser that it is given).

Ray Data's processes take seconds to start. Meanwhile the rank reads the first steps itself, by the same
arithmetic.
"""

import pickle
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from doodle_dist.data import locations, storage, storage_errors
from doodle_dist.data.categories import unknown_category
from doodle_dist.data.manifest import load_group_counts
from doodle_dist.data.order import EpochOrder, lanes_of_rank
from doodle_dist.data.raster import rasterize_packed
from doodle_dist.data.retry import TRAINING_PATIENCE_S, is_transient, patience, persistently
from doodle_dist.data.schema import Kind, Manifest, binary_buffers, fixed_rows
from doodle_dist.data.storage_errors import DamagedError, StorageError
from doodle_dist.data.stroke_augment import StrokeAugment, augment_packed

if TYPE_CHECKING:
    import ray.data

# One pipeline covers at most so many windows; a longer run chains pipelines, so that the driver of a
# pipeline never holds the plan of fifty million drawings.
WINDOWS_PER_PIPELINE = 1024

# A window, as it travels: large enough that a Ray task's own cost is small beside its work, small enough that a
# few of them are no burden, and that an object store's answers are waited for by several tasks at once.
WINDOW_BYTES = 50 << 20
WINDOW_DRAWINGS = 131_072

# Ray Data's loop looks for finished tasks when all are done, or every tenth of a second. Twice as many tasks as
# cores keep the cores busy meanwhile; with one a core each would wait for the loop half of its time.
TASK_CPUS = 0.5

# A thread of the worker rasterises so many drawings at once: their pictures (1.6 MB) stay in a core's cache,
# and handing them over costs little.
CHUNK_DRAWINGS = 2048

# So many drawings of the first window a rank reads itself, at most: read in a twentieth of a second, and enough
# for a training step of any size while Ray Data starts.
HEAD_DRAWINGS = 16_384

Split = Literal["train", "val", "test"]
Rasterize = Literal["worker", "tasks", "device"]


# uint8 [N, channels, side, side]: a NumPy array, or a tensor on a device, of which this module knows nothing
Pictures: TypeAlias = Any
# (packed drawings, their offsets [N + 1], side) -> pictures of N drawings
Rasteriser = Callable[[NDArray[np.uint8], NDArray[np.int32], int], Pictures]


@dataclass(frozen=True)
class StreamPlan:
    """Everything that fixes a stream's order, small enough to travel with every task.

    ``labels`` maps a label of the dataset to the label of the stream, or to -1 where the category is not
    wanted; None means all, unchanged. ``group_rows`` counts wanted rows only.
    """

    uri: str
    kind: Kind
    side: int
    channels: int
    shards: tuple[str, ...]
    group_shard: tuple[int, ...]
    group_index: tuple[int, ...]
    group_rows: tuple[int, ...]
    labels: tuple[int, ...] | None
    seed: int
    lanes: int
    global_batch: int
    window_bytes: int
    rasterize: Rasterize = "worker"
    strokes: StrokeAugment | None = None
    # Of a Ray Data task; 0 where a run's workers may take all there are, and would wait for data for ever.
    task_cpus: float = TASK_CPUS
    # Columns beside key_id, label and the picture, for who reads windows itself; batches don't carry them.
    extra_columns: tuple[str, ...] = ()

    def order(self, epoch: int) -> EpochOrder:
        """The order of an epoch. Making it takes time with the row groups, so a process's windows share it."""
        return self._orders(epoch)

    @cached_property
    def _orders(self) -> Callable[[int], EpochOrder]:
        return lru_cache(maxsize=_EPOCHS_KEPT)(
            lambda epoch: EpochOrder(self.group_rows, self.seed, epoch, self.lanes, self.global_batch)
        )

    @cached_property
    def _fields(self) -> bytes:
        return pickle.dumps({one.name: getattr(self, one.name) for one in fields(self)})

    def __reduce__(self) -> "tuple[Callable[[bytes], StreamPlan], tuple[bytes]]":
        # Ray Data unpickles a plan for every task: as bytes, it is taken apart, and its orders made, once a process.
        return _plan_from, (self._fields,)

    @cached_property
    def rows(self) -> int:
        return sum(self.group_rows)

    @property
    def pixels(self) -> int:
        return self.side * self.side * self.channels

    @property
    def bytes_of_drawing(self) -> int:
        """What a drawing takes on its way to a rank: its pixels, or about what strokes take."""
        return 128 if self.kind == "strokes" and self.rasterize != "tasks" else self.pixels


# A window that was asked for late belongs to the epoch before.
_EPOCHS_KEPT, _PLANS_KEPT = 4, 8


@lru_cache(maxsize=_PLANS_KEPT)
def _plan_from(data: bytes) -> StreamPlan:
    return StreamPlan(**pickle.loads(data))


def plan_stream(
    manifest: Manifest,
    uri: str,
    split: Split,
    *,
    categories: tuple[str, ...] = (),
    seed: int = 0,
    lanes: int = 8,
    global_batch: int,
    window_bytes: int = WINDOW_BYTES,
    rasterize: Rasterize = "worker",
    strokes: StrokeAugment | None = None,
    task_cpus: float = TASK_CPUS,
) -> StreamPlan:
    """Plan the stream of a split, or of some of its categories, which are then labelled in sorted order.

    ``strokes`` says how drawings are changed before they are rasterised, anew in each epoch; None: they are not.
    Raises ValueError for an unknown split or category, naming the nearest, and for strokes that there are none of.
    """
    if strokes is not None and strokes.changes_nothing:
        strokes = None
    if strokes is not None and manifest.kind == "pixels":
        raise ValueError(
            f"data.strokes changes strokes, but {uri} holds pixels; allowed there: model.augment"
        )
    if split not in manifest.splits:
        raise ValueError(f"{uri} has no split {split!r}; it has {', '.join(manifest.splits)}")
    info = manifest.splits[split]
    group_rows = np.array([rows for shard in info.shards for rows in shard.row_groups], dtype=np.int64)
    labels = None
    if categories and tuple(sorted(categories)) != manifest.categories:
        for name in categories:
            if name not in manifest.categories:
                raise ValueError(f"data.categories: {unknown_category(name, manifest.categories)} (in {uri})")
        wanted = {name: k for k, name in enumerate(sorted(set(categories)))}
        labels = tuple(wanted.get(name, -1) for name in manifest.categories)
        counts = load_group_counts(uri, info)
        group_rows = counts[:, [label >= 0 for label in labels]].sum(axis=1, dtype=np.int64)
    return StreamPlan(
        uri=uri,
        kind=manifest.kind,
        side=manifest.side,
        channels=manifest.channels,
        shards=tuple(shard.path for shard in info.shards),
        group_shard=tuple(s for s, shard in enumerate(info.shards) for _ in shard.row_groups),
        group_index=tuple(g for shard in info.shards for g in range(len(shard.row_groups))),
        group_rows=tuple(int(n) for n in group_rows),
        labels=labels,
        seed=seed,
        lanes=lanes,
        global_batch=global_batch,
        window_bytes=window_bytes,
        rasterize=rasterize,
        strokes=strokes,
        task_cpus=task_cpus,
    )


def stream_categories(manifest: Manifest, categories: tuple[str, ...]) -> tuple[str, ...]:
    """The categories that a stream's labels index."""
    return tuple(sorted(set(categories))) if categories else manifest.categories


# --- inside a Ray Data task ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """Steps [first, stop) of an epoch."""

    epoch: int
    first: int
    stop: int


class _ShardReader:
    """Row groups of a dataset's shards; the last files stay open, since windows come back to them.

    Opening a file, of 128 row groups, costs twice as much as reading one of them. An open one takes 0.6 MB.
    """

    def __init__(self, keep: int = 64) -> None:
        self.files: OrderedDict[str, pq.ParquetFile] = OrderedDict()
        self.keep = keep

    def read(self, uri: str, group: int, columns: list[str]) -> pa.Table:
        try:
            return persistently(lambda: self._read(uri, group, columns))
        except StorageError as error:
            if str(error).endswith("not found"):
                raise DamagedError(f"{error}, and the dataset's manifest names it") from error
            raise
        except (OSError, pa.ArrowException) as error:
            if is_transient(error):
                raise storage_errors.explain(uri, error) from error
            raise DamagedError(f"{uri} is damaged, `doodle-dist data verify` says more: {error}") from error

    def _read(self, uri: str, group: int, columns: list[str]) -> pa.Table:
        try:
            if uri not in self.files:
                # An object store's answers are worth asking for all at once; a disk's are not.
                self.files[uri] = pq.ParquetFile(
                    storage.open_input(uri), pre_buffer="://" in uri, page_checksum_verification=True
                )
                if len(self.files) > self.keep:
                    self.files.popitem(last=False)[1].close()
            self.files.move_to_end(uri)
            return self.files[uri].read_row_group(group, columns=columns, use_threads=False)
        except Exception:
            self.files.pop(uri, None)  # what was read ahead may be what failed
            raise


class RowGroupReader(Protocol):
    """Where a window's rows are read from."""

    def read(self, uri: str, group: int, columns: list[str]) -> pa.Table:
        """A row group of a shard. Raises StorageError where it can't be read."""
        ...


_reader = _ShardReader()


class RowGroupsInMemory:
    """The row groups of a plan, read once: for many runs on a node that all read the same few drawings."""

    def __init__(self, plans: Iterable[StreamPlan]) -> None:
        self.tables: dict[tuple[str, int], pa.Table] = {}
        for plan in plans:
            for group, rows in enumerate(plan.group_rows):
                if rows:
                    uri, index = _place(plan, group)
                    self.tables[uri, index] = _reader.read(uri, index, _columns(plan))

    def read(self, uri: str, group: int, columns: list[str]) -> pa.Table:
        return self.tables[uri, group].select(columns)


def _place(plan: StreamPlan, group: int) -> tuple[str, int]:
    return locations.join(plan.uri, plan.shards[plan.group_shard[group]]), plan.group_index[group]


def _columns(plan: StreamPlan) -> list[str]:
    return ["key_id", "label", "strokes" if plan.kind == "strokes" else "pixels", *plan.extra_columns]


def _wanted(plan: StreamPlan, group: int, reader: RowGroupReader = _reader) -> pa.Table:
    """The wanted rows of a row group, in the file's order, labelled as the stream labels them."""
    table = reader.read(*_place(plan, group), _columns(plan))
    # Row groups have dictionaries of their own, which don't concatenate.
    if "countrycode" in plan.extra_columns:
        at = table.schema.get_field_index("countrycode")
        table = table.set_column(at, "countrycode", table["countrycode"].cast(pa.string()))
    if plan.labels is None:
        return table
    labels = np.asarray(plan.labels)[table["label"].to_numpy()]
    table = table.set_column(1, "label", pa.array(np.maximum(labels, 0), pa.uint16()))
    return table.filter(pa.array(labels >= 0))


def split_key_ids(plan: StreamPlan) -> Iterator[NDArray[np.uint64]]:
    """The key_ids of the wanted drawings, row group by row group."""
    for group, rows in enumerate(plan.group_rows):
        if rows:
            yield _wanted(plan, group)["key_id"].to_numpy()


def packed_drawings(plan: StreamPlan, count: int) -> pa.Array:
    """The first ``count`` drawings of a stream of strokes, still packed, in the files' order."""
    tables, held = [], 0
    for group in range(len(plan.group_rows)):
        tables.append(_wanted(plan, group))
        held += len(tables[-1])
        if held >= count:
            break
    return pa.concat_tables(tables)["strokes"].combine_chunks().slice(0, count)


def read_window(plan: StreamPlan, lanes: range, window: Window, reader: RowGroupReader = _reader) -> pa.Table:
    """The drawings of a rank's lanes in a window, step by step, lane by lane: key_id, label, what is
    stored of them, strokes or pixels, and the plan's extra columns."""
    order = plan.order(window.epoch)
    pieces = []
    for lane in lanes:
        start, _ = order.lane_rows(lane, window.first)
        _, stop = order.lane_rows(lane, window.stop - 1)
        pieces.append(list(order.pieces(start, stop)))
    # Row groups are numbered file by file: in their order, a file is opened once.
    tables: dict[int, tuple[int, pa.Table]] = {}  # row group -> where its rows begin, its rows
    held = 0
    for group in sorted({piece.group for its in pieces for piece in its}):
        table = _wanted(plan, group, reader)
        tables[group] = (held, table)
        held += len(table)
    picks: list[NDArray[np.int64]] = [
        np.concatenate([tables[p.group][0] + order.shuffled(p.group)[p.start : p.stop] for p in its])
        for its in pieces
    ]
    per_step = order.rows_per_lane_step
    last = window.stop - window.first - 1
    taken = np.concatenate(
        [
            lane_rows[k * per_step : None if k == last else (k + 1) * per_step]
            for k in range(last + 1)
            for lane_rows in picks
        ]
    )
    table = pa.concat_tables([table for _, table in tables.values()]).combine_chunks()
    return table.take(pa.array(taken)).combine_chunks()


def pictures(plan: StreamPlan, table: pa.Table, epoch: int = 0) -> NDArray[np.uint8]:
    """uint8 [N, channels, side, side] of the N drawings of a window of ``epoch``, or of a slice of one."""
    if "strokes" in table.column_names:
        rows = rasterize_packed(*_packed(plan, table, epoch), side=plan.side)
    else:
        rows = fixed_rows(table["pixels"].chunk(0), plan.pixels)
    return rows.reshape(-1, plan.channels, plan.side, plan.side)


def _packed(plan: StreamPlan, table: pa.Table, epoch: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """The packed drawings of a table, changed as the plan has it, and their offsets."""
    buffer, offsets = binary_buffers(table["strokes"].chunk(0))
    if plan.strokes is None:
        return buffer, offsets
    return augment_packed(buffer, offsets, table["key_id"].to_numpy(), plan.strokes, plan.seed, epoch)


def _pictures_by(draw: Rasteriser | None, plan: StreamPlan, table: pa.Table, epoch: int) -> Pictures:
    """`pictures`, drawn by ``draw`` where they are drawn at all; None: the CPU's rasteriser."""
    if draw is None or "strokes" not in table.column_names:
        return pictures(plan, table, epoch)
    return draw(*_packed(plan, table, epoch), plan.side).reshape(-1, plan.channels, plan.side, plan.side)


def _rasterized(plan: StreamPlan, table: pa.Table, epoch: int) -> pa.Table:
    """A window's table with pixels in place of strokes."""
    rasters = pa.py_buffer(pictures(plan, table, epoch))
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(plan.pixels), len(table), [None, rasters])
    return pa.table({"key_id": table["key_id"], "label": table["label"], "pixels": column})


# --- inside a rank ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """One rank's part of a global batch.

    ``pixels`` uint8 [B, channels, side, side] (on the device, where that drew them), ``labels`` int64 [B],
    ``key_ids`` uint64 [B], rows lane by lane; ``lane_rows`` gives the lanes and their row counts.
    ``global_rows`` counts all ranks' rows. ``consumed`` drawings of ``epoch`` lie behind once this step is done.
    """

    epoch: int
    step_in_epoch: int
    pixels: Pictures
    labels: NDArray[np.int64]
    key_ids: NDArray[np.uint64]
    lane_rows: tuple[tuple[int, int], ...]
    global_rows: int
    consumed: int


def windows(
    plan: StreamPlan, rank_lanes: int, epoch: int, consumed: int, epochs: int | None
) -> Iterator[Window]:
    """The windows from a cursor on: to the end of epoch ``epochs - 1``, or for ever."""
    while epochs is None or epoch < epochs:
        order = plan.order(epoch)
        drawings = min(WINDOW_DRAWINGS, plan.window_bytes // plan.bytes_of_drawing)
        length = max(1, drawings // (rank_lanes * order.rows_per_lane_step))
        first = order.step_at(consumed)
        while first < order.steps:
            stop = min(first + length, order.steps)
            yield Window(epoch, first, stop)
            first = stop
        epoch, consumed = epoch + 1, 0


_hungry = threading.Event()  # set while a consumer in this process waits for a window
_PAUSE_S = 0.05


class _Patience:
    """Slows Ray Data's scheduling loop down while nobody waits for what it makes.

    With its buffer full the loop polls without a pause: half a core, and the interpreter's lock, taken from
    the training that it feeds. It asks every ExecutionCallback at each turn; this one holds it until a
    consumer is hungry, or a moment has passed.
    """

    def before_execution_starts(self, executor: object) -> None: ...

    def on_execution_step(self, executor: object) -> None:
        _hungry.wait(_PAUSE_S)

    def after_execution_succeeds(self, executor: object) -> None: ...

    def after_execution_fails(self, executor: object, error: Exception) -> None: ...


def number_source(count: int) -> "ray.data.Datasource":
    """The numbers 0 to count - 1 as a datasource, column ``id``, a block each.

    `ray.data.range`, but that its tasks may ask for less than a CPU.
    """
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    class Numbers(Datasource):
        def estimate_inmemory_data_size(self) -> int:
            return 8 * count

        def get_read_tasks(
            self, parallelism: int, per_task_row_limit: int | None = None, **_: object
        ) -> list[ReadTask]:
            about = BlockMetadata(num_rows=1, size_bytes=8, exec_stats=None, input_files=None)
            return [ReadTask(lambda k=k: [pa.table({"id": [k]})], about) for k in range(count)]

    return Numbers()


def _pipeline(plan: StreamPlan, lanes: range, todo: list[Window], buffer_bytes: int) -> "ray.data.Dataset":
    import ray.data

    in_task = plan.rasterize == "tasks"

    def read(ids: dict[str, NDArray[np.int64]]) -> pa.Table:
        tables = []
        with patience(TRAINING_PATIENCE_S):
            for window in (todo[int(i)] for i in ids["id"]):
                table = read_window(plan, lanes, window)
                tables.append(_rasterized(plan, table, window.epoch) if in_task else table)
        return pa.concat_tables(tables)

    # Both stages ask for the same resources, so that Ray Data runs them as one task. Where CPUs don't say how many
    # may run at once, it is two: one reads while the other's window is used.
    at_once = None if plan.task_cpus else 2
    dataset = ray.data.read_datasource(
        number_source(len(todo)),
        override_num_blocks=len(todo),
        num_cpus=plan.task_cpus,
        concurrency=at_once,
    ).map_batches(read, batch_size=None, num_cpus=plan.task_cpus, concurrency=at_once)
    # A window stays one block, and Ray Data reckons with its size when it asks how many tasks the buffer holds.
    most = min(WINDOW_DRAWINGS, plan.window_bytes // plan.bytes_of_drawing)
    longest = max(len(lanes) * plan.order(0).rows_per_lane_step, most)
    dataset.context.target_max_block_size = round(1.2 * longest * plan.bytes_of_drawing)
    options = dataset.context.execution_options
    options.preserve_order = True
    options.resource_limits = options.resource_limits.copy(object_store_memory=buffer_bytes)
    dataset.context.enable_progress_bars = False
    dataset.context.custom_execution_callback_classes = [_Patience]
    return dataset


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
        read = (
            _windows_read(plan, lanes, todo, buffer_bytes, self._readers)
            if memory is None
            else ((window, read_window(plan, lanes, window, memory)) for window in todo)
        )
        self._chunks = _chunks(plan, lanes, read)
        self._coming: Future[_Chunk | None] = self._readers.submit(next, self._chunks, None)
        self._batches = self._steps(plan, lanes, threads)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._batches)

    def _steps(self, plan: StreamPlan, lanes: range, threads: int) -> Generator[Batch, None, None]:
        ahead: deque[tuple[_Chunk, Future[Pictures]]] = deque()
        while True:
            # What is rasterised is handed on at once, whether or not more has been read.
            while len(ahead) < threads + 2 and (not ahead or self._coming.done()):
                chunk = self._coming.result()
                if chunk is None:
                    break
                drawn = self._pool.submit(_pictures_by, self._draw, plan, chunk.table, chunk.order.epoch)
                ahead.append((chunk, drawn))
                self._coming = self._readers.submit(next, self._chunks, None)
            if not ahead:
                return
            yield from _steps(plan, lanes, *ahead.popleft())

    def close(self) -> None:
        """End the pipeline and the threads; there are no more batches."""
        self._batches.close()
        self._readers.shutdown()  # a generator that runs can't be closed
        self._chunks.close()
        self._pool.shutdown()


def rank_batches(
    plan: StreamPlan,
    *,
    rank: int = 0,
    world_size: int = 1,
    epoch: int = 0,
    consumed: int = 0,
    epochs: int | None = 1,
    buffer_bytes: int = 512 << 20,
    threads: int = 1,
    memory: RowGroupsInMemory | None = None,
    draw: Rasteriser | None = None,
) -> RankBatches:
    """Batches of a rank from the cursor (epoch, drawings consumed of it) on, to the end of ``epochs``.

    ``epochs=None`` goes on for ever. ``threads`` of this process rasterise, ahead of the consumer, by ``draw`` where
    one is given. Rows come through Ray Data, or from ``memory``: the same batches. Raises ValueError where ranks,
    lanes, batch and drawings don't fit.
    """
    lanes = lanes_of_rank(rank, world_size, plan.lanes)
    todo = windows(plan, len(lanes), epoch, consumed, epochs)
    return RankBatches(plan, lanes, todo, buffer_bytes, threads, memory, draw)


def _blocks(plan: StreamPlan, lanes: range, todo: list[Window], buffer_bytes: int) -> Iterator[pa.Table]:
    """The windows' tables, through Ray Data, which starts when the first is asked for."""
    if todo:
        yield from _pipeline(plan, lanes, todo, buffer_bytes).iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=2
        )


def _windows_read(
    plan: StreamPlan, lanes: range, coming: Iterator[Window], buffer_bytes: int, readers: ThreadPoolExecutor
) -> Iterator[tuple[Window, pa.Table]]:
    """Each window with its table: the first read here, the others through Ray Data, which starts meanwhile."""
    head, coming = _head(plan, lanes, coming)
    # Read first, a twentieth of a second, and not beside Ray Data's start, which has the interpreter for seconds.
    there = [(window, read_window(plan, lanes, window)) for window in head]
    todo = list(islice(coming, WINDOWS_PER_PIPELINE))
    blocks = _blocks(plan, lanes, todo, buffer_bytes)
    first = readers.submit(next, blocks) if todo else None
    yield from there
    while todo:
        for window in todo:
            _hungry.set()
            block = first.result() if first else next(blocks)
            _hungry.clear()
            first = None
            yield window, block.combine_chunks()
        todo = list(islice(coming, WINDOWS_PER_PIPELINE))
        blocks = _blocks(plan, lanes, todo, buffer_bytes)


def _head(plan: StreamPlan, lanes: range, coming: Iterator[Window]) -> tuple[list[Window], Iterator[Window]]:
    """The first HEAD_DRAWINGS or less of the windows, and what remains."""
    window = next(coming, None)
    if window is None:
        return [], coming
    steps = max(1, HEAD_DRAWINGS // (len(lanes) * plan.order(window.epoch).rows_per_lane_step))
    cut = min(window.first + steps, window.stop)
    rest = [Window(window.epoch, cut, window.stop)] if cut < window.stop else []
    return [Window(window.epoch, window.first, cut)], chain(rest, coming)


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
    """The windows cut into runs of whole steps of about CHUNK_DRAWINGS."""
    for window, table in read:
        order, at = plan.order(window.epoch), 0
        length = max(1, CHUNK_DRAWINGS // (len(lanes) * order.rows_per_lane_step))
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
            step_in_epoch=step,
            pixels=pixels.result()[part],
            labels=labels[part],
            key_ids=key_ids[part],
            lane_rows=tuple(zip(lanes, sizes, strict=True)),
            global_rows=order.step_rows(step),
            consumed=step * plan.global_batch + order.step_rows(step),
        )
