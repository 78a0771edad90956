"""`doodle-dist bench train`: a task's step against the textbook loop, on one core of this machine or on its GPU.

The textbook loop is what a tutorial has: the same nets, losses and batch, eager and in float32 (on a GPU torch's
default, whose convolutions are in TF32), upsampling and convolution one after the other, label planes made, weights in
torch's own order, torch's optimisers as they come, `zero_grad`, `backward`, `step` for each net, an average of the
weights parameter by parameter, and `.item()` of each loss. It has no metrics, no augmentation, no per-lane random
numbers and no clipping, all of which our step has. Penalties and the generator's updates come as often as in ours.

Both take steps in turns on the same pictures. What is compared are CPU seconds of this process, so that what else the
machine does counts little; on a GPU, seconds by the clock of ten steps at a time, which are waited for, and ours
a second time by recordings (train.cuda_graphs).
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from doodle_dist import losses
from doodle_dist.bench.machine import Machine, write_result
from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import load_experiment
from doodle_dist.config.optim import OptimizerConfig
from doodle_dist.models.latents import draw_latents
from doodle_dist.models.layers import REWRITTEN
from doodle_dist.models.registry import build_classifier, build_critic, build_generator
from doodle_dist.run.snapshot import best_device, device_name
from doodle_dist.schedules import generator_update_after
from doodle_dist.training.classifier import ClassifierTask
from doodle_dist.training.gan import GanTask
from doodle_dist.training.late_number import LateNumber
from doodle_dist.training.step_graphs import steps_of
from doodle_dist.training.task import Clock, DataShape, LaneRandom, StepInput, as_it_is

PRESETS = {
    "cpu": ("cdcgan", "dcgan", "doodle-gan-small", "classifier-small"),
    "cuda": ("cdcgan", "dcgan", "classifier-340"),
}
_CATEGORIES, _CPU = 12, torch.device("cpu")
BAR, GPU_GAN_BAR, GPU_CLASSIFIER_BAR = 1.3, 5.0, 3.0
# Turns that don't count, and steps of a turn: on a GPU a step is recorded when it has come three times.
_WARM_UP = 2
_TURN = {"cpu": 1, "cuda": 10}
_EMA = 0.999

# (pictures [B, 1, 28, 28], labels [B], number of the step) -> a figure that has to be waited for
Step = Callable[[Tensor, Tensor, int], float]


class StepTimes(BaseModel):
    """Seconds a step, means, of the CPU's time or by the clock on a GPU; ``ratio`` is that of the means, textbook over
    ours: lazy penalties make steps of two kinds, and a median would know the usual one alone."""

    model_config = ConfigDict(frozen=True)

    preset: str
    batch: int
    ours_s: float
    textbook_s: float
    ratio: float
    first_ours_s: float  # the first turn's steps, warm-up included
    device: str = "cpu"
    graphs_s: float | None = None  # ours by train.cuda_graphs

    @property
    def best_ratio(self) -> float:
        """The textbook's over ours, by recordings where there are some."""
        return self.textbook_s / self.graphs_s if self.graphs_s else self.ratio

    @property
    def bar(self) -> float:
        if self.device == "cpu":
            return BAR
        return GPU_CLASSIFIER_BAR if "classifier" in self.preset else GPU_GAN_BAR


class TrainBench(BaseModel):
    model_config = ConfigDict(frozen=True)

    results: list[StepTimes]
    machine: Machine


