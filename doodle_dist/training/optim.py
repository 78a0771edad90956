"""An optimiser with its schedule in drawings seen."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from doodle_dist.config.optim import OptimizerConfig
from doodle_dist.schedules import beta2, learning_rate
from doodle_dist.training.task import Clock, Dial
from doodle_dist.training.without_compiler import eager_step, leave_compiler_out

# Decimals of a second decay that moves, where steps are recorded: each value takes recordings of its own.
_RECORDED_BETA2_DECIMALS = 3


class Rates(NamedTuple):
    """What a recorded step can't read of an optimiser: the decays where they move, the rate where it is a number."""

    betas: tuple[float, float] | None
    lr: float | None


class Optimizer:
    """torch's optimiser of one net. ``plan`` sets what the schedules say of a step, ``descend`` takes it.

    ``recorded``: steps may be recorded and replayed, so that what moves does so on the device or seldom.
    """

    def __init__(self, net: nn.Module, config: OptimizerConfig, *, recorded: bool = False) -> None:
        leave_compiler_out()
        self.config, self.recorded = config, recorded
        self.parameters = [p for p in net.parameters() if p.requires_grad]
        self.inner = _build(self.parameters, config, recorded=recorded)
        self._step = eager_step(self.inner)
        self.lr = config.lr
        # torch's other optimisers read a rate that is a tensor by waiting for it, or not at all.
        self._rate = Dial(self.parameters[0].device) if recorded and "adam" in config.name else None

    def plan(self, clock: Clock) -> Rates:
        """Set the rate and the decays of the step that follows the clock; what of them a recorded step can't read."""
        self.lr = learning_rate(self.config, clock.drawings_seen, clock.total_drawings)
        lr: float | Tensor = self.lr
        if self._rate:
            self._rate.set(self.lr)
            lr = self._rate.tensor
        settings: dict[str, object] = {"lr": lr}
        betas = None
        if self.config.beta2_end is not None and "adam" in self.config.name:
            second = beta2(self.config, clock.drawings_seen, clock.total_drawings)
            if self.recorded:
                # Not above both ends: 0.9996 would be 1, with which Adam divides by 0.
                most = max(self.config.beta2, self.config.beta2_end)
                second = min(round(second, _RECORDED_BETA2_DECIMALS), most)
            betas = settings["betas"] = (self.config.beta1, second)
        for group in self.inner.param_groups:
            group.update(settings)
        return Rates(betas, None if self._rate else self.lr)

    def descend(self, loss: Tensor, world_size: int) -> Tensor:
        """One update by the gradients of ``loss``, this rank's part of the global batch's; their L2 norm.

        Clipped where the config says so, after the norm is taken.
        """
        self.inner.zero_grad(set_to_none=True)
        # DDP averages gradients over ranks, and the losses of ranks are to be added.
        (loss * world_size).backward()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.config.clip_norm, norm)
        with torch.no_grad():
            self._step()
        return norm.detach()

    def state_dict(self) -> dict[str, object]:
        state = self.inner.state_dict()
        # The rate as a number, wherever it lay: a run may go on without recordings.
        return state | {"param_groups": [group | {"lr": self.lr} for group in state["param_groups"]]}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take over the moments of a checkpoint; decay, betas and eps stay the config's, which may have changed.

        Raises ValueError where they are of another kind of optimiser, which torch would take.
        """
        saved: list[dict[str, object]] = state["param_groups"]  # type: ignore[assignment]
        if any(_marks(group) != _marks(self.inner.param_groups[0]) for group in saved):
            raise ValueError(f"{self.config.name} can't go on with the moments of another optimiser")
        own = [{k: v for k, v in group.items() if k != "params"} for group in self.inner.param_groups]
        self.inner.load_state_dict(state)
        for group, settings in zip(self.inner.param_groups, own, strict=True):
            group.update(settings)
            if (
                "alpha" in group and group["momentum"]
            ):  # RMSprop makes its buffer in the first step of all, or never
                for parameter in group["params"]:
                    if moments := self.inner.state.get(parameter):
                        moments.setdefault("momentum_buffer", torch.zeros_like(parameter))
        # A fused step goes through memory as it lies, and what another device has saved may lie otherwise.
        for parameter, moments in self.inner.state.items():
            for name, moment in moments.items():
                if torch.is_tensor(moment) and moment.shape == parameter.shape:
                    moments[name] = torch.empty_like(parameter).copy_(moment)


def _marks(group: dict[str, object]) -> set[str]:
    """What tells kinds of optimisers with other moments apart: Adam's, RMSprop's and SGD's own settings."""
    return {"betas", "alpha", "dampening"} & group.keys()


def _build(
    parameters: list[nn.Parameter], config: OptimizerConfig, *, recorded: bool
) -> torch.optim.Optimizer:
    """Fused where torch has it: one pass over the memory of weights, gradients and moments, on CPUs too."""
    # What counts steps on the device, so that a recorded step counts too. On a CPU torch refuses it, and needs it not.
    capturable = recorded and parameters[0].device.type == "cuda"
    match config.name:
        case "adam":
            kind: type[torch.optim.Adam] = torch.optim.Adam
        case "adamw":
            kind = torch.optim.AdamW
        case "sgd":
            return torch.optim.SGD(
                parameters, config.lr, momentum=config.beta1, weight_decay=config.weight_decay, fused=True
            )
        case "rmsprop":
            return torch.optim.RMSprop(
                parameters,
                config.lr,
                alpha=config.beta2,
                eps=config.eps,
                momentum=config.beta1,
                weight_decay=config.weight_decay,
                capturable=capturable,
            )
    return kind(
        parameters,
        config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
        capturable=capturable,
    )
