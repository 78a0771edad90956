"""Starts, ends and costs, from the events that a run noted."""

import pytest

from doodle_dist.evaluation.attempts import attempts_of, cost_of, repeated_drawings


def event(at: float, what: str, seen: int, **more: object) -> dict[str, object]:
    return {"at": at, "event": what, "drawings_seen": seen, **more}


EVENTS = [
    event(0, "alive", 0),  # of a start whose line is lost
    event(100, "started", 0, workers=2, cpus_per_worker=3.0, gpus_per_worker=0.0, device="cpu"),
    event(160, "checkpoint", 1000),
    event(220, "warning", 1500, name="critic-too-strong", said="look"),
    event(280, "alive", 2500),
    event(900, "started", 1000, workers=4, cpus_per_worker=1.0, gpus_per_worker=0.5, device="NVIDIA"),
    event(1800, "checkpoint", 4000),
    event(1800, "finished", 4000),
]


def test_each_start_lives_until_its_last_sign_of_life() -> None:
    first, second = attempts_of(EVENTS)
    assert (first.seconds, first.end, first.last_drawing) == (180, "", 2500)
    assert first.warnings == [(1500, "critic-too-strong", "look")]
    assert (second.seconds, second.end, second.first_drawing, second.device) == (
        900,
        "finished",
        1000,
        "NVIDIA",
    )
    assert repeated_drawings([first, second]) == 1500


def test_hours_are_those_of_all_starts_each_with_its_own_workers() -> None:
    cost = cost_of(attempts_of(EVENTS))
    assert cost.wall_hours == pytest.approx(1080 / 3600)
    assert cost.worker_hours == pytest.approx((180 * 2 + 900 * 4) / 3600)
    assert cost.cpu_hours == pytest.approx((180 * 6 + 900 * 4) / 3600)
    assert cost.gpu_hours == pytest.approx(900 * 2 / 3600)


def test_the_reason_of_an_end_is_kept_and_no_events_are_no_starts() -> None:
    (one,) = attempts_of([event(5, "started", 0), event(7, "failed", 0, reason="OSError: gone")])
    assert (one.end, one.reason, one.workers) == ("failed", "OSError: gone", 1)
    assert attempts_of([]) == []