def _optimizer(net: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    return torch.optim.Adam(
        net.parameters(), config.lr, betas=(config.beta1, config.beta2), weight_decay=config.weight_decay
    )


@torch.no_grad()
def _average(average: nn.Module, net: nn.Module) -> None:
    for mine, its in zip(average.parameters(), net.parameters(), strict=True):
        mine.mul_(_EMA).add_(its, alpha=1 - _EMA)


def _as_written(net: nn.Module) -> nn.Module:
    """The net, with the textbook's way of its layers."""
    for layer in net.modules():
        if isinstance(layer, REWRITTEN):
            layer.forward = layer.as_written  # type: ignore[method-assign]
    return net


def textbook_gan(experiment: Experiment, device: torch.device) -> Step:
    """A step of the textbook loop of a GAN preset. Raises ValueError for a gradient penalty, which it doesn't have."""
    model, optim, adversarial = experiment.model, experiment.optim, experiment.gan.adversarial
    assert model.generator is not None
    assert model.critic is not None
    assert optim.generator is not None
    assert optim.critic is not None
    if adversarial.gradient_penalty:
        raise ValueError(
            f"bench train: gan.adversarial.gradient_penalty={adversarial.gradient_penalty:g} is none of the textbook "
            "loop's penalties; allowed: presets where it is 0"
        )
    shape = {"num_categories": _CATEGORIES, "side": 28, "channels": 1}
    latents_config = model.generator
    generator = _as_written(build_generator(model.generator, **shape).to(device))
    critic = _as_written(build_critic(model.critic, **shape).to(device))
    average = build_generator(model.generator, **shape).to(device)
    for_generator = _optimizer(generator, optim.generator)
    for_critic = _optimizer(critic, optim.critic)
    loss = losses.ADVERSARIAL[adversarial.loss]
    random = torch.Generator(device).manual_seed(0)

    def step(pictures: Tensor, labels: Tensor, number: int) -> float:
        penalised = adversarial.has_penalty and number % adversarial.penalty_every == 0
        is_due = generator_update_after(experiment.gan.updates, number) is not None
        ones, zeros = torch.ones(len(labels), device=device), torch.zeros(len(labels), device=device)
        with torch.set_grad_enabled(is_due):
            fake = generator(draw_latents(latents_config, len(labels), random), labels)
        sides = [side.detach().requires_grad_(penalised) for side in (pictures, fake)]
        on_real, on_fake = (critic(side, labels) for side in sides)
        total = loss.critic(on_real, on_fake, ones, zeros).mean()
        if penalised:
            for logits, side in zip((on_real, on_fake), sides, strict=True):
                total = total + losses.zero_centred_penalty(logits, side).mean()
        for_critic.zero_grad()
        total.backward()
        for_critic.step()
        if not is_due:
            return total.item()
        on_fake, on_real = critic(fake, labels), critic(pictures, labels) if loss.paired else ones
        generator_loss = loss.generator(on_fake, on_real, ones).mean()
        for_generator.zero_grad()
        generator_loss.backward()
        for_generator.step()
        _average(average, generator)
        return total.item() + generator_loss.item()

    return step


def textbook_classifier(experiment: Experiment, device: torch.device) -> Step:
    """The same of a classifier preset."""
    config, optim = experiment.model.classifier, experiment.optim.classifier
    assert config is not None
    assert optim is not None
    shape = {"num_categories": _CATEGORIES, "side": 28, "channels": 1}
    net, average = (build_classifier(config, **shape).to(device) for _ in range(2))
    optimizer = _optimizer(net, optim)

    def step(pictures: Tensor, labels: Tensor, number: int) -> float:
        loss = nn.functional.cross_entropy(net(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        _average(average, net)
        return loss.item()

    return step


def our_step(experiment: Experiment, categories: int = _CATEGORIES, device: torch.device = _CPU) -> Step:
    """A step of the task itself, as the loop takes it: it reads the health of the step before."""
    kind: type[GanTask] | type[ClassifierTask] = GanTask if experiment.task == "gan" else ClassifierTask
    data = DataShape(tuple(f"c{k:03}" for k in range(categories)), (100,) * categories)
    task = kind(experiment, data, device=device, world_size=1, wrap=as_it_is)
    lanes = experiment.data.lanes
    rows = experiment.train.global_batch // lanes
    take = steps_of(task, experiment, device, 1)
    health = LateNumber(task.health())

    def step(pictures: Tensor, labels: Tensor, number: int) -> float:
        batch = len(labels)
        random = LaneRandom(0, number, tuple((lane, rows) for lane in range(lanes)), pictures.device)
        nonlocal health
        take(StepInput(pictures, labels, batch, random), Clock(number, number * batch, 10_000 * batch))
        before, health = health, LateNumber(task.health())
        return before.read()

    return step


def _clock(device: torch.device) -> float:
    """Seconds of this process's CPU time; of the wall clock once a GPU has done what it was given."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def measure(
    preset: str, batch: int, rounds: int, overrides: list[str], device: torch.device | None = None
) -> StepTimes:
    """Steps of both in turns. ``batch`` 0: the preset's; ``overrides`` are ours alone; ``device``: a GPU if there is.

    Raises ValueError for a preset of another task, or with a gradient penalty.
    """
    given = [f"train.global_batch={batch}"] if batch else []
    experiment = load_experiment(preset, given)
    if experiment.task not in ("gan", "classifier"):
        raise ValueError(
            f"bench train: {preset} is a {experiment.task}; allowed: presets of gan or classifier"
        )
    device = device or best_device()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    size = experiment.train.global_batch
    pictures = (torch.rand(size, 1, 28, 28) * 2 - 1).to(device)
    labels = (torch.arange(size) % _CATEGORIES).to(device)
    textbook = (textbook_gan if experiment.task == "gan" else textbook_classifier)(experiment, device)
    ours = load_experiment(preset, [*given, *overrides])
    steps = {
        "ours": our_step(ours, device=device),
        "textbook": textbook,
    }
    if device.type == "cuda":
        recorded = load_experiment(preset, [*given, *overrides, "train.cuda_graphs=true"])
        steps["graphs"] = our_step(recorded, device=device)
    times: dict[str, list[float]] = {name: [] for name in steps}
    turn = _TURN[device.type]
    for first in range(0, (_WARM_UP + rounds) * turn, turn):
        for name, step in steps.items():
            # One switch for the whole process; the textbook's is torch's default.
            torch.backends.cudnn.allow_tf32 = name == "textbook" or ours.precision != "fp32"
            began = _clock(device)
            for number in range(first, first + turn):
                step(pictures, labels, number)
            times[name].append((_clock(device) - began) / turn)
    means = {name: statistics.fmean(each[_WARM_UP:]) for name, each in times.items()}
    return StepTimes(
        preset=preset,
        batch=size,
        ours_s=means["ours"],
        textbook_s=means["textbook"],
        ratio=means["textbook"] / means["ours"],
        first_ours_s=times["ours"][0],
        graphs_s=means.get("graphs"),
        device=device_name(device),
    )


def main(presets: list[str], batch: int, rounds: int, overrides: list[str], output: Path | None) -> None:
    """Measure each preset and print a table."""
    results = [measure(preset, batch, rounds, overrides) for preset in presets or PRESETS[best_device().type]]
    table = Table(
        "preset",
        "batch",
        "ours, ms",
        "by graphs, ms",
        "textbook, ms",
        "ratio",
        "by graphs",
        "",
        "first step, s",
    )
    for r in results:
        table.add_row(
            r.preset,
            f"{r.batch}",
            f"{r.ours_s * 1e3:.1f}",
            f"{r.graphs_s * 1e3:.1f}" if r.graphs_s else "",
            f"{r.textbook_s * 1e3:.1f}",
            f"{r.ratio:.2f}",
            f"{r.best_ratio:.2f}" if r.graphs_s else "",
            "" if r.best_ratio >= r.bar else f"below {r.bar}",
            f"{r.first_ours_s:.2f}",
        )
    Console().print(table)
    write_result(output, TrainBench(results=results, machine=Machine.here()))
