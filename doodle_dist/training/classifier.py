"""The classifier task: cross-entropy with label smoothing, augmentation, EMA; judged on held-out drawings."""

from collections.abc import Iterable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from doodle_dist import losses
from doodle_dist.config.experiment import ClassifierTaskConfig, Experiment
from doodle_dist.metrics.classifier import Confusion, confusion_picture
from doodle_dist.models.registry import build_classifier
from doodle_dist.training.metrics import sum_over_ranks
from doodle_dist.training.one_net import OneNet, OneNetPlan
from doodle_dist.training.task import Clock, DataShape, Planned, Report, StepInput, Wrap


class _Loss(nn.Module):
    """A whole update's loss as one module's forward, which is what DistributedDataParallel wraps."""

    def __init__(self, net: nn.Module, config: ClassifierTaskConfig, counts: tuple[int, ...]) -> None:
        super().__init__()
        self.net = net
        self.smoothing = config.label_smoothing
        prior = torch.tensor(counts, dtype=torch.float32).clamp(min=1)
        adjustment = config.prior_adjustment * (prior / prior.sum()).log()
        self.register_buffer("adjustment", adjustment, persistent=False)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.net(images)
        # The loss sees log priors added, so that the logits without them weigh categories alike.
        return losses.classification(logits + self.adjustment, labels, self.smoothing), logits


class ClassifierTask(OneNet):
    """See training/task.py for the contract."""

    def __init__(
        self,
        experiment: Experiment,
        data: DataShape,
        *,
        device: torch.device,
        world_size: int,
        wrap: Wrap,
    ) -> None:
        model, optim = experiment.model.classifier, experiment.optim.classifier
        assert model is not None
        assert optim is not None
        self.categories = data.categories
        net = build_classifier(
            model, num_categories=len(data.categories), side=data.side, channels=data.channels
        ).to(device)
        # Tensor cores want it; on a CPU without AMX a step takes 0.8 of what it takes in torch's own order.
        nn.utils.convert_conv2d_weight_memory_format(net, torch.channels_last)
        self.loss = wrap(_Loss(net, experiment.classifier, data.counts).to(device))
        super().__init__(experiment, net, optim, device=device, world_size=world_size)

    def plan(self, clock: Clock, global_rows: int) -> Planned:
        plan = self._set(clock, global_rows)
        return Planned(plan, plan.kernels, partial(self._step, plan))

    def _step(self, plan: OneNetPlan, batch: StepInput) -> Mapping[str, Tensor]:
        images = self._augmented(batch).contiguous(memory_format=torch.channels_last)
        with self.precision.autocast():
            per_drawing, logits = self.loss(images, batch.labels)
        loss = self._descend(per_drawing, batch, plan)
        right = (logits.detach().argmax(1) == batch.labels).sum() / batch.global_rows
        return {"loss/classifier": loss, "train/top1": right.float()}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[StepInput]) -> Report:
        net = self.average.net
        confusion = Confusion(len(self.categories), self.device)
        for batch in batches:
            confusion.add(net(batch.images), batch.labels)
        figures = confusion.reduced(sum_over_ranks).figures()
        if figures is None:
            return Report({})
        scalars = {f"val/{name}": value for name, value in figures.scalars.items()}
        per_category = dict(zip(self.categories, figures.per_category.tolist(), strict=True))
        scalars |= {f"val_category/{k}": v for k, v in per_category.items() if not np.isnan(v)}
        picture = confusion_picture(figures.matrix, self.categories)
        return Report(scalars, score=figures.scalars["top1"], pictures={"val/confusion": picture})
