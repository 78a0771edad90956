"""The order of an epoch: a pure function of (row groups, seed, epoch), cut into lanes and steps.

    row groups --permuted--> one sequence of N rows --cut at l*N/L--> L lanes --b rows each--> steps

Row groups are permuted by (seed, epoch), and the rows of each inside it. The sequence is cut into L
*lanes* of equal length (they differ by one row at most). Step k takes the rows [k*b, (k+1)*b) of every
lane, b = global_batch / L, lane by lane: that is the global batch, whoever reads it. Ranks are dealt whole
lanes, so the number of ranks divides the work and changes nothing else. Because every lane's place after k
steps is k*b, skipping to any step is arithmetic.

The last step of an epoch is short. Where fewer rows than lanes would be left for it, they join the step
before, so that no lane, and so no rank, ever has an empty part of a step.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from doodle_dist.data.split import splitmix64_of

_GROUPS_STREAM, _ROWS_STREAM = 11, 12


def _rng(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def lanes_of_rank(rank: int, world_size: int, lanes: int) -> range:
    """The lanes dealt to a rank: contiguous, as even as possible, at least one each.

    Raises ValueError where there are more ranks than lanes.
    """
    if world_size > lanes:
        raise ValueError(f"data.lanes={lanes} is fewer than the {world_size} workers; each needs a lane")
    return range(rank * lanes // world_size, (rank + 1) * lanes // world_size)


@dataclass(frozen=True)
class Piece:
    """Rows [start, stop) of a row group's shuffled rows."""

    group: int
    start: int
    stop: int


@dataclass(frozen=True)
class EpochOrder:
    """Order of one epoch. ``group_rows`` is the number of wanted rows in each row group of the split."""

    group_rows: tuple[int, ...]
    seed: int
    epoch: int
    lanes: int
    global_batch: int

    def __post_init__(self) -> None:
        if self.global_batch % self.lanes:
            raise ValueError(
                f"train.global_batch={self.global_batch} is not a multiple of data.lanes={self.lanes}"
            )
        if self.rows < self.lanes:
            raise ValueError(
                f"data.lanes={self.lanes} is more than the {self.rows} drawings that there are to read"
            )

    @cached_property
    def rows(self) -> int:
        return sum(self.group_rows)

    @property
    def rows_per_lane_step(self) -> int:
        return self.global_batch // self.lanes

    @cached_property
    def steps(self) -> int:
        full, rest = divmod(self.rows // self.lanes, self.rows_per_lane_step)
        return max(full + (rest > 0), 1)

    @cached_property
    def _permutation(self) -> NDArray[np.int64]:
        return _rng(_GROUPS_STREAM, self.seed, self.epoch).permutation(len(self.group_rows))

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        sizes = np.asarray(self.group_rows, dtype=np.int64)[self._permutation]
        return np.concatenate([[0], np.cumsum(sizes)])

    def lane_bounds(self, lane: int) -> tuple[int, int]:
        """The lane's part of the permuted sequence, as positions [start, stop)."""
        return lane * self.rows // self.lanes, (lane + 1) * self.rows // self.lanes

    def lane_rows(self, lane: int, step: int) -> tuple[int, int]:
        """Positions [start, stop) that a lane gives to a step."""
        start, stop = self.lane_bounds(lane)
        first = start + step * self.rows_per_lane_step
        return first, stop if step == self.steps - 1 else first + self.rows_per_lane_step

    def step_rows(self, step: int) -> int:
        """Rows of the global batch of a step: global_batch, but for the last."""
        if step < self.steps - 1:
            return self.global_batch
        return self.rows - (self.steps - 1) * self.global_batch

    def step_at(self, drawings: int) -> int:
        """The step that starts after ``drawings`` of this epoch were consumed (a cursor is on a step's edge)."""
        if drawings >= self.rows:
            return self.steps
        step, inside = divmod(drawings, self.global_batch)
        if inside:
            raise ValueError(f"a cursor of {drawings} drawings is inside a step of {self.global_batch}")
        return step

    def pieces(self, start: int, stop: int) -> Iterator[Piece]:
        """The row groups behind the positions [start, stop), in order."""
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        while start < stop:
            low, high = int(self._starts[first]), int(self._starts[first + 1])
            end = min(stop, high)
            if end > start:
                yield Piece(int(self._permutation[first]), start - low, end - low)
            start, first = max(start, end), first + 1

    def shuffled(self, group: int) -> NDArray[np.int64]:
        """The order of a row group's wanted rows in this epoch: a permutation of range(group_rows[group])."""
        return _shuffled(self.seed, self.epoch, group, self.group_rows[group])


@lru_cache(maxsize=64)
def _shuffled(seed: int, epoch: int, group: int, rows: int) -> NDArray[np.int64]:
    return _rng(_ROWS_STREAM, seed, epoch, group).permutation(rows)


def step_seed(seed: int, step: int, lane: int) -> int:
    """Seed (63 bits) of everything random that belongs to one lane's part of one step of a run."""
    return splitmix64_of(splitmix64_of(splitmix64_of(seed) ^ step) ^ lane) >> 1
