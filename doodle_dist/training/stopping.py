"""How a run is asked to end early, or to save: agreed among its ranks at the same step, without a cost per step."""

import time
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

LOOK_EVERY_S = 1.0
# Asking for a preemption notice is a barrier of Ray Train's, through an actor, and asking for nodes a call to the
# head: milliseconds, so less often.
CLUSTER_EVERY_S = 5.0
_MOST_STEPS = 4096


class Look(IntEnum):
    """What a rank is to do after a step."""

    GO_ON = 0
    SAVE = 1
    STOP = 2


class Ranks(Protocol):
    """What a lookout asks of the place that it runs in (training/context.py)."""

    rank: int

    def agree_on(self, *values: int) -> list[int]: ...

    def preemption(self) -> object: ...


class Lookout:
    """Called after every step, on every rank; tells all of them the same.

    About once a second the ranks take four numbers from rank 0: whether to stop, whether to ask the cluster, whether
    there is room for more workers (``could_grow``), and after how many steps to look again. In between a call is a
    subtraction.
    """

    def __init__(
        self,
        ranks: Ranks,
        is_asked_to_stop: Callable[[], bool],
        could_grow: Callable[[], bool] = lambda: False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ranks, self.now = ranks, now
        self.is_asked_to_stop, self.could_grow = is_asked_to_stop, could_grow
        self.steps = self.left = 1
        self.looked_at = now()
        self.asked_cluster_at = float("-inf")
        self.had_room = False
        # Ray Train keeps a notice after it was called off; another one, of other nodes or another time, differs.
        self.saved_for: object = None

    def __call__(self) -> Look:
        self.left -= 1
        if self.left:
            return Look.GO_ON
        now = self.now()
        step_s = max((now - self.looked_at) / self.steps, 1e-6)
        stop = self.ranks.rank == 0 and self.is_asked_to_stop()
        ask = now - self.asked_cluster_at >= CLUSTER_EVERY_S
        grows = self.ranks.rank == 0 and ask and self._has_room_now()
        steps = min(max(round(LOOK_EVERY_S / step_s), 1), _MOST_STEPS, 4 * self.steps)
        told_stop, asked, told_growth, self.steps = self.ranks.agree_on(
            int(stop), int(ask), int(grows), steps
        )
        self.left, self.looked_at = self.steps, now
        if told_stop:
            return Look.STOP
        if asked:
            self.asked_cluster_at = now
            before, self.saved_for = self.saved_for, self.ranks.preemption()
            if told_growth or self.saved_for not in (None, before):
                return Look.SAVE
        return Look.GO_ON

    def _has_room_now(self) -> bool:
        """Whether there is room for more workers that wasn't there at the last question."""
        before, self.had_room = self.had_room, self.could_grow()
        return self.had_room and not before


def never() -> Look:
    """The lookout of a run that nobody interrupts."""
    return Look.GO_ON
