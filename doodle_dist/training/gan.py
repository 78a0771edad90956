"""The GAN task: one critic update a step, a generator update where the schedule says so, EMA generator.

What an update is lies in gan_updates.py, its labels in targets.py, the failures that it is watched for in
failures.py, and the judge that reads its samples in gan_judge.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from doodle_dist.config.experiment import Experiment
from doodle_dist.models import augment
from doodle_dist.models.latents import draw_latents
from doodle_dist.models.registry import build_critic, build_generator
from doodle_dist.pictures import grid, to_pixels
from doodle_dist.run.snapshot import load_snapshot
from doodle_dist.schedules import (
    augment_probability,
    critic_updates_for,
    generator_update_after,
    noise_sigma,
    penalty_gammas,
    penalty_is_due,
)
from doodle_dist.training.average import Average
from doodle_dist.training.failures import EXCESS, FAKE_READ, REAL_READ, FailureWatch
from doodle_dist.training.gan_judge import Judge
from doodle_dist.training.gan_updates import (
    CriticUpdate,
    CriticVerdict,
    GeneratorUpdate,
    Penalties,
    full_precision,
)
from doodle_dist.training.optim import Optimizer, Rates
from doodle_dist.training.precision import Precision
from doodle_dist.training.reasons import on_this_node
from doodle_dist.training.targets import critic_targets, generator_targets
from doodle_dist.training.task import (
    Clock,
    DataShape,
    Dial,
    LaneRandom,
    Planned,
    Report,
    StepInput,
    Wrap,
)

# Rows of the sample grid.
_GRID_CATEGORIES = 24
_LATENTS_SEED = 20170101


@dataclass(frozen=True)
class _Plan:
    """What of a moment a step depends on, beside the dials."""

    critic_rates: Rates
    generator_rates: Rates
    penalised: bool
    zero_centred: bool
    noisy: bool
    updates_generator: bool
    ema_copies: bool

    @property
    def kernels(self) -> "_Plan":
        """The same for steps that differ in decays alone."""
        return replace(
            self,
            critic_rates=self.critic_rates._replace(betas=None),
            generator_rates=self.generator_rates._replace(betas=None),
        )


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
        self.gan = experiment.gan
        self.augment, self.generator_config = model.augment, model.generator
        self.categories, self.device, self.world_size = data.categories, device, world_size
        self.precision = Precision(experiment.precision, device)
        shape = {"num_categories": len(data.categories), "side": data.side, "channels": data.channels}
        self.generator = build_generator(model.generator, **shape).to(device)
        self.critic = build_critic(model.critic, **shape).to(device)
        for net in (self.generator, self.critic):
            # 15 % faster convolutions on a CPU. torch's stub of `to` does not know the argument.
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        adversarial = self.gan.adversarial
        update = CriticUpdate(self.critic, adversarial, self.gan.updates)
        self.loss = update.loss
        self.critic_update = wrap(update)
        self.generator_update = wrap(GeneratorUpdate(self.generator, self.critic, adversarial))
        recorded = experiment.train.cuda_graphs and world_size == 1
        self.critic_optimizer = Optimizer(self.critic, optim.critic, recorded=recorded)
        self.generator_optimizer = Optimizer(self.generator, optim.generator, recorded=recorded)
        self.average = Average(self.generator, experiment.ema, device)
        pictures = (data.side, data.channels)
        self.judge: Judge | None = None
        if self.gan.judge:
            with on_this_node():
                judge = load_snapshot(self.gan.judge, device=device)
            self.judge = Judge(judge, data.categories, pictures, device)
        self.watch = FailureWatch(self.gan.failures)
        self._gauges: dict[str, float] = {}
        self._sigma, self._augmented_share = Dial(device), Dial(device)
        self._gammas = Dial(device), Dial(device)
        names = ("critic", "generator")
        self._norms = {name: torch.zeros((), device=device) for name in names}
        self._largest_norms = {name: torch.zeros((), device=device) for name in names}

    def begin(self) -> None:
        if self.gan.critic_from:
            _start_from(self.critic, self.gan.critic_from, self.device)

    # --- one step -------------------------------------------------------------------------------------

    def plan(self, clock: Clock, global_rows: int) -> Planned:
        seen, total, adversarial = clock.drawings_seen, clock.total_drawings, self.gan.adversarial
        sigma = noise_sigma(self.gan.noise, seen)
        augmented = augment_probability(self.augment, seen, total)
        self._sigma.set(sigma)
        self._augmented_share.set(augmented)
        gammas = penalty_gammas(adversarial, seen, total)
        for dial, gamma in zip(self._gammas, gammas, strict=True):
            dial.set(gamma)
        number, ema_copies = generator_update_after(self.gan.updates, clock.step), False
        if number is not None:
            drawings = global_rows * critic_updates_for(self.gan.updates, number)
            ema_copies = self.average.plan(seen, drawings)
        plan = _Plan(
            critic_rates=self.critic_optimizer.plan(clock),
            generator_rates=self.generator_optimizer.plan(clock),
            penalised=penalty_is_due(adversarial, clock.step),
            zero_centred=any(gammas),
            noisy=sigma > 0,
            updates_generator=number is not None,
            ema_copies=ema_copies,
        )
        self._gauges = {
            "optim/lr_generator": self.generator_optimizer.lr,
            "optim/lr_critic": self.critic_optimizer.lr,
            "gan/noise_sigma": sigma,
            "gan/augment_probability": augmented,
        }
        return Planned(plan, plan.kernels, partial(self._step, plan))

    def _step(self, plan: _Plan, batch: StepInput) -> Mapping[str, Tensor]:
        # Of the same latents the generator, which a critic's update leaves as it is, would draw the same again.
        drawn_once = plan.updates_generator and self.gan.updates.reuse_latents
        latents = self._draw_latents(batch.random)
        real = self._as_critic_sees(batch.images, batch.random, plan)
        with torch.set_grad_enabled(drawn_once):
            fake = self._drawings(latents, batch.labels)
        scalars = self._update_critic(batch, real, fake.detach(), plan)
        if plan.updates_generator:
            scalars |= self._update_generator(batch, real, fake if drawn_once else None, plan)
            self.average.update(self.generator, copies=plan.ema_copies)
        return scalars

    def _drawings(self, latents: Tensor, labels: Tensor) -> Tensor:
        """The generator's, in full precision: bfloat16 is too coarse to turn by, and on CUDA can't be inverted."""
        with self.precision.autocast():
            return full_precision(self.generator(latents, labels))

    def _update_critic(self, batch: StepInput, real: Tensor, fake: Tensor, plan: _Plan) -> dict[str, Tensor]:
        adversarial = self.gan.adversarial
        fake = self._as_critic_sees(fake, batch.random, plan)
        real_targets, fake_targets = critic_targets(batch.random, self.gan.labels, len(batch.labels))
        penalties = None
        if plan.penalised:
            mix = batch.random.uniform(0, 1) if adversarial.gradient_penalty else None
            r1_gamma, r2_gamma = self._gammas
            gammas = (r1_gamma.tensor, r2_gamma.tensor) if plan.zero_centred else None
            penalties = Penalties(gammas, mix)
        # A penalty's second derivative needs more than bfloat16's precision, in which the other steps may run; a GPU's
        # convolutions have TF32's (precision.py).
        with self.precision.autocast(penalties is None):
            verdict = self.critic_update(real, fake, batch.labels, real_targets, fake_targets, penalties)
        self._descend(verdict.loss.sum() / batch.global_rows, "critic", self.critic_optimizer)
        if adversarial.weight_clip is not None:
            with torch.no_grad():
                for parameter in self.critic.parameters():
                    parameter.clamp_(-adversarial.weight_clip, adversarial.weight_clip)
        least = self.loss.least(real_targets, fake_targets) if self.loss.least else None
        figures = self._figures(verdict, least)
        if penalties is not None:
            figures["loss/penalty"] = verdict.penalty
        return {name: value.detach().sum() / batch.global_rows for name, value in figures.items()}

    def _figures(self, verdict: CriticVerdict, least: Tensor | None) -> dict[str, Tensor]:
        """What the log shows of a critic update, [B] each. Whether it tells pictures apart is said where its
        loss is bounded: of an unbounded one only differences mean something."""
        on_real, on_fake = verdict.on_real, verdict.on_fake
        figures = {
            "loss/critic": verdict.adversarial,
            "critic/mean_on_real": on_real,
            "critic/mean_on_fake": on_fake,
            "critic/mean_difference": on_real - on_fake,
            "critic/mean_sum": on_real + on_fake,
        }
        if least is None:
            return figures
        if self.loss.paired:
            real_read = fake_read = on_real > on_fake
        else:
            # The logit (or, for least squares, the value) above which a picture counts as real.
            edge = 0.5 if self.gan.adversarial.loss == "least-squares" else 0.0
            real_read, fake_read = (
                (on_real > edge) ^ self.gan.labels.swap,
                (on_fake < edge) ^ self.gan.labels.swap,
            )
        return figures | {EXCESS: verdict.adversarial - least, REAL_READ: real_read, FAKE_READ: fake_read}

    def _update_generator(
        self, batch: StepInput, real: Tensor, fake: Tensor | None, plan: _Plan
    ) -> dict[str, Tensor]:
        times = self.gan.updates.generator_batch
        random = batch.random.times(times)
        labels = batch.labels.repeat_interleave(times)
        if fake is None:
            fake = self._drawings(self._draw_latents(random), labels)
        changes = self._changes(random)
        noise = self._sigma.tensor * random.normal(*real.shape[1:]) if plan.noisy else None
        targets = generator_targets(random, self.gan.labels, len(labels))
        self.critic.requires_grad_(False)
        with self.precision.autocast():
            loss = self.generator_update(
                fake, labels, real.repeat_interleave(times, 0), targets, changes, self.augment, noise
            )
        total = loss.sum() / (batch.global_rows * times)
        self._descend(total, "generator", self.generator_optimizer)
        self.critic.requires_grad_(True)
        return {"loss/generator": total.detach()}

    def _descend(self, loss: Tensor, name: str, optimizer: Optimizer) -> None:
        # Into the same memory at every step, also where steps that were recorded apart take turns.
        norm, largest = self._norms[name], self._largest_norms[name]
        norm.copy_(optimizer.descend(loss, self.world_size))
        torch.maximum(largest, norm, out=largest)

    def _changes(self, random: LaneRandom) -> augment.Augmentation:
        numbers = random.uniform(0.0, 1.0, augment.NUMBERS)
        return augment.changes(numbers, self.augment, self._augmented_share.tensor)

    def _as_critic_sees(self, images: Tensor, random: LaneRandom, plan: _Plan) -> Tensor:
        """The pictures augmented, and under the noise of this moment."""
        seen = augment.apply(images, self._changes(random), self.augment)
        if plan.noisy:
            seen = seen + self._sigma.tensor * random.normal(*images.shape[1:])
        return seen.contiguous(memory_format=torch.channels_last)

    def _draw_latents(self, random: LaneRandom) -> Tensor:
        if self.generator_config.latent_distribution == "uniform":
            return random.uniform(-1.0, 1.0, self.generator_config.latent_dim)
        return random.normal(self.generator_config.latent_dim)

    def gauges(self) -> Mapping[str, float]:
        norms = {f"optim/gradient_norm_{name}": float(norm) for name, norm in self._norms.items()}
        norms |= {f"optim/gradient_norm_max_{name}": float(n) for name, n in self._largest_norms.items()}
        for largest in self._largest_norms.values():
            largest.zero_()
        return self._gauges | norms

    def health(self) -> Tensor:
        return self._norms["critic"] + self._norms["generator"]

    def failures(self, figures: Mapping[str, float]) -> Mapping[str, str]:
        return self.watch.look(figures)

    # --- judging and keeping --------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, batches: Iterable[StepInput]) -> Report:
        if self.judge is None:
            return Report({})
        scalars = self.judge.figures(self.average.net, self._fixed_latents, batches)
        score = -scalars["judge/frechet_distance"] if scalars else None
        return Report(scalars, score=score)

    @torch.no_grad()
    def pictures(self) -> Mapping[str, NDArray[np.uint8]]:
        rows, columns = min(len(self.categories), _GRID_CATEGORIES), self.gan.samples_per_category
        labels = torch.arange(rows, device=self.device).repeat_interleave(columns)
        return {
            "samples": grid(to_pixels(self.average.net(self._fixed_latents(len(labels)), labels)), columns)
        }

    def _fixed_latents(self, count: int) -> Tensor:
        """The same latents at every call, and on every machine: drawn on the CPU."""
        generator = torch.Generator().manual_seed(_LATENTS_SEED)
        return draw_latents(self.generator_config, count, generator).to(self.device)

    def state_dict(self) -> dict[str, object]:
        return {name: part.state_dict() for name, part in self._parts().items()} | {
            "failures": list(self.watch.history)
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])  # type: ignore[arg-type]
        self.watch.history = list(state["failures"])  # type: ignore[call-overload]

    def _parts(self) -> dict[str, nn.Module | Optimizer]:
        return {
            "generator": self.generator,
            "critic": self.critic,
            "ema": self.average.net,
            "generator_optimizer": self.generator_optimizer,
            "critic_optimizer": self.critic_optimizer,
        }

    def snapshot(self) -> dict[str, Tensor]:
        return self.average.net.state_dict()


def _start_from(critic: nn.Module, run: str, device: torch.device) -> None:
    """Copy the weights of a pre-trained critic. Raises ValueError where it is of another architecture."""
    with on_this_node():
        trained = load_snapshot(run, device=device)
    try:
        critic.load_state_dict(trained.critic.state_dict())
    except RuntimeError:
        raise ValueError(
            f"gan.critic_from={run}: the critic there is of another shape than [model.critic]; a head that "
            "knows categories only fits where both runs have the same"
        ) from None
