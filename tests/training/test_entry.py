"""What Ray Train is told beside the training: its workers don't wait for their function for ever."""

import threading
from types import SimpleNamespace

import pytest

from doodle_dist.training import entry
from doodle_dist.training.entry import HandOver

GROUP = SimpleNamespace(get_workers=lambda: [SimpleNamespace(actor=name) for name in ("first", "second")])


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The workers that were killed."""
    killed: list[str] = []
    monkeypatch.setattr(entry.ray, "kill", killed.append)
    return killed


def waited_out(watch: HandOver) -> None:
    assert isinstance(watch.timer, threading.Timer)
    watch.timer.join(30)
    assert not watch.timer.is_alive()


def test_workers_that_are_not_handed_their_function_in_time_are_ended(ended: list[str]) -> None:
    watch = HandOver(within_s=0.05)
    watch.after_worker_group_start(GROUP)
    waited_out(watch)
    assert ended == ["first", "second"]


def test_workers_that_are_go_on(ended: list[str]) -> None:
    watch = HandOver(within_s=0.5)
    watch.after_worker_group_start(GROUP)
    watch.after_worker_group_training_start(GROUP)
    waited_out(watch)
    assert ended == []
