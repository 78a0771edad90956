"""Windows read by the rank itself, some ahead of their use, in threads of its own.

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


def windows_here(
    plan: StreamPlan, lanes: range, coming: Iterator[Window]
) -> Iterator[tuple[Window, pa.Table]]:
    """Each window with its table. Raises StorageError where one can't be read."""
    threads = _THREADS_OF_STORE if "://" in plan.uri else _THREADS_OF_DISK
    own = threading.local()  # an open Parquet file is one thread's

    def read(window: Window) -> pa.Table:
        if not hasattr(own, "reader"):
            own.reader = ShardReader()
        with patience(TRAINING_PATIENCE_S):
            return read_window(plan, lanes, window, own.reader)

    head, coming = head_of(plan, len(lanes), coming)
    ahead: deque[tuple[Window, Future[pa.Table]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="window")
    try:
        for window in chain(head, coming):
            ahead.append((window, pool.submit(read, window)))
            if len(ahead) > threads:
                yield _first(ahead)
        while ahead:
            yield _first(ahead)
    finally:
        pool.shutdown(cancel_futures=True)


def _first(ahead: deque[tuple[Window, "Future[pa.Table]"]]) -> tuple[Window, pa.Table]:
    window, table = ahead.popleft()
    return window, table.result()
