"""An epoch's order: every row once, the same for any number of ranks, and cut where a cursor says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doodle_dist.data.order import EpochOrder, lanes_of_rank, step_seed


def rows_of(order: EpochOrder, ranks: int, first_step: int = 0) -> list[list[tuple[int, int]]]:
    """(row group, row) of every step's global batch, read by so many ranks."""
    steps = []
    for step in range(first_step, order.steps):
        batch = []
        for rank in range(ranks):
            for lane in lanes_of_rank(rank, ranks, order.lanes):
                for piece in order.pieces(*order.lane_rows(lane, step)):
                    rows = order.shuffled(piece.group)[piece.start : piece.stop]
                    batch += [(piece.group, int(row)) for row in rows]
        steps.append(batch)
    return steps


orders = st.builds(
    EpochOrder,
    group_rows=st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(lambda g: sum(g) >= 8).map(tuple),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 3),
    lanes=st.sampled_from([1, 2, 4, 8]),
    global_batch=st.sampled_from([8, 16, 24]),
)


@settings(max_examples=150, deadline=None)
@given(orders)
def test_every_row_once_whatever_the_ranks(order: EpochOrder) -> None:
    alone = rows_of(order, 1)
    everything = [(g, r) for g, n in enumerate(order.group_rows) for r in range(n)]
    assert sorted(row for batch in alone for row in batch) == everything
    assert [len(batch) for batch in alone] == [order.step_rows(k) for k in range(order.steps)]
    for ranks in range(2, order.lanes + 1):
        assert rows_of(order, ranks) == alone


@settings(max_examples=100, deadline=None)
@given(orders)
def test_no_lane_is_ever_empty_and_only_the_last_step_is_uneven(order: EpochOrder) -> None:
    for step in range(order.steps):
        for lane in range(order.lanes):
            start, stop = order.lane_rows(lane, step)
            assert stop > start
            if step < order.steps - 1:
                assert stop - start == order.rows_per_lane_step
    assert order.step_rows(order.steps - 1) < order.global_batch + order.lanes


@settings(max_examples=100, deadline=None)
@given(orders, st.data())
def test_a_cursor_skips_exactly_what_was_consumed(order: EpochOrder, data: st.DataObject) -> None:
    done = data.draw(st.integers(0, order.steps))
    consumed = sum(order.step_rows(k) for k in range(done))
    assert order.step_at(consumed) == done
    assert rows_of(order, 1, first_step=order.step_at(consumed)) == rows_of(order, 1)[done:]


def test_each_epoch_has_its_own_order_and_each_seed_too() -> None:
    groups = (50,) * 10
    one = rows_of(EpochOrder(groups, 0, 0, 4, 16), 1)
    assert one != rows_of(EpochOrder(groups, 0, 1, 4, 16), 1)
    assert one != rows_of(EpochOrder(groups, 1, 0, 4, 16), 1)
    assert one == rows_of(EpochOrder(groups, 0, 0, 4, 16), 1)


def test_lanes_are_dealt_evenly_and_a_rank_without_one_is_refused() -> None:
    assert [len(lanes_of_rank(r, 3, 8)) for r in range(3)] == [2, 3, 3]
    with pytest.raises(ValueError, match=r"data\.lanes=4 is fewer than the 5 workers"):
        lanes_of_rank(0, 5, 4)


def test_what_does_not_divide_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"train\.global_batch=10 is not a multiple of data\.lanes=4"):
        EpochOrder((100,), 0, 0, 4, 10)
    with pytest.raises(ValueError, match="more than the 3 drawings"):
        EpochOrder((3,), 0, 0, 4, 8)
    with pytest.raises(ValueError, match="inside a step"):
        EpochOrder((100,), 0, 0, 4, 8).step_at(12)


def test_step_seeds_do_not_collide() -> None:
    assert max(step_seed(seed, 1, 1) for seed in range(100)).bit_length() == 63
    seeds = {step_seed(s, k, lane) for s in range(3) for k in range(200) for lane in range(8)}
    assert len(seeds) == 3 * 200 * 8
    assert np.log2(max(seeds)) > 55
