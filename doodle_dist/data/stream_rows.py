"""The rows of a stream's windows, read from its shards or from memory, in the order of their steps."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from doodle_dist.data import locations, storage
from doodle_dist.data.retry import persistently
from doodle_dist.data.storage_errors import DamagedError, StorageError, explain, is_of_content
from doodle_dist.data.stream_plan import StreamPlan, Window, lane_spans


class ShardReader:
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
            if is_of_content(error):
                raise DamagedError(
                    f"{uri} is damaged, `doodle-dist data verify` says more: {error}"
                ) from error
            raise explain(uri, error) from error

    def _read(self, uri: str, group: int, columns: list[str]) -> pa.Table:
        try:
            if uri not in self.files:
                # An object store's answers are worth asking for all at once; a disk's are not.
                self.files[uri] = pq.ParquetFile(
                    storage.open_input(uri), pre_buffer="://" in uri, page_checksum_verification=True
                )
                if len(self.files) > self.keep:
                    self.files.popitem(last=False)[1].close(force=True)  # ours, though handed in
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


_reader = ShardReader()


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
    pieces = [list(order.pieces(start, stop)) for start, stop in lane_spans(order, lanes, window)]
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
