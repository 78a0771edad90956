"""A run's starts as its events.jsonl tells them: how long each lived, how it ended, and what a run cost."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

_S_PER_H = 3600.0
_ENDS = ("finished", "stopped", "failed")


@dataclass
class Attempt:
    """One start of the worker group. Times are seconds since 1970; ``end`` is "" where none was noted.

    ``last_at`` is the last sign of life, at most a minute before the end of one that was killed.
    """

    at: float
    last_at: float
    first_drawing: int
    last_drawing: int
    workers: int
    cpus_per_worker: float
    gpus_per_worker: float
    device: str
    end: str = ""
    reason: str = ""
    warnings: list[tuple[int, str, str]] = field(default_factory=list)  # drawings seen, name, sentence

    @property
    def seconds(self) -> float:
        return self.last_at - self.at


@dataclass(frozen=True)
class Cost:
    """``worker_hours`` is wall time by workers; the others, what those had of CPUs and GPUs."""

    wall_hours: float
    worker_hours: float
    cpu_hours: float
    gpu_hours: float


def attempts_of(events: Sequence[dict[str, Any]]) -> list[Attempt]:
    """The starts in order. Events before the first of them are left out."""
    found: list[Attempt] = []
    for event in events:
        at, seen = float(event["at"]), int(event["drawings_seen"])
        if event["event"] == "started":
            found.append(
                Attempt(
                    at, at, seen, seen, int(event.get("workers", 1)), float(event.get("cpus_per_worker", 1)),
                    float(event.get("gpus_per_worker", 0)), str(event.get("device", "")),
                )
            )  # fmt: skip
        if not found:
            continue
        last = found[-1]
        last.last_at, last.last_drawing = max(last.last_at, at), max(last.last_drawing, seen)
        if event["event"] == "warning":
            last.warnings.append((seen, str(event.get("name", "")), str(event.get("said", ""))))
        if event["event"] in _ENDS:
            last.end, last.reason = event["event"], str(event.get("reason", ""))
    return found


def cost_of(attempts: Sequence[Attempt]) -> Cost:
    """What the attempts took, from start to last sign of life."""
    hours = [one.seconds / _S_PER_H for one in attempts]
    pairs = list(zip(hours, attempts, strict=True))
    return Cost(
        wall_hours=sum(hours),
        worker_hours=sum(h * one.workers for h, one in pairs),
        cpu_hours=sum(h * one.workers * one.cpus_per_worker for h, one in pairs),
        gpu_hours=sum(h * one.workers * one.gpus_per_worker for h, one in pairs),
    )


def repeated_drawings(attempts: Sequence[Attempt]) -> int:
    """Drawings that were seen past a checkpoint, lost, and seen again; at least so many."""
    return sum(max(one.last_drawing - other.first_drawing, 0) for one, other in pairwise(attempts))
