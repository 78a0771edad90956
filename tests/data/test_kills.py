"""A thousand kills of the stream and its cursor, without Ray: whatever the kill points and the numbers of workers,
every drawing is consumed once per epoch.

What is killed is the arithmetic that training runs on: windows from a cursor, row groups read behind lanes, steps
cut from windows, the cursor after each step, and the audit's rule that a later attempt supersedes the steps it
repeats. An attempt ends in the middle of a step of some of its ranks, and of the next one of none.
"""

import random
from collections import Counter

import numpy as np
import pytest

from doodle_dist.data.order import lanes_of_rank
from doodle_dist.data.stream_plan import StreamPlan, windows
from doodle_dist.training.cursor import Cursor

KILLS = 1000


def plan_of(chance: random.Random) -> StreamPlan:
    """A dataset of a few hundred drawings in row groups of any sizes, some empty, and any lanes and batch."""
    groups = [chance.choice([0, 1, 7, 16, 33, 64]) for _ in range(chance.randint(8, 20))] + [64]
    lanes = chance.choice([1, 3, 4, 8])
    return StreamPlan(
        uri="nowhere",
        kind="strokes",
        side=28,
        channels=1,
        shards=("part",),
        group_shard=(0,) * len(groups),
        group_index=tuple(range(len(groups))),
        group_rows=tuple(groups),
        rows_read=sum(groups),
        labels=None,
        seed=chance.randrange(1 << 30),
        lanes=lanes,
        global_batch=lanes * chance.randint(1, 6),
        window_bytes=128 * chance.choice([1, 40, 1000]),
    )


def rank_steps(plan: StreamPlan, rank: int, world: int, cursor: Cursor, epochs: int):
    """What a rank consumes from a cursor on: (epoch, step, ids of its drawings, the epoch's consumed after it)."""
    first = np.concatenate([[0], np.cumsum(plan.group_rows)])
    lanes = lanes_of_rank(rank, world, plan.lanes)
    for window in windows(plan, len(lanes), cursor.epoch, cursor.consumed, epochs):
        order = plan.order(window.epoch)
        for step in range(window.first, window.stop):
            ids: list[int] = []
            for lane in lanes:
                for piece in order.pieces(*order.lane_rows(lane, step)):
                    rows = order.shuffled(piece.group)[piece.start : piece.stop]
                    ids += (first[piece.group] + rows).tolist()
            consumed = step * plan.global_batch + order.step_rows(step)
            yield window.epoch, ids, order.step_rows(step), consumed


def attempt(
    plan: StreamPlan, world: int, cursor: Cursor, epochs: int, steps: int, every: int
) -> tuple[dict[int, tuple[int, list[int]]], Cursor, Cursor]:
    """``steps`` steps of ``world`` ranks, with a checkpoint each ``every`` steps.

    What each step consumed, the cursor of the last checkpoint, and the cursor where it was killed.
    """
    ranks = [rank_steps(plan, rank, world, cursor, epochs) for rank in range(world)]
    consumed: dict[int, tuple[int, list[int]]] = {}
    saved = cursor
    for _ in range(steps):
        parts = [next(rank, None) for rank in ranks]
        if parts[0] is None:
            assert all(part is None for part in parts), "some ranks are over before others"
            return consumed, cursor, cursor
        assert all(part is not None and part[1] for part in parts), "a rank without a drawing in a step"
        assert len({(part[0], part[2], part[3]) for part in parts if part}) == 1, "ranks at different places"
        epoch, _, rows, at = parts[0]
        ids = [one for part in parts if part for one in part[1]]
        assert len(ids) == rows
        consumed[cursor.step] = (epoch, ids)
        cursor = cursor.after(epoch, at, rows)
        if cursor.step % every == 0:
            saved = cursor
    return consumed, saved, cursor


@pytest.mark.parametrize("seed", range(4))
def test_no_drawing_is_lost_or_doubled_over_a_thousand_kills(seed: int) -> None:
    chance = random.Random(seed)
    kills = repeated = worlds = 0
    while kills < KILLS // 4:
        plan, epochs = plan_of(chance), chance.randint(1, 3)
        every = chance.randint(1, 12)
        longest = chance.choice([5, 20, 60])
        whole, _, end = attempt(plan, 1, Cursor(plan.seed, plan.global_batch), epochs, 1 << 20, 1)
        record: dict[int, tuple[int, list[int]]] = {}
        cursor = Cursor(plan.seed, plan.global_batch)
        while True:
            world = chance.randint(1, plan.lanes)
            worlds |= 1 << world
            consumed, saved, killed_at = attempt(
                plan, world, cursor, epochs, chance.randint(every, every + longest), every
            )
            first = min(consumed, default=cursor.step)
            repeated += sum(step in record for step in consumed)
            # As the audit reads it: an attempt supersedes every step from its first on.
            record = {step: rows for step, rows in record.items() if step < first} | consumed
            cursor = saved
            if killed_at == end:
                break
            kills += 1
        assert sorted(record) == list(range(end.step))
        assert record == {step: (e, record[step][1]) for step, (e, _) in whole.items()}
        for step, (_, ids) in whole.items():
            assert sorted(record[step][1]) == sorted(ids), f"step {step} is another one than uninterrupted"
        for epoch in range(epochs):
            seen = Counter(one for e, ids in record.values() if e == epoch for one in ids)
            assert set(seen.values()) == {1}, f"epoch {epoch}: drawings seen twice"
            assert len(seen) == plan.rows, f"epoch {epoch}: drawings lost"
    assert repeated > KILLS // 4, "the kills cost nothing: they came at checkpoints only"
    assert bin(worlds).count("1") >= 5, "hardly any other number of workers"
