"""What a training task is: the contract between the loop, which knows no models, and the tasks.

A task owns its nets, optimisers and schedules. The loop owns the stream, the clock, logging and checkpoints.
Neither knows of Ray; of torch.distributed a task knows only the `wrap` that it was given.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from doodle_dist.data.order import step_seed

# Applied to the module whose forward returns an update's whole loss: DistributedDataParallel, or nothing.
Wrap = Callable[[nn.Module], nn.Module]


def as_it_is(module: nn.Module) -> nn.Module:
    """The `Wrap` of one rank by itself."""
    return module


@dataclass(frozen=True)
class DataShape:
    """What a task must know of its data: ``counts`` are training drawings per category."""

    categories: tuple[str, ...]
    counts: tuple[int, ...]
    side: int = 28
    channels: int = 1


@dataclass(frozen=True)
class Clock:
    """Where a run is. Every schedule ticks in ``drawings_seen``; ``step`` counts global batches."""

    step: int
    drawings_seen: int
    total_drawings: int


# Lanes number from 0; each rank's dropout is seeded as one above any of them,
DROPOUT_LANES = 1 << 20
# and what a step draws once for the whole global batch as one above these.
_SHARED_LANE = 1 << 30


class LaneRandom:
    """Random numbers of one rank's part of a step, the same whichever rank draws them.

    Each lane has its own generator, seeded by (seed, step, lane); every method draws each lane's rows from
    its own, and joins them in the order of the batch's rows.
    """

    def __init__(
        self, seed: int, step: int, lane_rows: tuple[tuple[int, int], ...], device: torch.device
    ) -> None:
        self.device, self.lane_rows = device, lane_rows
        self.shared = torch.Generator(device)
        self.lanes = [(torch.Generator(device), rows) for _, rows in lane_rows]
        self.restart(seed, step)

    def restart(self, seed: int, step: int) -> None:
        """From here on the numbers of that step, from the same generators."""
        self.seed, self.step = seed, step
        self.shared.manual_seed(step_seed(seed, step, _SHARED_LANE))
        for (lane, _), (generator, _) in zip(self.lane_rows, self.lanes, strict=True):
            generator.manual_seed(step_seed(seed, step, lane))

    def generators(self) -> list[torch.Generator]:
        return [self.shared, *(generator for generator, _ in self.lanes)]

    def times(self, count: int) -> Self:
        """The same generators, which go on where they are, with ``count`` rows for each of the batch."""
        wider = copy(self)
        wider.lanes = [(generator, rows * count) for generator, rows in self.lanes]
        return wider

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, [B, *shape]."""
        return torch.cat(
            [torch.randn(rows, *shape, generator=g, device=self.device) for g, rows in self.lanes]
        )

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in [low, high), [B, *shape]."""
        drawn = [torch.rand(rows, *shape, generator=g, device=self.device) for g, rows in self.lanes]
        return low + (high - low) * torch.cat(drawn)

    def shared_uniform(self, low: float, high: float) -> Tensor:
        """One number, uniform in [low, high), the same on every rank."""
        return low + (high - low) * torch.rand((), generator=self.shared, device=self.device)


@dataclass(frozen=True)
class StepInput:
    """One rank's part of a global batch, on its device.

    ``images`` float [B, C, H, W] in [-1, 1], ``labels`` int64 [B]. A loss averaged over the global batch is
    the sum over ranks of ``(per_sample_loss / global_rows).sum()``.
    """

    images: Tensor
    labels: Tensor
    global_rows: int
    random: LaneRandom


class Dial:
    """A number that a schedule moves, on the device: a step that was recorded reads it there when it is replayed."""

    def __init__(self, device: torch.device) -> None:
        # What a Python number would be; GPUs' fused optimisers take their rate as float32 alone.
        dtype = torch.float64 if device.type == "cpu" else torch.float32
        self.tensor = torch.zeros((), dtype=dtype, device=device)
        self._value = 0.0

    def set(self, value: float) -> None:
        if value != self._value:  # a launch less on a GPU
            self.tensor.fill_(value)
            self._value = value


@dataclass(frozen=True)
class Planned:
    """A step as its clock has it, every `Dial` turned to what the schedules say.

    ``take`` is given the batch. Of the moment it knows nothing but the dials and ``key``: steps of equal keys, on
    batches of equal shapes, run the same operations on the same memory, so that one of them can stand for all. Steps of
    equal ``kernels`` run the same ones, on other numbers that a kernel is given.
    """

    key: Hashable
    kernels: Hashable
    take: Callable[[StepInput], Mapping[str, Tensor]]


@dataclass
class Report:
    """What an evaluation found. ``score`` is the figure that keep-best maximises, None where there is none."""

    scalars: dict[str, float]
    score: float | None = None
    pictures: dict[str, NDArray[np.uint8]] = field(default_factory=dict)  # [H, W] or [H, W, 3]


class Task(Protocol):
    """A thing to train. Its methods are called by all ranks, at the same steps, but for `pictures`, `state_dict` and
    `snapshot`, which rank 0 alone asks for: no collectives there."""

    def begin(self) -> None:
        """Once, before the first step of a run that has no checkpoint yet: take over weights of another run."""
        ...

    def plan(self, clock: Clock, global_rows: int) -> Planned:
        """The step that follows the clock: one update of everything, by a global batch of so many drawings.

        It returns scalars that, *summed* over ranks, are the global batch's.
        """
        ...

    def gauges(self) -> Mapping[str, float]:
        """Values that all ranks agree on: learning rates, gradient norms, the noise level."""
        ...

    def health(self) -> Tensor:
        """A scalar that is finite exactly where the last step's losses and gradients were, on every rank.

        The next step may write over it.
        """
        ...

    def failures(self, figures: Mapping[str, float]) -> Mapping[str, str]:
        """The failures that a log's figures, the means over its steps and ranks, show: a sentence by name."""
        ...

    def pictures(self) -> Mapping[str, NDArray[np.uint8]]:
        """What the EMA weights make at this moment, [H, W] or [H, W, 3]. On rank 0 alone."""
        ...

    def evaluate(self, batches: Iterable[StepInput]) -> Report:
        """Judge the EMA weights on held-out drawings; the same report on every rank."""
        ...

    def state_dict(self) -> dict[str, object]:
        """All that is needed to go on as if never interrupted, tensors and plain values only."""
        ...

    def load_state_dict(self, state: dict[str, object]) -> None: ...

    def snapshot(self) -> dict[str, Tensor]:
        """The EMA weights for inference."""
        ...


def step_at_once(task: Task, batch: StepInput, clock: Clock) -> Mapping[str, Tensor]:
    """Plan a step, and take it at once."""
    return task.plan(clock, batch.global_rows).take(batch)
