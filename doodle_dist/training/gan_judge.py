"""A trained classifier that reads a generator's samples during training, beside held-out drawings."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from doodle_dist.metrics.gan import conditional_accuracy, diversity_ratios, gaussian_of
from doodle_dist.metrics.moments import Gaussian, Moments, frechet
from doodle_dist.models.classifiers import Classifier
from doodle_dist.run.snapshot import Snapshot
from doodle_dist.training.metrics import sum_over_ranks
from doodle_dist.training.suitable import check_judge
from doodle_dist.training.task import StepInput

# Pictures that are judged, with equal shares of all categories.
_JUDGED = 1200


class Judge:
    """The classifier of a run's snapshot. Raises ValueError where it knows other categories than the GAN, or reads
    pictures of another ``shape`` (side, channels)."""

    def __init__(
        self, snapshot: Snapshot, categories: tuple[str, ...], shape: tuple[int, int], device: torch.device
    ) -> None:
        check_judge(snapshot.categories, (snapshot.side, snapshot.channels), categories, shape)
        self.classifier, self.categories, self.device = snapshot.classifier, categories, device
        self.real: _Real | None = None

    def figures(
        self, generator: nn.Module, latents: Callable[[int], Tensor], batches: Iterable[StepInput]
    ) -> dict[str, float]:
        """How a generator's samples are read, and how far they lie from the held-out drawings in the
        classifier's features; none where there is nothing to compare with. The same on every rank."""
        if self.real is None:
            self.real = _real_of_all_ranks(self.classifier, batches, self.device)
        if self.real is None:
            return {}
        count = max(10, _JUDGED // len(self.categories))
        labels = torch.arange(len(self.categories), device=self.device).repeat_interleave(count)
        features, logits = [], []
        for part, z in zip(labels.split(256), latents(len(labels)).split(256), strict=True):
            seen = self.classifier.features(generator(z, part))
            features.append(seen)
            logits.append(self.classifier.head(seen))  # without dropout, as in evaluation mode
        fake = torch.cat(features)
        ratios = list(diversity_ratios(fake, labels, self.real.features, self.real.labels).values())
        # The samples have equal shares of all categories, the held-out drawings have their own.
        shares = torch.bincount(self.real.labels, minlength=len(self.categories))
        scalars = {
            "judge/conditional_accuracy": conditional_accuracy(torch.cat(logits), labels),
            "judge/frechet_distance": frechet(gaussian_of(fake, shares[labels]), self.real.gaussian),
        }
        if ratios:
            scalars["judge/diversity_ratio"] = sum(ratios) / len(ratios)
            scalars["judge/diversity_ratio_lowest"] = min(ratios)
        return scalars


@dataclass(frozen=True)
class _Real:
    """Every rank's held-out drawings as the judge sees them: features [N, F], labels [N], their Gaussian."""

    features: Tensor
    labels: Tensor
    gaussian: Gaussian


def _real_of_all_ranks(judge: Classifier, batches: Iterable[StepInput], device: torch.device) -> _Real | None:
    """The held-out drawings of all ranks; None without two of them."""
    features, labels = [], []
    moments: Moments | None = None
    for batch in batches:
        seen = judge.features(batch.images)
        moments = moments or Moments(seen.shape[1], device=device)
        moments.add(seen, torch.zeros_like(batch.labels))
        features.append(seen.cpu())
        labels.append(batch.labels.cpu())
    if moments is None:  # on every rank, or on none: each has a part of the held-out drawings
        return None
    total = moments.reduced(sum_over_ranks)
    mine = (torch.cat(features), torch.cat(labels))
    everyone: list[tuple[Tensor, Tensor]] = [mine]
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        everyone = [mine] * dist.get_world_size()
        dist.all_gather_object(everyone, mine)
    if total.counts.sum() < 2:
        return None
    return _Real(
        torch.cat([features for features, _ in everyone]).to(device),
        torch.cat([labels for _, labels in everyone]).to(device),
        total.gaussian(),
    )
