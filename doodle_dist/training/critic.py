"""The critic task: a critic learns, before any generator, to tell some categories' drawings from all others.

What it has learned is the start of a GAN's critic (gan.critic_from). Cross-entropy on the logit, both sides
weighing alike however many drawings they have.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from doodle_dist.config.experiment import Experiment
from doodle_dist.data.categories import unknown_category
from doodle_dist.models import augment
from doodle_dist.models.ema import ExponentialMovingAverage
from doodle_dist.models.heads import Critic
from doodle_dist.models.registry import build_critic
from doodle_dist.schedules import augment_now, ema_halflife
from doodle_dist.training.metrics import sum_over_ranks
from doodle_dist.training.optim import Optimizer
from doodle_dist.training.precision import Precision
from doodle_dist.training.task import Clock, DataShape, Report, StepInput, Wrap


class _Loss(nn.Module):
    """A whole update's loss as one module's forward, which is what DistributedDataParallel wraps."""

    weights: Tensor

    def __init__(self, critic: Critic, weights: Tensor) -> None:
        super().__init__()
        self.critic = critic
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, images: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits, classes = self.critic.verdicts(images, labels)
        if classes is not None:
            logits = logits + 0.0 * classes.sum(1)  # DDP waits for a gradient of every weight
        loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return loss * self.weights[targets.long()], logits


class CriticTask:
    """See training/task.py for the contract. The label that the critic sees is 0, as a GAN of one category's.

    Raises ValueError where pretraining.positive names what is no category of the data, none, or all of them.
    """

    def __init__(
        self,
        experiment: Experiment,
        data: DataShape,
        *,
        device: torch.device,
        world_size: int,
        wrap: Wrap,
    ) -> None:
        model, optim = experiment.model.critic, experiment.optim.critic
        assert model is not None
        assert optim is not None
        self.augment = experiment.model.augment
        self.device, self.world_size = device, world_size
        self.precision = Precision(experiment.precision, device)
        for name in experiment.pretraining.positive:
            if name not in data.categories:
                raise ValueError(f"pretraining.positive: {unknown_category(name, data.categories)}")
        positive = [name in experiment.pretraining.positive for name in data.categories]
        if not any(positive) or all(positive):
            raise ValueError(
                f"pretraining.positive={list(experiment.pretraining.positive)}: should name some of the data's "
                f"categories, and not all: {', '.join(data.categories[:5])} …"
            )
        self.is_positive = torch.tensor(positive, device=device)
        ours = sum(count for count, is_ours in zip(data.counts, positive, strict=True) if is_ours)
        others = sum(data.counts) - ours
        # Expected weight 1: each side's drawings weigh half of all.
        weights = torch.tensor([1 / max(others, 1), 1 / max(ours, 1)]) * (ours + others) / 2
        self.critic = build_critic(
            model, num_categories=len(data.categories), side=data.side, channels=data.channels
        ).to(device)
        self.loss = wrap(_Loss(self.critic, weights).to(device))
        self.optimizer = Optimizer(self.critic, optim)
        self.ema_config = experiment.ema
        self.ema = ExponentialMovingAverage(self.critic)
        self._norm = torch.zeros((), device=device)

    def begin(self) -> None:
        """Nothing: it begins with its initial weights."""

    def step(self, batch: StepInput, clock: Clock) -> Mapping[str, Tensor]:
        config = augment_now(self.augment, clock.drawings_seen, clock.total_drawings)
        changes = augment.changes(batch.random.uniform(0.0, 1.0, augment.NUMBERS), config)
        images = augment.apply(batch.images, changes, config)
        targets = self.is_positive[batch.labels].to(images.dtype)
        with self.precision.autocast():
            per_drawing, logits = self.loss(images, torch.zeros_like(batch.labels), targets)
        loss = per_drawing.sum() / batch.global_rows
        self._norm = self.optimizer.descend(loss, clock, self.world_size)
        halflife = ema_halflife(self.ema_config, clock.drawings_seen)
        self.ema.update(self.critic, batch.global_rows, halflife)
        right = ((logits.detach() > 0) == targets.bool()).sum() / batch.global_rows
        return {"loss/critic": loss.detach(), "train/accuracy": right}

    def gauges(self) -> Mapping[str, float]:
        return {"optim/lr": self.optimizer.lr, "optim/gradient_norm": float(self._norm)}

    def health(self) -> Tensor:
        return self._norm

    def failures(self, figures: Mapping[str, float]) -> Mapping[str, str]:
        return {}

    def pictures(self) -> Mapping[str, NDArray[np.uint8]]:
        return {}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[StepInput], clock: Clock) -> Report:
        """Share of held-out drawings told right, each side by itself, and their mean."""
        counts = torch.zeros(2, 2, dtype=torch.float64, device=self.device)  # [side, (right, all)]
        critic = self.ema.average
        for batch in batches:
            targets = self.is_positive[batch.labels]
            right = (critic(batch.images, torch.zeros_like(batch.labels)) > 0) == targets
            for side in (0, 1):
                here = targets == bool(side)
                counts[side] += torch.stack([(right & here).sum(), here.sum()])
        (other_right, others), (ours_right, ours) = sum_over_ranks(counts).tolist()
        if not others or not ours:
            return Report({})
        scalars = {
            "val/accuracy_on_others": other_right / others,
            "val/accuracy_on_positive": ours_right / ours,
        }
        scalars["val/balanced_accuracy"] = sum(scalars.values()) / 2
        return Report(scalars, score=scalars["val/balanced_accuracy"])

    def state_dict(self) -> dict[str, object]:
        return {
            "critic": self.critic.state_dict(),
            "ema": self.ema.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.critic.load_state_dict(state["critic"])  # type: ignore[arg-type]
        # Checkpoints of releases that took no average of a critic have none.
        self.ema.average.load_state_dict(state.get("ema", state["critic"]))  # type: ignore[arg-type]
        self.optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]

    def snapshot(self) -> dict[str, Tensor]:
        return self.ema.average.state_dict()
