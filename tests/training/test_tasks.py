"""Tasks without Ray: the same run for any number of ranks, resumed as if never interrupted, NaN noticed."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import load_experiment
from doodle_dist.data.order import lanes_of_rank
from doodle_dist.training.classifier import ClassifierTask
from doodle_dist.training.gan import GanTask, soft_targets
from doodle_dist.training.task import Clock, DataShape, LaneRandom, StepInput, Task

CPU = torch.device("cpu")
LANES, ROWS = 4, 4
CATEGORIES = ("cat", "dog", "fish")

SMALL = {
    "classifier-small": ["model.classifier.width=4", "model.classifier.dropout=0.0"],
    "doodle-cnn": ["model.classifier.width=6", "model.classifier.dropout=0.0"],
    "classifier-340-small": ["model.classifier.width=4", "model.classifier.feature_dim=16"],
    "doodle-gan-small": [
        "model.generator.width=8",
        "model.critic.width=8",
        "gan.adversarial.penalty_every=2",
    ],
    "cdcgan-small": [
        "model.generator.width=8",
        "model.critic.width=8",
        "gan.adversarial.critic_updates_per_generator_update=2",
    ],
}


def experiment_for(preset: str) -> Experiment:
    rest = ["train.global_batch=16", "data.lanes=4", "train.drawings=1000"]
    return load_experiment(preset, [*SMALL[preset], *rest])


def build(experiment: Experiment, world_size: int = 1) -> Task:
    torch.manual_seed(0)
    kind = GanTask if experiment.task == "gan" else ClassifierTask

    def wrap(module: nn.Module) -> nn.Module:
        return module if world_size == 1 else DistributedDataParallel(module, broadcast_buffers=False)

    return kind(
        experiment, DataShape(CATEGORIES, (100, 100, 100)), device=CPU, world_size=world_size, wrap=wrap
    )


def global_batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(step)
    labels = torch.from_numpy(rng.integers(0, 3, LANES * ROWS))
    pictures = torch.full((LANES * ROWS, 1, 28, 28), -1.0)
    for k, label in enumerate(labels.tolist()):
        pictures[k, 0, 4 + 8 * label : 8 + 8 * label, rng.integers(2, 8) : 22] = 1.0
    return pictures, labels


def part(step: int, rank: int = 0, world_size: int = 1) -> StepInput:
    """A rank's part of a step. The lanes are uneven in the last step, as at the end of an epoch."""
    lanes = lanes_of_rank(rank, world_size, LANES)
    pictures, labels = global_batch(step)
    rows = slice(lanes.start * ROWS, lanes.stop * ROWS)
    return StepInput(
        images=pictures[rows],
        labels=labels[rows],
        global_rows=LANES * ROWS,
        random=LaneRandom(7, step, tuple((lane, ROWS) for lane in lanes), CPU),
    )


def weights(task: Task) -> dict[str, torch.Tensor]:
    nets = {k: v for k, v in task.state_dict().items() if k in ("net", "ema", "generator", "critic")}
    return {f"{name}.{k}": v.clone() for name, net in nets.items() for k, v in net.items()}  # type: ignore[attr-defined]


def run_steps(task: Task, first: int, stop: int, rank: int = 0, world_size: int = 1) -> None:
    for step in range(first, stop):
        task.step(part(step, rank, world_size), Clock(step, step * LANES * ROWS, 1000))


