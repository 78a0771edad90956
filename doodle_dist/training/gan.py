"""The conditional GAN task: one critic update a step, a generator update every n-th, EMA generator.

Each update is one module whose forward returns the update's whole loss, penalties included; that module is
what DistributedDataParallel wraps. It registers the net that it updates and holds the other unregistered, so
that each wrapper reduces one net's gradients.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from doodle_dist import losses
from doodle_dist.config.experiment import Experiment
from doodle_dist.config.model import AdversarialConfig, AugmentConfig, LabelConfig
from doodle_dist.evaluation.gan_metrics import conditional_accuracy, diversity_ratios, frechet_distance
from doodle_dist.evaluation.pictures import grid, to_pixels
from doodle_dist.evaluation.snapshot import Snapshot, load_snapshot
from doodle_dist.models import augment
from doodle_dist.models.ema import ExponentialMovingAverage
from doodle_dist.models.registry import build_critic, build_generator
from doodle_dist.schedules import ema_halflife, noise_sigma, penalty_gammas, penalty_is_due
from doodle_dist.training.classifier import autocast_dtype
from doodle_dist.training.optim import Optimizer
from doodle_dist.training.task import Clock, DataShape, LaneRandom, Report, StepInput, Wrap

# Rows of the sample grid, and pictures that the judge reads at a checkpoint.
_GRID_CATEGORIES = 24
_JUDGED = 1200
_LATENTS_SEED = 20170101


class _Unregistered:
    """Holds a net without registering it as a submodule."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net


