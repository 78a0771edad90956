"""A task's steps, recorded as CUDA graphs and replayed: one call a step, where launching a thousand small kernels one
by one takes longer than running them.

What a recorded step reads anew and what it repeats is the contract of `Planned` (task.py). Each kind of step, with a
penalty or without, with a generator's update or without, is recorded when it has come a few times.
"""

import socket
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from doodle_dist.config.experiment import Experiment
from doodle_dist.errors import one_line
from doodle_dist.training.reasons import NodeError
from doodle_dist.training.task import Clock, LaneRandom, Planned, StepInput, Task, step_at_once

T = TypeVar("T")

# Steps of the same kernels that are taken one by one first: cuDNN chooses its kernels, optimisers make their moments.
# No more of them for a decay that has moved, since what they work in would lie beside what the recordings keep.
_WARM_UP = 3
# Kinds that are remembered. A run has a handful at a time; a decay that moves (beta2_end) leaves old ones behind.
_MOST_RECORDED, _MOST_SEEN = 16, 256


class Recorder(Protocol):
    """What runs operations, and what records them."""

    def run(self, operations: Callable[[], T]) -> T:
        """Run them now, as what is recorded will run."""
        ...

    def record(
        self, operations: Callable[[], None], generators: Sequence[torch.Generator]
    ) -> Callable[[], None]:
        """Record them without running them; what is returned runs them, with numbers that the generators draw then."""
        ...

    def forget(self) -> None:
        """Begin anew, once nothing that was recorded is there any more."""
        ...


class CudaRecorder:
    """Records CUDA graphs, in one pool of memory, since they never run at the same time."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def _on_own_stream(self) -> Iterator[None]:
        # Always on the stream that records: torch ties a weight's gradient to the stream that first used it.
        around = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(around)
        with torch.cuda.stream(self.stream):
            yield
        around.wait_stream(self.stream)

    def run(self, operations: Callable[[], T]) -> T:
        with self._on_own_stream():
            return operations()

    def record(
        self, operations: Callable[[], None], generators: Sequence[torch.Generator]
    ) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        torch.cuda.synchronize(self.device)  # what went wrong before is no failure of the recording
        around = torch.cuda.current_stream(self.device)
        try:
            # thread_local: the stream's threads may pin memory meanwhile.
            with torch.cuda.graph(
                graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"
            ):
                operations()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            torch.cuda.set_stream(around)  # which torch leaves as it was while it recorded
            # The recording's end fails for itself once an operation was refused.
            cause = error.__context__ or error
            raise NodeError(
                f"on {socket.gethostname()}: train.cuda_graphs: this step can't be recorded: {one_line(cause)}"
            ) from error
        return graph.replay

    def forget(self) -> None:
        # The old one may still hold gradients of the last recording, and torch takes no graph into such a one.
        self.pool = torch.cuda.graph_pool_handle()


@dataclass(frozen=True)
class _Recording:
    """A recorded step: where it finds its input, how it is replayed, and its scalars, [len(names)]."""

    inputs: StepInput
    replay: Callable[[], None]
    names: tuple[str, ...]
    scalars: Tensor

    def take(self, batch: StepInput) -> Mapping[str, Tensor]:
        self.inputs.images.copy_(batch.images)
        self.inputs.labels.copy_(batch.labels)
        self.inputs.random.restart(batch.random.seed, batch.random.step)
        self.replay()
        # A copy: the next replay writes over them.
        return dict(zip(self.names, self.scalars.clone().unbind(), strict=True))


class StepGraphs:
    """Takes a task's steps, by recordings where there are some."""

    def __init__(self, task: Task, recorder: Recorder) -> None:
        self.task, self.recorder = task, recorder
        self._recorded: dict[Hashable, _Recording] = {}
        self._seen: OrderedDict[Hashable, int] = OrderedDict()

    def step(self, batch: StepInput, clock: Clock) -> Mapping[str, Tensor]:
        """One update of everything, as `Task.plan` has it."""
        planned = self.task.plan(clock, batch.global_rows)
        shapes = (batch.global_rows, batch.images.shape, batch.random.lane_rows)
        kind = (planned.key, *shapes)
        if kind not in self._recorded:
            before = self._seen.pop(alike := (planned.kernels, *shapes), 0)
            self._seen[alike] = min(before + 1, _WARM_UP)
            while len(self._seen) > _MOST_SEEN:
                self._seen.popitem(last=False)
            if before < _WARM_UP:
                return self.recorder.run(lambda: planned.take(batch))
            if len(self._recorded) == _MOST_RECORDED:
                # All of them: with one alone torch frees what cuBLAS works in, which the others know by its address
                # (pytorch issue 193402).
                self._recorded.clear()
                self.recorder.forget()
            self._recorded[kind] = self._record(planned, batch)
        return self.recorder.run(lambda: self._recorded[kind].take(batch))

    def _record(self, planned: Planned, batch: StepInput) -> _Recording:
        random = batch.random
        inputs = replace(
            batch,
            images=batch.images.clone(),
            labels=batch.labels.clone(),
            random=LaneRandom(random.seed, random.step, random.lane_rows, random.device),
        )
        names: list[str] = []
        scalars: list[Tensor] = []

        def operations() -> None:
            figures = planned.take(inputs)
            names.extend(figures)
            scalars.append(torch.stack([value.detach().float() for value in figures.values()]))

        replay = self.recorder.record(operations, inputs.random.generators())
        return _Recording(inputs, replay, tuple(names), scalars[0])


def steps_of(
    task: Task, experiment: Experiment, device: torch.device, world_size: int
) -> Callable[[StepInput, Clock], Mapping[str, Tensor]]:
    """What takes the task's steps: by recordings where that is asked for and one rank has a GPU, else one by one."""
    if experiment.train.cuda_graphs and device.type == "cuda" and world_size == 1:
        return StepGraphs(task, CudaRecorder(device)).step
    return partial(step_at_once, task)
