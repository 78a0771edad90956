"""Windows through Ray Data, the first steps read by the rank itself meanwhile.

Each rank runs one Ray Data pipeline. Its input items are windows; its tasks read the row groups behind the rank's lanes
in a window (see order.py) and hand the drawings on in the order of their steps, one Arrow block a window. Ray Data's
processes take seconds to start: meanwhile the rank reads the first steps by the same arithmetic.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING

import pyarrow as pa

from doodle_dist.data.retry import TRAINING_PATIENCE_S, patience
from doodle_dist.data.room import RoomIsKnown
from doodle_dist.data.stream_pictures import rasterized
from doodle_dist.data.stream_plan import StreamPlan, Window, head_of, lane_spans
from doodle_dist.data.stream_rows import read_window

if TYPE_CHECKING:
    import ray.data

# One pipeline covers at most so many windows; a longer run chains pipelines. Ray Data puts each window into the object
# store before it reads any, in this process and with its interpreter: 1,024 read tasks took two to nine seconds.
WINDOWS_PER_PIPELINE = 128
# With so many windows left the next pipeline is started, so that its first window is there when they are used up.
WINDOWS_LEFT = 4

_hungry = threading.Event()  # set while a consumer in this process asks for a window
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.4


class _Patience:
    """Slows Ray Data's scheduling loop down while nobody waits for what it makes.

    With its buffer full the loop polls without a pause: half a core, and the interpreter's lock, taken from
    the training that it feeds. It asks every ExecutionCallback at each turn; this one holds it until a
    consumer is hungry, or a moment has passed. A window that was taken makes room for a task, whose output the next
    turns collect; after these there is nothing to do until the next is taken, so the moments grow.
    """

    def __init__(self) -> None:
        self._pause_s = _SHORTEST_PAUSE_S

    def before_execution_starts(self, executor: object) -> None: ...

    def on_execution_step(self, executor: object) -> None:
        asked = _hungry.wait(self._pause_s)
        self._pause_s = _SHORTEST_PAUSE_S if asked else min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def after_execution_succeeds(self, executor: object) -> None: ...

    def after_execution_fails(self, executor: object, error: Exception) -> None: ...


def nodes_with_cores() -> int:
    """How many nodes of the cluster that this process is part of could run a task."""
    import ray

    if not ray.is_initialized():
        return 0
    return sum(node["Alive"] and node["Resources"].get("CPU", 0.0) > 0 for node in ray.nodes())


def _pipeline(plan: StreamPlan, lanes: range, todo: list[Window], buffer_bytes: int) -> "ray.data.Dataset":
    import ray.data

    in_task = plan.rasterize == "tasks"

    def read(asked: pa.Table) -> pa.Table:
        (numbers,) = asked.to_pylist()  # a block holds one window
        window = Window(**numbers)
        with patience(TRAINING_PATIENCE_S):
            table = read_window(plan, lanes, window)
        return rasterized(plan, table, window.epoch) if in_task else table

    items = [asdict(window) for window in todo]
    # Where CPUs don't say how many may run at once, it is two: one reads while the other's window is used.
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        read,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=plan.task_cpus,
        concurrency=None if plan.task_cpus else 2,
    )
    # A window of usual drawings stays one block, and Ray Data reckons with its size when it asks how many tasks the
    # buffer holds. What is half as large again Ray Data cuts: ``_whole``.
    longest = max(len(lanes) * plan.order(0).rows_per_lane_step, plan.window_drawings) * _windows_as_one(plan)
    dataset.context.target_max_block_size = round(1.2 * longest * plan.bytes_of_drawing)
    options = dataset.context.execution_options
    options.preserve_order = True
    options.resource_limits = options.resource_limits.copy(object_store_memory=buffer_bytes)
    dataset.context.enable_progress_bars = False
    dataset.context.custom_execution_callback_classes = [RoomIsKnown, _Patience]
    return dataset


def _windows_as_one(plan: StreamPlan) -> int:
    """How many neighbouring windows a task reads as one: as many as ``window_bytes`` hold.

    Some 25 ms of what a window costs Ray Data don't depend on how much it holds. From an object store they stay as they
    are, since there it is worth more that several tasks wait for its answers at once.
    """
    return 1 if "://" in plan.uri else max(1, plan.drawings_in_window_bytes // plan.window_drawings)


def _joined(coming: Iterator[Window], most: int) -> Iterator[Window]:
    """The windows, neighbours of an epoch as one, up to ``most`` of them."""
    held, count = next(coming, None), 1
    if held is None:
        return
    for window in coming:
        if count < most and (held.epoch, held.stop) == (window.epoch, window.first):
            held, count = Window(held.epoch, held.first, window.stop), count + 1
        else:
            yield held
            held, count = window, 1
    yield held


def _blocks(plan: StreamPlan, lanes: range, todo: list[Window], buffer_bytes: int) -> Iterator[pa.Table]:
    """The windows' tables, through Ray Data, which starts when the first is asked for."""
    if todo:
        yield from _pipeline(plan, lanes, todo, buffer_bytes).iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=2
        )


def _whole(rows: int, first: pa.Table, blocks: Iterator[pa.Table]) -> pa.Table:
    """A window's table, of so many rows: its first block, and as many of the following as it was cut into."""
    parts, held = [first], len(first)
    while held < rows:
        parts.append(next(blocks))
        held += len(parts[-1])
    return pa.concat_tables(parts).combine_chunks()


def windows_read(
    plan: StreamPlan, lanes: range, coming: Iterator[Window], buffer_bytes: int, readers: ThreadPoolExecutor
) -> Iterator[tuple[Window, pa.Table]]:
    """Each window with its table: the first read here, the others through Ray Data, which starts meanwhile."""
    head, coming = head_of(plan, len(lanes), coming)
    coming = _joined(coming, _windows_as_one(plan))
    # Read first, a twentieth of a second, and not beside Ray Data's start, which has the interpreter for a while.
    there = [(window, read_window(plan, lanes, window)) for window in head]

    def started() -> tuple[list[Window], Future[pa.Table], Iterator[pa.Table]]:
        """The next pipeline: its windows, the first one's table, and the others' tables."""
        todo = list(islice(coming, WINDOWS_PER_PIPELINE))
        blocks = _blocks(plan, lanes, todo, buffer_bytes)
        return todo, readers.submit(next, blocks, None), blocks

    following = started()
    yield from there
    while following[0]:
        todo, first, blocks = following
        for number, window in enumerate(todo):
            _hungry.set()
            block = next(blocks) if number else first.result()
            spans = lane_spans(plan.order(window.epoch), lanes, window)
            table = _whole(sum(stop - start for start, stop in spans), block, blocks)
            _hungry.clear()
            if number == max(len(todo) - WINDOWS_LEFT, 0):
                following = started()
            yield window, table
