"""What a training step of a preset is, counted: floating point operations, kernels, parameters."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import conv_flop_count, flop_registry

from doodle_dist.bench.train import our_step
from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import load_experiment
from doodle_dist.models.registry import build_classifier, build_critic, build_generator


class Work(BaseModel):
    """A training step of a preset, counted: parameters that are trained, FLOP a drawing, kernels a step."""

    model_config = ConfigDict(frozen=True)

    parameters: int
    flops_per_drawing: float
    kernels_per_step: float


class _Counter(TorchDispatchMode):
    """Counts floating point operations, by torch's formulas, and operators that compute something: on a GPU each
    is a kernel or a few.

    FlopCounterMode itself also follows modules, which breaks in the gradient of a gradient.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.kernels = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution_backward.default:
            # torch's own formula takes a grouped convolution for a full one.
            gradient, pictures, weight, *_, wanted = args
            forward = conv_flop_count(pictures.shape, weight.shape, gradient.shape, transposed=args[7])
            self.flops += forward * sum(wanted[:2])
        elif formula := flop_registry.get(func._overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
        self.kernels += not (func.is_view or "empty" in func.name() or "detach" in func.name())
        return result


def count_work(preset: str, categories: int, overrides: Sequence[str] = ()) -> Work:
    """Take as many small steps of a preset on the CPU as its lazy updates have a period, and count.

    Raises ValueError for a preset that is neither of a GAN nor of a classifier.
    """
    small = [*overrides, "train.global_batch=2", "data.lanes=2", "precision=fp32"]
    experiment = load_experiment(preset, small)
    if experiment.task not in ("gan", "classifier"):
        raise ValueError(
            f"bench scale: {preset} is a {experiment.task}; allowed: presets of gan or classifier"
        )
    torch.manual_seed(0)
    step = our_step(experiment, categories)
    shape = experiment.train.global_batch
    pictures, labels = torch.rand(shape, 1, 28, 28) * 2 - 1, torch.arange(shape) % categories
    period = 1
    if experiment.task == "gan":
        period = min(experiment.gan.adversarial.penalty_every * experiment.gan.updates.critic_updates, 16)
    step(pictures, labels, period)  # optimizers make their state at the first step
    with _Counter() as counted:
        for number in range(period):
            step(pictures, labels, number)
    return Work(
        parameters=_parameters(experiment, categories),
        flops_per_drawing=counted.flops / period / shape,
        kernels_per_step=counted.kernels / period,
    )


def _parameters(experiment: Experiment, categories: int) -> int:
    model, shape = experiment.model, {"num_categories": categories, "side": 28, "channels": 1}
    nets = [
        build_classifier(model.classifier, **shape) if model.classifier else None,
        build_generator(model.generator, **shape) if model.generator else None,
        build_critic(model.critic, **shape) if model.critic else None,
    ]
    return sum(p.numel() for net in nets if net is not None for p in net.parameters())
