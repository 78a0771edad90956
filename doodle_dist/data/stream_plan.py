"""The plan of a stream: what it is made of and in which order, and the windows that it is read in."""

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from itertools import chain
from typing import Literal

import numpy as np

from doodle_dist.data.categories import unknown_category
from doodle_dist.data.manifest import load_group_counts
from doodle_dist.data.order import EpochOrder
from doodle_dist.data.schema import Kind, Manifest
from doodle_dist.data.stroke_augment import StrokeAugment
from doodle_dist.reading import Rasterize, Read, bytes_of_drawing

# A window, as it travels: large enough that a Ray task's own cost is small beside its work, small enough that a
# few of them are no burden, and that an object store's answers are waited for by several tasks at once.
WINDOW_BYTES = 50 << 20
WINDOW_DRAWINGS = 131_072

# Ray Data's loop looks for finished tasks when all are done, or every tenth of a second. Twice as many tasks as
# cores keep the cores busy meanwhile; with one a core each would wait for the loop half of its time.
TASK_CPUS = 0.5

# So many drawings are read of the first window before all others, at most: in a twentieth of a second, and enough for
# a training step of any size while what reads the others starts.
HEAD_DRAWINGS = 16_384

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class StreamPlan:
    """Everything that fixes a stream's order, small enough to travel with every task.

    ``labels`` maps a label of the dataset to the label of the stream, or to -1 where the category is not
    wanted; None means all, unchanged. ``group_rows`` counts wanted rows only, ``rows_read`` all of the split.
    """

    uri: str
    kind: Kind
    side: int
    channels: int
    shards: tuple[str, ...]
    group_shard: tuple[int, ...]
    group_index: tuple[int, ...]
    group_rows: tuple[int, ...]
    rows_read: int
    labels: tuple[int, ...] | None
    seed: int
    lanes: int
    global_batch: int
    window_bytes: int
    read: Read = "auto"
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
        """What a drawing takes on its way to a rank."""
        is_strokes = self.kind == "strokes"
        return bytes_of_drawing(is_strokes=is_strokes, rasterize=self.rasterize, pixels=self.pixels)

    @property
    def drawings_in_window_bytes(self) -> int:
        """How many drawings to hand on at once, by the bytes that are read for them: fewer where few are wanted."""
        return self._of_read(self.window_bytes // self.bytes_of_drawing)

    @property
    def window_drawings(self) -> int:
        """The most drawings of a window, where they are no more than a step."""
        return min(self._of_read(WINDOW_DRAWINGS), self.drawings_in_window_bytes)

    @property
    def head_drawings(self) -> int:
        """The most drawings of what is read before all others."""
        return self._of_read(HEAD_DRAWINGS)

    def _of_read(self, drawings: int) -> int:
        """How many are wanted among so many that are read."""
        return max(1, drawings * self.rows // max(1, self.rows_read))


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
    read: Read = "auto",
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
        rows_read=info.rows,
        labels=labels,
        seed=seed,
        lanes=lanes,
        global_batch=global_batch,
        window_bytes=window_bytes,
        read=read,
        rasterize=rasterize,
        strokes=strokes,
        task_cpus=task_cpus,
    )


def stream_categories(manifest: Manifest, categories: tuple[str, ...]) -> tuple[str, ...]:
    """The categories that a stream's labels index."""
    return tuple(sorted(set(categories))) if categories else manifest.categories


@dataclass(frozen=True)
class Window:
    """Steps [first, stop) of an epoch."""

    epoch: int
    first: int
    stop: int


def lane_spans(order: EpochOrder, lanes: range, window: Window) -> list[tuple[int, int]]:
    """Positions [start, stop) of an epoch that each lane gives to a window's steps."""
    return [
        (order.lane_rows(lane, window.first)[0], order.lane_rows(lane, window.stop - 1)[1]) for lane in lanes
    ]


def windows(
    plan: StreamPlan,
    rank_lanes: int,
    epoch: int,
    consumed: int,
    epochs: int | None,
    drawings: int | None = None,
) -> Iterator[Window]:
    """The windows from a cursor on: to the end of epoch ``epochs - 1``, or for ever.

    Of each epoch those of its first ``drawings``; None: of all.
    """
    while epochs is None or epoch < epochs:
        order = plan.order(epoch)
        length = max(1, plan.window_drawings // (rank_lanes * order.rows_per_lane_step))
        steps = order.steps if drawings is None else min(-(-drawings // plan.global_batch), order.steps)
        first = order.step_at(consumed)
        while first < steps:
            stop = min(first + length, steps)
            yield Window(epoch, first, stop)
            first = stop
        epoch, consumed = epoch + 1, 0


def head_of(
    plan: StreamPlan, rank_lanes: int, coming: Iterator[Window]
) -> tuple[list[Window], Iterator[Window]]:
    """The first HEAD_DRAWINGS or less of the windows, and what remains."""
    window = next(coming, None)
    if window is None:
        return [], coming
    steps = max(1, plan.head_drawings // (rank_lanes * plan.order(window.epoch).rows_per_lane_step))
    cut = min(window.first + steps, window.stop)
    rest = [Window(window.epoch, cut, window.stop)] if cut < window.stop else []
    return [Window(window.epoch, window.first, cut)], chain(rest, coming)
