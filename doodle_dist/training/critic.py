"""The critic task: a critic learns, before any generator, to tell some categories' drawings from all others.

What it has learned is the start of a GAN's critic (gan.critic_from). Cross-entropy on the logit, both sides
weighing alike however many drawings they have.
"""

from collections.abc import Iterable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from doodle_dist.config.experiment import Experiment
from doodle_dist.models.heads import Critic
from doodle_dist.models.registry import build_critic
from doodle_dist.training.metrics import sum_over_ranks
from doodle_dist.training.one_net import OneNet, OneNetPlan
from doodle_dist.training.suitable import positives
from doodle_dist.training.task import Clock, DataShape, Planned, Report, StepInput, Wrap


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


class CriticTask(OneNet):
    """See training/task.py for the contract. The label that the critic sees is 0, as a GAN of one category's.

    Raises ValueError as `positives` does.
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
        positive = positives(experiment.pretraining, data.categories)
        self.is_positive = torch.tensor(positive, device=device)
        ours = sum(count for count, is_ours in zip(data.counts, positive, strict=True) if is_ours)
        others = sum(data.counts) - ours
        # Expected weight 1: each side's drawings weigh half of all.
        weights = torch.tensor([1 / max(others, 1), 1 / max(ours, 1)]) * (ours + others) / 2
        critic = build_critic(
            model, num_categories=len(data.categories), side=data.side, channels=data.channels
        ).to(device)
        self.loss = wrap(_Loss(critic, weights).to(device))
        super().__init__(experiment, critic, optim, device=device, world_size=world_size)

    def plan(self, clock: Clock, global_rows: int) -> Planned:
        plan = self._set(clock, global_rows)
        return Planned(plan, plan.kernels, partial(self._step, plan))

    def _step(self, plan: OneNetPlan, batch: StepInput) -> Mapping[str, Tensor]:
        images = self._augmented(batch)
        targets = self.is_positive[batch.labels].to(images.dtype)
        with self.precision.autocast():
            per_drawing, logits = self.loss(images, torch.zeros_like(batch.labels), targets)
        loss = self._descend(per_drawing, batch, plan)
        right = ((logits.detach() > 0) == targets.bool()).sum() / batch.global_rows
        return {"loss/critic": loss, "train/accuracy": right}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[StepInput]) -> Report:
        """Share of held-out drawings told right, each side by itself, and their mean."""
        counts = torch.zeros(2, 2, dtype=torch.float64, device=self.device)  # [side, (right, all)]
        critic = self.average.net
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
