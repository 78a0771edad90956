"""Windows read by the rank itself, some ahead of their use, in threads that it has for that.

Packed strokes are read and shuffled in a tenth of the time that rasterising them takes, which is less than handing them
from one process to another: where the workers' cores are all there are, this is the fastest way.
"""

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain

import pyarrow as pa

from doodle_dist.data.retry import TRAINING_PATIENCE_S, patience
from doodle_dist.data.stream_plan import StreamPlan, Window, head_of
from doodle_dist.data.stream_rows import ShardReader, read_window

# A disk's answer is there at once; an object store's is waited for, so several windows are asked for.
_THREADS_OF_DISK, _THREADS_OF_STORE = 1, 4


def threads_that_read(plan: StreamPlan) -> int:
    """How many threads `windows_here` is to be given, each a window ahead."""
    return _THREADS_OF_STORE if "://" in plan.uri else _THREADS_OF_DISK


def windows_here(
    plan: StreamPlan, lanes: range, coming: Iterator[Window], pool: ThreadPoolExecutor
) -> Iterator[tuple[Window, pa.Table]]:
    """Each window with its table, read by the threads of ``pool``. Raises StorageError where one can't be read."""
    own = threading.local()  # an open Parquet file is one thread's

    def read(window: Window) -> pa.Table:
        if not hasattr(own, "reader"):
            own.reader = ShardReader()
        with patience(TRAINING_PATIENCE_S):
            return read_window(plan, lanes, window, own.reader)

    head, coming = head_of(plan, len(lanes), coming)
    ahead: deque[tuple[Window, Future[pa.Table]]] = deque()
    for window in chain(head, coming):
        ahead.append((window, pool.submit(read, window)))
        if len(ahead) > threads_that_read(plan):
            yield _first(ahead)
    while ahead:
        yield _first(ahead)


def _first(ahead: deque[tuple[Window, "Future[pa.Table]"]]) -> tuple[Window, pa.Table]:
    window, table = ahead.popleft()
    return window, table.result()
