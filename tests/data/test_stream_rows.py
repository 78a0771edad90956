"""The rows of windows: each needed row group is read once, and no other."""

import pytest

from doodle_dist.data import stream_rows
from doodle_dist.data.stream_plan import Window
from doodle_dist.data.stream_rows import read_window
from tests.datasets import prepare_here, train_plan


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return prepare_here(tmp_path_factory.mktemp("rows"), {"cat": 700, "dog": 500, "fish": 133})


def test_a_window_reads_no_row_groups_but_its_own(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = train_plan(dataset)
    read: list[int] = []
    original = stream_rows._wanted
    monkeypatch.setattr(
        stream_rows, "_wanted", lambda p, group, reader: (read.append(group), original(p, group, reader))[1]
    )
    table = read_window(plan, range(2, 4), Window(0, 3, 5))
    order = plan.order(0)
    needed = {
        piece.group
        for lane in (2, 3)
        for piece in order.pieces(order.lane_rows(lane, 3)[0], order.lane_rows(lane, 4)[1])
    }
    assert sorted(read) == sorted(needed), "each needed row group once, and no other"
    assert len(table) == 2 * 2 * order.rows_per_lane_step
