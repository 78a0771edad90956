"""Windows through Ray Data, without a Ray: how long pipelines are, when they start, how often their loop turns."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pyarrow as pa
import pytest

from doodle_dist.data import stream_ray
from doodle_dist.data.stream_plan import StreamPlan, Window


class AtOnce:
    """A pool whose work is done when it is submitted."""

    def submit(self, call: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        future.set_result(call(*arguments))
        return future


@pytest.mark.parametrize("count", [0, 1, 3, 10, 11])
def test_pipelines_are_short_and_the_next_one_starts_before_one_ends(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    happened: list[tuple[str, int]] = []

    def blocks(_: object, __: object, todo: list[Window], ___: object) -> Iterator[pa.Table]:
        happened.append(("started with", len(todo)))
        for window in todo:
            yield pa.table({"id": [window.first]})

    monkeypatch.setattr(stream_ray, "_blocks", blocks)
    monkeypatch.setattr(stream_ray, "head_of", lambda plan, lanes, coming: ([], coming))
    monkeypatch.setattr(stream_ray, "WINDOWS_PER_PIPELINE", 5)
    monkeypatch.setattr(stream_ray, "WINDOWS_LEFT", 2)
    monkeypatch.setattr(stream_ray, "_windows_as_one", lambda plan: 1)
    coming = (Window(0, k, k + 1) for k in range(count))
    plan = StreamPlan(
        "nowhere", "strokes", 28, 1, (), (), (), (64,), 64, None, 0, lanes=1, global_batch=1, window_bytes=128
    )
    for window, table in stream_ray.windows_read(plan, range(1), coming, 0, AtOnce()):  # type: ignore[arg-type]
        assert table["id"].to_pylist() == [window.first]
        happened.append(("got", window.first))
    assert [at for what, at in happened if what == "got"] == list(range(count))
    sizes = [size for what, size in happened if what == "started with" and size]
    assert sizes == [5] * (count // 5) + ([count % 5] if count % 5 else [])
    if count > 5:
        assert happened.index(("got", 3)) > happened.index(("started with", sizes[1]), 1)


def test_the_loop_turns_less_and_less_often_until_a_window_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    class Asked:
        def wait(self, seconds: float) -> bool:
            pauses.append(seconds)
            return len(pauses) == 6

    monkeypatch.setattr(stream_ray, "_hungry", Asked())
    patience = stream_ray._Patience()
    for _ in range(8):
        patience.on_execution_step(None)
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.4, 0.4, 0.05, 0.1]


def test_neighbouring_windows_of_an_epoch_are_read_as_one() -> None:
    apart = [Window(0, 0, 2), Window(0, 2, 4), Window(0, 4, 5), Window(1, 0, 2), Window(1, 2, 4)]
    assert list(stream_ray._joined(iter(apart), 1)) == apart
    assert list(stream_ray._joined(iter(apart), 2)) == [Window(0, 0, 4), Window(0, 4, 5), Window(1, 0, 4)]
    assert list(stream_ray._joined(iter(apart), 9)) == [Window(0, 0, 5), Window(1, 0, 4)]
    assert list(stream_ray._joined(iter(()), 2)) == []
