"""What planning costs at 10,000 shards: an order once an epoch and process, however many windows ask for it."""

import pickle

import numpy as np
import pyarrow as pa
import pytest

from doodle_dist.data import stream_plan
from doodle_dist.data.order import EpochOrder
from doodle_dist.data.schema import Manifest, RejectsInfo, ShardInfo, SplitInfo
from doodle_dist.data.stream_plan import StreamPlan, plan_stream, windows
from doodle_dist.data.stream_rows import read_window

_GROUPS = (4, 4, 2)


def made_up(shards: int, categories: int = 340) -> Manifest:
    """A manifest of small shards that lie nowhere."""
    rows = shards * sum(_GROUPS)
    infos = tuple(
        ShardInfo(
            path=f"train/part-{k:05d}.parquet", rows=10, bytes=1000, sha256="0" * 64, row_groups=_GROUPS
        )
        for k in range(shards)
    )
    split = SplitInfo(
        rows=rows,
        counts=(rows // categories,) * categories,
        recognized=rows,
        shards=infos,
        group_counts="train/group_counts.npy",
        group_counts_sha256="0" * 64,
    )
    return Manifest(
        kind="strokes",
        categories=tuple(f"c{k:03}" for k in range(categories)),
        split_percents=(100.0, 0.0, 0.0),
        splits={"train": split},
        sources=(),
        rejects=RejectsInfo(rows=0),
        plan="",
    )


def plan_of(shards: int) -> StreamPlan:
    return plan_stream(made_up(shards), "/nowhere", "train", global_batch=64, window_bytes=640 * 128)


class Rows:
    """Row groups whose key_ids say where they come from."""

    def read(self, uri: str, group: int, columns: list[str]) -> pa.Table:
        shard, rows = int(uri[-13:-8]), _GROUPS[group]
        keys = np.arange(rows, dtype=np.uint64) + np.uint64(shard * 10 + 4 * group)
        return pa.table({"key_id": keys, "label": np.zeros(rows, np.uint16), "strokes": [b""] * rows})


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs whose order was made, one after the other."""
    made: list[int] = []

    def counted(rows: tuple[int, ...], seed: int, epoch: int, lanes: int, batch: int) -> EpochOrder:
        made.append(epoch)
        return EpochOrder(rows, seed, epoch, lanes, batch)

    monkeypatch.setattr(stream_plan, "EpochOrder", counted)
    stream_plan._plan_from.cache_clear()
    return made


@pytest.mark.slow
def test_an_epoch_of_10_000_shards_makes_its_order_once(orders: list[int]) -> None:
    plan = plan_of(10_000)
    todo = list(windows(plan, 8, 0, 0, epochs=2))
    assert len(todo) == 2 * -(-plan.order(0).steps // 10)
    keys = np.concatenate(
        [read_window(plan, range(8), w, Rows())["key_id"].to_numpy() for w in todo if w.epoch == 0]
    )
    assert np.array_equal(np.sort(keys), np.arange(100_000)), "each drawing once"
    assert orders == [0, 1]


def test_tasks_of_a_process_share_the_plan_and_its_orders(orders: list[int]) -> None:
    plan = plan_of(1000)
    plan.order(0)
    sent = pickle.dumps(plan)
    assert len(sent) < 1.01 * len(pickle.dumps(pickle.dumps(vars(plan_of(1000))))), "no order travels"
    copies = [pickle.loads(sent) for _ in range(50)]
    assert all(copy == plan for copy in copies)
    wanted = list(plan.order(0).pieces(0, 100))
    orders.clear()
    assert all(list(copy.order(0).pieces(0, 100)) == wanted for copy in copies)
    assert orders == [0]


def test_another_plan_is_not_taken_for_this_one() -> None:
    plans = [plan_of(10), plan_of(20)]
    assert [pickle.loads(pickle.dumps(plan)) for plan in plans] == plans
    assert plans[0] != plans[1]
