"""What a task that trains one net by one loss does, whatever the net: augmentation, descent, average, state."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.optim import OptimizerConfig
from doodle_dist.models import augment
from doodle_dist.schedules import augment_probability
from doodle_dist.training.average import Average
from doodle_dist.training.optim import Optimizer, Rates
from doodle_dist.training.precision import Precision
from doodle_dist.training.task import Clock, Dial, StepInput


class OneNetPlan(NamedTuple):
    """What of a moment a step depends on, beside the dials."""

    rates: Rates
    ema_copies: bool

    @property
    def kernels(self) -> "OneNetPlan":
        """The same for steps that differ in decays alone."""
        return self._replace(rates=self.rates._replace(betas=None))


class OneNet:
    """What tasks of one net have in common; ``plan`` and ``evaluate`` are theirs."""

    def __init__(
        self,
        experiment: Experiment,
        net: nn.Module,
        optim: OptimizerConfig,
        *,
        device: torch.device,
        world_size: int,
    ) -> None:
        """The net is on its device, its loss wrapped: the average begins as a copy of weights that all ranks share."""
        self.net, self.device, self.world_size = net, device, world_size
        self.augment = experiment.model.augment
        self.precision = Precision(experiment.precision, device)
        self.optimizer = Optimizer(net, optim, recorded=experiment.train.cuda_graphs and world_size == 1)
        self.average = Average(net, experiment.ema, device)
        self._augmented_share = Dial(device)
        self._norm = torch.zeros((), device=device)

    def begin(self) -> None:
        """Nothing: it begins with its initial weights."""

    def _set(self, clock: Clock, global_rows: int) -> OneNetPlan:
        """Turn the dials to what the schedules say of the step that follows the clock; what else they say."""
        self._augmented_share.set(
            augment_probability(self.augment, clock.drawings_seen, clock.total_drawings)
        )
        return OneNetPlan(
            self.optimizer.plan(clock), ema_copies=self.average.plan(clock.drawings_seen, global_rows)
        )

    def _augmented(self, batch: StepInput) -> Tensor:
        """The batch's pictures [B, C, H, W], changed at random as far as that goes by now."""
        numbers = batch.random.uniform(0.0, 1.0, augment.NUMBERS)
        changes = augment.changes(numbers, self.augment, self._augmented_share.tensor)
        return augment.apply(batch.images, changes, self.augment)

    def _descend(self, losses: Tensor, batch: StepInput, plan: OneNetPlan) -> Tensor:
        """One update by the losses [B] of this rank's drawings; its part of the global batch's mean."""
        loss = losses.sum() / batch.global_rows
        self._norm.copy_(self.optimizer.descend(loss, self.world_size))
        self.average.update(self.net, copies=plan.ema_copies)
        return loss.detach()

    def gauges(self) -> Mapping[str, float]:
        return {"optim/lr": self.optimizer.lr, "optim/gradient_norm": float(self._norm)}

    def health(self) -> Tensor:
        return self._norm

    def failures(self, figures: Mapping[str, float]) -> Mapping[str, str]:
        return {}

    def pictures(self) -> Mapping[str, NDArray[np.uint8]]:
        return {}

    def state_dict(self) -> dict[str, object]:
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, object]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])  # type: ignore[arg-type]

    def _parts(self) -> dict[str, nn.Module | Optimizer]:
        return {"net": self.net, "ema": self.average.net, "optimizer": self.optimizer}

    def snapshot(self) -> dict[str, Tensor]:
        return self.average.net.state_dict()
