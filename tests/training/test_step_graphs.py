"""Steps that are recorded and replayed are the steps, whatever the schedules do meanwhile.

CUDA graphs need a GPU. Here a stand-in records: it keeps every operation that torch dispatches, with the memory it
reads and writes, and runs just those again. As in a graph, Python's numbers are those of the recording for ever.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from doodle_dist.training import step_graphs
from doodle_dist.training.loop import _seed_dropout
from doodle_dist.training.reasons import NodeError, reason_to_stop
from doodle_dist.training.step_graphs import CudaRecorder, StepGraphs
from doodle_dist.training.task import Clock, Task, step_at_once
from tests.training.test_tasks import CPU, LANES, LAST, ROWS, SMALL, build, experiment_for, part, weights

T = TypeVar("T")


class Tape(TorchDispatchMode):
    """The operations that ran under it. Refuses what asks for a value: CUDA could not record that."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[
            tuple[Callable[..., object], tuple[object, ...], dict[str, object], object]
        ] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def,override]
        name = str(function)
        assert "_local_scalar_dense" not in name, "a step that is recorded asks for a value"
        assert "lift_fresh" not in name, "a step that is recorded brings a constant from Python"
        made = function(*args, **(kwargs or {}))
        self.operations.append((function, args, kwargs or {}, made))
        return made

    def replay(self) -> None:
        with torch.no_grad():
            for function, args, kwargs, made in self.operations:
                again = function(*args, **kwargs)
                for mine, new in zip(tree_flatten(made)[0], tree_flatten(again)[0], strict=True):
                    if isinstance(mine, Tensor) and mine is not new:
                        mine.copy_(new)


class TapeRecorder:
    """Records by running, so that the first replay, which comes at once, does nothing. Counts both."""

    recordings = replays = forgotten = 0

    def run(self, operations: Callable[[], T]) -> T:
        return operations()

    def record(
        self, operations: Callable[[], None], generators: Sequence[torch.Generator]
    ) -> Callable[[], None]:
        assert len(generators) == LANES + 1
        with Tape() as tape:
            operations()
        self.recordings += 1
        has_run = True

        def replay() -> None:
            nonlocal has_run
            if not has_run:
                tape.replay()
                self.replays += 1
            has_run = False

        return replay

    def forget(self) -> None:
        self.forgotten += 1


# What moves at each step and no recording reads has each step taken one by one: rates of torch's other optimisers.
STEADY = {
    "wasserstein, gradient penalty, bursts, auxiliary head": [
        "optim.critic.schedule=constant", "optim.critic.warmup_drawings=0",
        "optim.generator.schedule=constant", "optim.generator.warmup_drawings=0",
    ],
    "doodle-cnn": ["optim.classifier.schedule=constant", "optim.classifier.warmup_drawings=0"],
}  # fmt: skip
STEPS, TOTAL = 24, 100_000


def taken(task: Task, step: Callable[..., object]) -> list[dict[str, float]]:
    """Every step's scalars, gauges and health. One step is short, as an epoch's last is."""
    said = []
    for number in range(STEPS):
        batch = part(LAST if number == STEPS - 4 else number % LAST)
        _seed_dropout(number, CPU)
        clock = Clock(number, 40_000 + number * LANES * ROWS, TOTAL)
        scalars = {name: float(value) for name, value in step(batch, clock).items()}  # type: ignore[attr-defined]
        said.append(scalars | dict(task.gauges()) | {"health": float(task.health())})
    return said


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_run_of_recorded_steps_is_the_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # On CPUs alone it looks whether its labels are in range.
    monkeypatch.setattr(functional, "one_hot", lambda y, number: (y[:, None] == torch.arange(number)).long())
    experiment = experiment_for(name, "train.cuda_graphs=true", *STEADY.get(name, []))
    one_by_one, recorded = build(experiment), build(experiment)
    recorder = TapeRecorder()
    graphs = StepGraphs(recorded, recorder)
    expected = taken(one_by_one, lambda batch, clock: step_at_once(one_by_one, batch, clock))
    assert taken(recorded, graphs.step) == expected
    assert recorder.recordings <= 4, "two kinds, or three, and once again where a decay has moved meanwhile"
    assert recorder.replays >= 11, "most steps are of a kind that is recorded"
    theirs = weights(one_by_one)
    for key, value in weights(recorded).items():
        assert torch.equal(value, theirs[key]), key


@pytest.mark.slow
def test_where_kinds_are_too_many_all_are_recorded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """One forgotten alone takes from the others what they work in."""
    monkeypatch.setattr(step_graphs, "_MOST_RECORDED", 1)
    experiment = experiment_for(
        "doodle-gan-small", "train.cuda_graphs=true", "gan.adversarial.penalty_every=2"
    )
    one_by_one, recorded = build(experiment), build(experiment)
    recorder = TapeRecorder()
    graphs = StepGraphs(recorded, recorder)
    expected = taken(one_by_one, lambda batch, clock: step_at_once(one_by_one, batch, clock))
    assert taken(recorded, graphs.step) == expected
    assert recorder.recordings > 2, "of two kinds"
    assert recorder.forgotten == recorder.recordings - 1
    assert len(graphs._recorded) == 1


def test_a_decay_that_has_moved_is_recorded_without_steps_one_by_one() -> None:
    """What these work in would lie beside what the recordings keep, and there may be no room for both."""
    experiment = experiment_for(
        "classifier-small",
        "train.cuda_graphs=true",
        "optim.classifier.beta2=0.9",
        "optim.classifier.beta2_end=0.99",
    )
    task = build(experiment)
    recorder = TapeRecorder()
    graphs, decays = StepGraphs(task, recorder), set()
    for number in range(8):
        graphs.step(part(0), Clock(number, number * 12_000, TOTAL))
        decays.add(task.optimizer.inner.param_groups[0]["betas"])  # type: ignore[attr-defined]
    assert len(decays) == 8, "another one at each step"
    assert recorder.recordings == 8 - 4, (
        "all but three, and the first, after which the average begins as a copy"
    )


def test_a_step_that_cannot_be_recorded_says_why_and_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As torch has it: the end of a recording fails for itself, and leaves its own stream the thread's."""

    @contextmanager
    def graph(*_: object, **__: object) -> Iterator[None]:
        try:
            yield
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    for name in ("Stream", "CUDAGraph", "graph_pool_handle", "set_stream", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "the thread's own")
    monkeypatch.setattr(torch.cuda, "graph", graph)

    def refused() -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    why = r"on .*: train\.cuda_graphs: .*: operation not permitted when stream"
    with pytest.raises(NodeError, match=why) as stopped:
        CudaRecorder(torch.device("cuda")).record(refused, [])
    assert "train.cuda_graphs" in reason_to_stop(stopped.value)
    torch.cuda.set_stream.assert_called_once_with("the thread's own")  # type: ignore[attr-defined]
