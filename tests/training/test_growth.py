"""How many workers a cluster holds, and that only an elastic run below its most asks."""

import threading

import pytest
from ray.exceptions import RaySystemError

from doodle_dist.config.experiment import ScalingConfig
from doodle_dist.training import growth
from doodle_dist.training.growth import Beside, room_for_more, workers_that_fit

ELASTIC = ScalingConfig(workers=4, workers_min=1, cpus_per_worker=2.0)


@pytest.mark.parametrize(
    ("nodes", "fit"),
    [
        ([], 0),
        ([{"memory": 1e9}], 0),  # a head that schedules nothing
        ([{"CPU": 3.0}], 1),
        ([{"CPU": 3.0}, {"CPU": 3.0}], 2),  # half a worker on each is not a third one
        ([{"CPU": 64.0}], 4),
    ],
)
def test_workers_fit_whole_on_nodes(nodes: list[dict[str, float]], fit: int) -> None:
    assert workers_that_fit(ELASTIC, nodes) == fit


def test_where_workers_take_gpus_the_scarcer_resource_counts() -> None:
    scaling = ScalingConfig(workers=8, workers_min=1, gpus_per_worker=1.0)
    assert workers_that_fit(scaling, [{"CPU": 64.0, "GPU": 2.0}, {"CPU": 64.0}]) == 2


def test_only_an_elastic_run_below_its_most_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def nodes() -> list[dict[str, float]]:
        asked.append(1)
        return [{"CPU": 4.0}]

    monkeypatch.setattr(growth, "nodes_of_cluster", nodes)
    assert not room_for_more(ScalingConfig(workers=4), 1)()
    assert not room_for_more(ELASTIC, 4)()
    assert not asked
    assert room_for_more(ELASTIC, 1)()
    assert not room_for_more(ELASTIC, 2)()
    assert len(asked) == 2


def test_training_waits_for_no_answer_and_goes_on_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(growth, "_WAIT_S", 0.0)
    may_answer, asked = threading.Event(), []

    def slow() -> bool:
        asked.append(1)
        may_answer.wait()
        raise RaySystemError("no head")

    question = Beside(slow)
    assert not any(question() for _ in range(5))
    assert len(asked) == 1, "one at a time"
    may_answer.set()
    assert question.thread is not None
    question.thread.join()
    assert not question()
