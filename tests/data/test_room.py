"""A pipeline begins when Ray Data knows how many CPUs there are for it."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.data import ExecutionResources

from doodle_dist.data import room
from doodle_dist.data.room import RoomIsKnown

NOTHING, MEMORY, CORES = (
    ExecutionResources(),
    ExecutionResources(object_store_memory=1),
    ExecutionResources(cpu=4),
)


def executor_that_is_told(answers: list[ExecutionResources]) -> tuple[Any, list[ExecutionResources]]:
    asked: list[ExecutionResources] = []

    def total() -> ExecutionResources:
        asked.append(answers[min(len(asked), len(answers) - 1)])
        return asked[-1]

    return SimpleNamespace(_cluster_autoscaler=SimpleNamespace(get_total_resources=total)), asked


@pytest.mark.parametrize("answer", [CORES, MEMORY], ids=["cores", "memory, the workers having all cores"])
def test_it_begins_when_the_answer_is_there(answer: ExecutionResources) -> None:
    executor, asked = executor_that_is_told([NOTHING, NOTHING, answer])
    RoomIsKnown().before_execution_starts(executor)
    assert asked == [NOTHING, NOTHING, answer]


def test_without_an_answer_it_begins_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_LONGEST_WAIT_S", 0.05)
    executor, asked = executor_that_is_told([NOTHING])
    RoomIsKnown().before_execution_starts(executor)
    assert len(asked) > 1


def test_where_ray_data_has_become_another_it_begins_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr(room.time, "sleep", naps.append)
    RoomIsKnown().before_execution_starts(SimpleNamespace())
    assert naps == []


@pytest.mark.cluster
def test_ray_data_knows_of_cpus_before_it_looks_for_the_first_time(local_ray: None) -> None:
    import ray.data

    limits: list[float] = []

    class Look(RoomIsKnown):
        def before_execution_starts(self, executor: Any) -> None:
            super().before_execution_starts(executor)
            limits.append(executor._resource_manager.get_global_limits().cpu)

    dataset = ray.data.range(2, override_num_blocks=2).map_batches(lambda batch: batch, batch_size=None)
    dataset.context.custom_execution_callback_classes = [Look]
    assert dataset.count() == 2
    assert limits[0] > 0