class CriticUpdate(nn.Module):
    """The critic's loss per drawing, and its logits on real and generated pictures."""

    def __init__(self, critic: nn.Module, config: AdversarialConfig) -> None:
        super().__init__()
        self.critic = critic
        self.config = config
        # A critic with batch statistics sees real and generated pictures in batches of their own.
        self.apart = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in critic.modules())

    def forward(
        self,
        real: Tensor,
        fake: Tensor,
        labels: Tensor,
        real_targets: Tensor,
        fake_targets: Tensor,
        gammas: tuple[float, float] | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pictures [B, C, H, W], labels and targets [B] -> loss, logits of real, of fake, penalty: [B] each."""
        rows = len(labels)
        both = torch.cat([real, fake]).requires_grad_(gammas is not None)
        if self.apart:
            logits = torch.cat([self.critic(both[:rows], labels), self.critic(both[rows:], labels)])
        else:
            logits = self.critic(both, labels.repeat(2))
        logits = logits.float()
        on_real, on_fake = logits[:rows], logits[rows:]
        match self.config.loss:
            case "non-saturating":
                loss = losses.non_saturating_critic(on_real, on_fake, real_targets, fake_targets)
            case "hinge":
                loss = losses.hinge_critic(on_real, on_fake)
            case "relativistic":
                loss = losses.relativistic_critic(on_real, on_fake)
        penalty = torch.zeros_like(on_real)
        if gammas is not None:
            squares = losses.zero_centred_penalty(logits, both)
            penalty = gammas[0] / 2 * squares[:rows] + gammas[1] / 2 * squares[rows:]
            loss = loss + self.config.penalty_every * penalty
        return loss, on_real, on_fake, penalty


class GeneratorUpdate(nn.Module):
    """The generator's loss per drawing."""

    def __init__(self, generator: nn.Module, critic: nn.Module, config: AdversarialConfig) -> None:
        super().__init__()
        self.generator = generator
        self.held = _Unregistered(critic)
        self.config = config

    def forward(
        self,
        latents: Tensor,
        labels: Tensor,
        real: Tensor,
        targets: Tensor,
        changes: augment.Augmentation,
        augment_config: AugmentConfig,
        noise: Tensor | None,
    ) -> Tensor:
        """Latents [B, Z], labels [B], the critic's real pictures [B, C, H, W], targets [B] -> loss [B]."""
        fake = augment.apply(self.generator(latents, labels), changes, augment_config)
        if noise is not None:
            fake = fake + noise
        on_fake = self.held.net(fake, labels).float()
        match self.config.loss:
            case "non-saturating":
                return losses.non_saturating_generator(on_fake, targets)
            case "hinge":
                return losses.hinge_generator(on_fake)
            case "relativistic":
                with torch.no_grad():
                    on_real = self.held.net(real, labels).float()
                return losses.relativistic_generator(on_real, on_fake)


def soft_targets(random: LaneRandom, config: LabelConfig, low: float, high: float, rows: int) -> Tensor:
    """Targets [B], uniform in [low, high], one a drawing or one for the whole global batch."""
    if low == high:
        targets = torch.full((rows,), low, device=random.device)
    elif config.per == "drawing":
        targets = random.uniform(low, high)
    else:
        targets = random.shared_uniform(low, high).expand(rows)
    return targets.clamp(max=1.0) if config.clip else targets


class GanTask:
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
        model, optim = experiment.model, experiment.optim
        assert model.generator is not None
        assert model.critic is not None
        assert optim.generator is not None
        assert optim.critic is not None
        self.gan, self.augment, self.ema_config = experiment.gan, model.augment, experiment.ema
        self.categories, self.device, self.world_size = data.categories, device, world_size
        self.latent_dim = model.generator.latent_dim
        self.autocast = autocast_dtype(experiment.precision, device)
        shape = {"num_categories": len(data.categories), "side": data.side, "channels": data.channels}
        self.generator = build_generator(model.generator, **shape).to(device)
        self.critic = build_critic(model.critic, **shape).to(device)
        for net in (self.generator, self.critic):
            # 15 % faster convolutions on a CPU. torch's stub of `to` does not know the argument.
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.critic_update = wrap(CriticUpdate(self.critic, self.gan.adversarial))
        self.generator_update = wrap(GeneratorUpdate(self.generator, self.critic, self.gan.adversarial))
        self.critic_optimizer = Optimizer(self.critic, optim.critic)
        self.generator_optimizer = Optimizer(self.generator, optim.generator)
        self.ema = ExponentialMovingAverage(self.generator)
        self.judge = load_snapshot(self.gan.judge, device=device) if self.gan.judge else None
        if self.judge:
            _check_judge(self.judge, data.categories)
        self.real_features: tuple[Tensor, Tensor] | None = None
        self._gauges: dict[str, float] = {}
        self._norms = {"critic": torch.zeros((), device=device), "generator": torch.zeros((), device=device)}

    # --- one step -------------------------------------------------------------------------------------

    def step(self, batch: StepInput, clock: Clock) -> Mapping[str, Tensor]:
        sigma = noise_sigma(self.gan.noise, clock.drawings_seen)
        real = self._as_critic_sees(batch.images, batch.random, sigma)
        scalars = self._update_critic(batch, real, clock, sigma)
        every = self.gan.adversarial.critic_updates_per_generator_update
        if clock.step % every == every - 1:
            scalars |= self._update_generator(batch, real, clock, sigma)
            halflife = ema_halflife(self.ema_config, clock.drawings_seen)
            self.ema.update(self.generator, batch.global_rows * every, halflife)
        self._gauges = {
            "optim/lr_generator": self.generator_optimizer.lr,
            "optim/lr_critic": self.critic_optimizer.lr,
            "gan/noise_sigma": sigma,
        }
        return scalars

    def _update_critic(self, batch: StepInput, real: Tensor, clock: Clock, sigma: float) -> dict[str, Tensor]:
        adversarial, labels = self.gan.adversarial, self.gan.labels
        rows = len(batch.labels)
        with torch.no_grad(), self._autocast():
            fake = self.generator(batch.random.normal(self.latent_dim), batch.labels)
        fake = self._as_critic_sees(fake.float(), batch.random, sigma)
        real_targets = soft_targets(batch.random, labels, labels.real_low, labels.real_high, rows)
        fake_targets = soft_targets(batch.random, labels, labels.fake_low, labels.fake_high, rows)
        if labels.fake_flip_probability:
            flipped = batch.random.uniform(0, 1) < labels.fake_flip_probability
            fake_targets = torch.where(flipped, real_targets, fake_targets)
        if labels.real_flip_probability:
            flipped = batch.random.uniform(0, 1) < labels.real_flip_probability
            real_targets = torch.where(
                flipped,
                soft_targets(batch.random, labels, labels.fake_low, labels.fake_high, rows),
                real_targets,
            )
        gammas = None
        if penalty_is_due(adversarial, clock.step):
            gammas = penalty_gammas(adversarial, clock.drawings_seen, clock.total_drawings)
        # A penalty's second derivative needs full precision; the other steps may run in bfloat16.
        with self._autocast(gammas is None):
            loss, on_real, on_fake, penalty = self.critic_update(
                real, fake, batch.labels, real_targets, fake_targets, gammas
            )
        total = self._descend(loss, batch, "critic", self.critic_optimizer, clock)
        share = 1 / batch.global_rows
        scalars = {
            "loss/critic": total,
            "critic/mean_on_real": on_real.detach().sum() * share,
            "critic/mean_on_fake": on_fake.detach().sum() * share,
        }
        if gammas is not None:
            scalars["loss/penalty"] = penalty.detach().sum() * share
        return scalars

    def _update_generator(
        self, batch: StepInput, real: Tensor, clock: Clock, sigma: float
    ) -> dict[str, Tensor]:
        labels = self.gan.labels
        latents = batch.random.normal(self.latent_dim)
        changes = augment.changes(batch.random.uniform(0.0, 1.0, augment.NUMBERS), self.augment)
        noise = sigma * batch.random.normal(*real.shape[1:]) if sigma else None
        targets = soft_targets(
            batch.random, labels, labels.generator_low, labels.generator_high, len(batch.labels)
        )
        self.critic.requires_grad_(False)
        with self._autocast():
            loss = self.generator_update(latents, batch.labels, real, targets, changes, self.augment, noise)
        total = self._descend(loss, batch, "generator", self.generator_optimizer, clock)
        self.critic.requires_grad_(True)
        return {"loss/generator": total}

    def _descend(
        self, loss: Tensor, batch: StepInput, name: str, optimizer: Optimizer, clock: Clock
    ) -> Tensor:
        total = loss.sum() / batch.global_rows
        optimizer.zero_grad()
        # DDP averages gradients over ranks, and the losses of ranks are to be added.
        (total * self.world_size).backward()
        self._norms[name] = optimizer.step(clock)
        return total.detach()

    def _as_critic_sees(self, images: Tensor, random: LaneRandom, sigma: float) -> Tensor:
        """Augmented, with the instance noise of this moment."""
        changes = augment.changes(random.uniform(0.0, 1.0, augment.NUMBERS), self.augment)
        seen = augment.apply(images, changes, self.augment)
        if sigma:
            seen = seen + sigma * random.normal(*images.shape[1:])
        return seen.contiguous(memory_format=torch.channels_last)

    def _autocast(self, wanted: bool = True) -> torch.autocast:
        return torch.autocast(self.device.type, self.autocast, enabled=wanted and self.autocast is not None)

    def gauges(self) -> Mapping[str, float]:
        norms = {f"optim/gradient_norm_{name}": float(norm) for name, norm in self._norms.items()}
        return self._gauges | norms

    def health(self) -> Tensor:
        return self._norms["critic"] + self._norms["generator"]

    # --- judging and keeping --------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, batches: Iterable[StepInput], clock: Clock) -> Report:
        report = Report({}, pictures={"samples/grid": self._sample_grid()})
        if self.judge is None:
            return report
        if self.real_features is None:
            self.real_features = _features_of_all_ranks(self.judge, batches, self.device)
        if self.real_features is None or len(self.real_features[1]) < 2:  # nothing to compare with
            return report
        real, real_labels = self.real_features
        count = max(10, _JUDGED // len(self.categories))
        labels = torch.arange(len(self.categories), device=self.device).repeat_interleave(count)
        features, logits = [], []
        for part, latents in zip(labels.split(256), self._latents(len(labels)).split(256), strict=True):
            pictures = self.ema.average(latents, part)
            features.append(self.judge.classifier.features(pictures))
            logits.append(self.judge.classifier(pictures))
        fake = torch.cat(features)
        ratios = list(diversity_ratios(fake, labels, real, real_labels).values())
        scalars = {
            "judge/conditional_accuracy": conditional_accuracy(torch.cat(logits), labels),
            "judge/frechet_distance": frechet_distance(fake, real),
        }
        if ratios:
            scalars["judge/diversity_ratio"] = sum(ratios) / len(ratios)
            scalars["judge/diversity_ratio_lowest"] = min(ratios)
        return Report(scalars, score=-scalars["judge/frechet_distance"], pictures=report.pictures)

    def _latents(self, count: int) -> Tensor:
        """The same latents at every call, and on every machine: drawn on the CPU."""
        generator = torch.Generator().manual_seed(_LATENTS_SEED)
        return torch.randn(count, self.latent_dim, generator=generator).to(self.device)

    def _sample_grid(self) -> NDArray[np.uint8]:
        rows = min(len(self.categories), _GRID_CATEGORIES)
        columns = self.gan.samples_per_category
        labels = torch.arange(rows, device=self.device).repeat_interleave(columns)
        return grid(to_pixels(self.ema.average(self._latents(len(labels)), labels)), columns)

    def state_dict(self) -> dict[str, object]:
        return {
            "generator": self.generator.state_dict(),
            "critic": self.critic.state_dict(),
            "ema": self.ema.average.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        parts: dict[str, nn.Module | Optimizer] = {
            "generator": self.generator,
            "critic": self.critic,
            "ema": self.ema.average,
            "generator_optimizer": self.generator_optimizer,
            "critic_optimizer": self.critic_optimizer,
        }
        for name, part in parts.items():
            part.load_state_dict(state[name])  # type: ignore[arg-type]

    def snapshot(self) -> dict[str, Tensor]:
        return self.ema.average.state_dict()


def _check_judge(judge: Snapshot, categories: tuple[str, ...]) -> None:
    if judge.categories != categories:
        raise ValueError("gan.judge: the judge was trained on other categories than this GAN")


def _features_of_all_ranks(
    judge: Snapshot, batches: Iterable[StepInput], device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """The judge's features [N, F] and the labels [N] of every rank's held-out drawings; None without any."""
    features, labels = [], []
    for batch in batches:
        features.append(judge.classifier.features(batch.images).cpu())
        labels.append(batch.labels.cpu())
    if not features:  # on every rank, or on none: each has a part of the held-out drawings
        return None
    mine = (torch.cat(features), torch.cat(labels))
    everyone: list[tuple[Tensor, Tensor]] = [mine]
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        everyone = [mine] * dist.get_world_size()
        dist.all_gather_object(everyone, mine)
    return (
        torch.cat([features for features, _ in everyone]).to(device),
        torch.cat([labels for _, labels in everyone]).to(device),
    )