def _rank(rank: int, world_size: int, port: int, preset: str, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    task = build(experiment_for(preset), world_size)
    run_steps(task, 0, 4, rank, world_size)
    torch.save(weights(task), f"{folder}/rank-{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("preset", list(SMALL))
def test_two_ranks_train_the_same_weights_as_one(preset: str, tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    mp.spawn(_rank, args=(2, port, preset, str(tmp_path)), nprocs=2)
    alone = build(experiment_for(preset))
    run_steps(alone, 0, 4)
    ranks = [torch.load(tmp_path / f"rank-{r}.pt", weights_only=True) for r in range(2)]
    for name, tensor in weights(alone).items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        assert torch.allclose(ranks[0][name], tensor, atol=2e-4, rtol=1e-3), name


@pytest.mark.parametrize("preset", list(SMALL))
def test_resumed_equals_uninterrupted(preset: str, tmp_path: Path) -> None:
    whole = build(experiment_for(preset))
    run_steps(whole, 0, 6)
    first = build(experiment_for(preset))
    run_steps(first, 0, 3)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = build(experiment_for(preset))
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    run_steps(second, 3, 6)
    expected = weights(whole)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(second).items())


@pytest.mark.parametrize("preset", list(SMALL))
def test_training_changes_every_weight_and_health_stays_finite(preset: str) -> None:
    task = build(experiment_for(preset))
    before = weights(task)
    run_steps(task, 0, 4)
    assert torch.isfinite(task.health())
    still = [n for n, t in weights(task).items() if torch.equal(t, before[n]) and "num_batches" not in n]
    assert still == []


@pytest.mark.parametrize("preset", list(SMALL))
def test_a_nan_in_the_pictures_shows_in_the_health(preset: str) -> None:
    task = build(experiment_for(preset))
    batch = part(0)
    batch.images[3] = float("nan")
    task.step(batch, Clock(1, 16, 1000))
    assert not torch.isfinite(task.health())


def test_a_classifier_learns_and_its_report_says_so() -> None:
    task = build(experiment_for("classifier-small"))
    held_out = [part(1000 + k) for k in range(4)]
    clock = Clock(0, 0, 1000)
    before = task.evaluate(held_out, clock)
    run_steps(task, 0, 40)
    after = task.evaluate(held_out, clock)
    assert after.score is not None
    assert before.score is not None
    assert after.score > max(before.score, 0.8)
    assert after.scalars["val/top3"] == 1.0  # of three categories
    assert after.pictures["val/confusion"].ndim == 3


def test_a_gan_without_a_judge_draws_the_same_grid_and_claims_no_score() -> None:
    task = build(experiment_for("doodle-gan-small"))
    one, again = (task.evaluate([], Clock(0, 0, 1000)) for _ in range(2))
    assert one.score is None
    assert one.scalars == {}
    assert np.array_equal(one.pictures["samples/grid"], again.pictures["samples/grid"])
    assert one.pictures["samples/grid"].shape == (3 * 30 + 2, 8 * 30 + 2)


def test_random_numbers_belong_to_lanes_not_to_ranks() -> None:
    together = LaneRandom(0, 5, ((0, 2), (1, 3), (2, 1)), CPU)
    apart = LaneRandom(0, 5, ((1, 3), (2, 1)), CPU)
    assert torch.equal(together.normal(4)[2:], apart.normal(4))
    assert torch.equal(together.uniform(-1, 1)[2:], apart.uniform(-1, 1))
    assert torch.equal(together.shared_uniform(0, 1), apart.shared_uniform(0, 1))
    assert not torch.equal(together.normal(4), LaneRandom(0, 6, ((0, 2), (1, 3), (2, 1)), CPU).normal(4))


def test_targets_keep_to_their_range_and_are_clipped() -> None:
    labels = load_experiment("cdcgan").gan.labels
    random = LaneRandom(0, 0, ((0, 5000),), CPU)
    clipped = soft_targets(random, labels.model_copy(update={"clip": True}), 0.7, 1.2, 5000)
    assert clipped.max() == 1.0
    assert 0.69 < float(clipped.min()) < 0.71
    assert abs(float((clipped == 1.0).float().mean()) - 0.4) < 0.03
    raw = soft_targets(random, labels.model_copy(update={"clip": False}), 0.7, 1.2, 5000)
    assert 1.19 < float(raw.max()) < 1.2
    batch = soft_targets(random, labels.model_copy(update={"per": "batch"}), 0.0, 0.3, 5000)
    assert len(batch.unique()) == 1
