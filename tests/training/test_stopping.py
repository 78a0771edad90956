"""The lookout: every rank is told the same at the same step, soon after it was asked, and seldom asks."""

import threading
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doodle_dist.training.stopping import Look, Lookout


@dataclass
class Ranks:
    """Ranks in lockstep: rank 0's numbers go into a list, which the others read from."""

    rank: int
    said: list[list[int]]
    notices: dict[int, str] = field(default_factory=dict)  # from which look on each is the newest
    asked: int = 0
    read: int = field(default=0)

    def agree_on(self, *values: int) -> list[int]:
        if self.rank == 0:
            self.said.append(list(values))
        self.read += 1
        return self.said[self.read - 1]

    def preemption(self) -> object:
        self.asked += 1
        return next(
            (text for look, text in sorted(self.notices.items(), reverse=True) if self.read > look), None
        )


@settings(max_examples=50)
@given(st.integers(1, 4), st.integers(0, 400), st.lists(st.floats(0.001, 3), min_size=5, max_size=5))
def test_all_ranks_stop_at_the_same_step_soon_after(world: int, asked_at: int, step_s: list[float]) -> None:
    said: list[list[int]] = []
    now, is_asked = [0.0], threading.Event()
    ranks = [Ranks(rank, said) for rank in range(world)]
    # Other ranks' clocks and other ranks' knowledge don't matter.
    outs = [
        Lookout(r, is_asked.is_set, now=(lambda: now[0]) if r.rank == 0 else (lambda: 0.0)) for r in ranks
    ]
    for step in range(2000):
        now[0] += step_s[step % 5]
        if step == asked_at:
            is_asked.set()
            asked_s = now[0]
        looks = {out() for out in outs}
        assert len(looks) == 1
        if looks == {Look.STOP}:
            assert step >= asked_at
            assert now[0] - asked_s <= 1.0 * 5 * max(step_s) / min(
                sum(step_s), 5 * max(step_s)
            ) * 3 + 3 * max(step_s)
            return
    raise AssertionError("it never stopped")


def test_looks_are_as_seldom_as_once_a_second() -> None:
    said: list[list[int]] = []
    now = [0.0]
    out = Lookout(Ranks(0, said), lambda: False, now=lambda: now[0])
    for _ in range(10_000):  # 100 s
        now[0] += 0.01
        assert out() is Look.GO_ON
    assert 80 <= len(said) <= 120


@pytest.mark.parametrize(
    ("notices", "saves"),
    [
        ({20: "node 1"}, 1),
        ({20: "node 1", 50: "nodes 1 and 2"}, 2),
        ({20: "node 1", 70: "node 1, later"}, 2),
        ({}, 0),
    ],
)
def test_each_notice_of_a_preemption_saves_once_and_trains_on(notices: dict[int, str], saves: int) -> None:
    said: list[list[int]] = []
    now = [0.0]
    ranks = [Ranks(rank, said, notices) for rank in range(2)]
    outs = [Lookout(r, lambda: False, now=lambda: now[0]) for r in ranks]
    looks = []
    for _ in range(1000):
        now[0] += 0.1
        both = [out() for out in outs]
        assert both[0] == both[1]
        looks.append(both[0])
    assert looks.count(Look.SAVE) == saves
    assert Look.STOP not in looks
    assert ranks[0].asked == ranks[1].asked <= 21, "every five seconds of a hundred"


def test_room_for_more_workers_saves_once_each_time_that_it_comes() -> None:
    said: list[list[int]] = []
    now = [0.0]

    def has_room() -> bool:  # a node that came, was taken by others, and came again
        return 20 <= now[0] < 50 or now[0] >= 70

    def not_asked() -> bool:
        raise AssertionError("rank 0 alone asks the cluster")

    outs = [
        Lookout(Ranks(0, said), lambda: False, has_room, lambda: now[0]),
        Lookout(Ranks(1, said), lambda: False, not_asked, lambda: now[0]),
    ]
    saved_at = []
    for _ in range(1000):
        now[0] += 0.1
        both = [out() for out in outs]
        assert both[0] == both[1]
        if both[0] is Look.SAVE:
            saved_at.append(now[0])
    assert len(saved_at) == 2
    assert 20 <= saved_at[0] <= 27
    assert 70 <= saved_at[1] <= 77
