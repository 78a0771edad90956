"""The two updates of a GAN as modules whose forward returns the update's whole loss, penalties included.

That module is what DistributedDataParallel wraps. Each registers the net that it updates and holds the other
unregistered, so that each wrapper reduces one net's gradients.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from doodle_dist import losses
from doodle_dist.config.gan import AdversarialConfig, UpdatesConfig
from doodle_dist.config.model import AugmentConfig
from doodle_dist.models import augment
from doodle_dist.models.heads import Critic


def full_precision(x: Tensor) -> Tensor:
    """A half-precision tensor as float32; another as it is."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class Penalties(NamedTuple):
    """What a critic update is to be penalised for: gammas of R1 and R2 at this moment, scalars, and the shares [B]
    at which the gradient penalty looks between real and generated pictures; None without one."""

    gammas: tuple[Tensor, Tensor] | None
    mix: Tensor | None


class CriticVerdict(NamedTuple):
    """What a critic update found: [B] each. ``adversarial`` is the loss without penalties and categories."""

    loss: Tensor
    adversarial: Tensor
    penalty: Tensor
    on_real: Tensor
    on_fake: Tensor


def has_batch_statistics(net: nn.Module) -> bool:
    """Whether a picture's result depends on the pictures beside it."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules())


class CriticUpdate(nn.Module):
    """The critic's loss per drawing, and its logits on real and generated pictures.

    Raises ValueError for penalties on a critic with batch statistics, unless the config allows them.
    """

    def __init__(self, critic: Critic, adversarial: AdversarialConfig, updates: UpdatesConfig) -> None:
        super().__init__()
        mixes_rows = has_batch_statistics(critic)
        if mixes_rows and adversarial.has_penalty and not adversarial.penalize_batch_norm:
            raise ValueError(
                "gan.adversarial: a penalty on a critic with BatchNorm isn't of each picture's own gradient; "
                "should be model.critic.normalization=layer, instance or none (or, as some published systems "
                "have it, penalize_batch_norm=true)"
            )
        self.critic = critic
        self.config = adversarial
        self.loss = losses.ADVERSARIAL[adversarial.loss]
        wanted = updates.critic_batches
        self.separate = mixes_rows if wanted == "auto" else wanted == "separate"

    def forward(
        self,
        real: Tensor,
        fake: Tensor,
        labels: Tensor,
        real_targets: Tensor,
        fake_targets: Tensor,
        penalties: Penalties | None,
    ) -> CriticVerdict:
        """Pictures [B, C, H, W], labels and targets [B] -> CriticVerdict."""
        rows = len(labels)
        both = torch.cat([real, fake]).requires_grad_(penalties is not None)
        logits, classes = self._verdicts(both, labels)
        on_real, on_fake = logits[:rows], logits[rows:]
        adversarial = self.loss.critic(on_real, on_fake, real_targets, fake_targets)
        loss, penalty = adversarial, torch.zeros_like(on_real)
        if classes is not None:
            # ACGAN: the category is to be read on real and on generated pictures (Odena et al. 2017, eq. 3).
            read = losses.classification(full_precision(classes), labels.repeat(2))
            loss = loss + self.config.auxiliary_weight * (read[:rows] + read[rows:])
        if penalties is not None:
            penalty = self._penalty(logits, both, labels, penalties)
            loss = loss + self.config.penalty_every * penalty
        return CriticVerdict(loss, adversarial, penalty, on_real, on_fake)

    def _verdicts(self, both: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self.separate:
            logits, classes = self.critic.verdicts(both, labels.repeat(2))
            return full_precision(logits), classes
        halves = [self.critic.verdicts(half, labels) for half in both.chunk(2)]
        parts = [classes for _, classes in halves if classes is not None]
        logits = torch.cat([logits for logits, _ in halves])
        return full_precision(logits), torch.cat(parts) if parts else None

    def _penalty(self, logits: Tensor, both: Tensor, labels: Tensor, penalties: Penalties) -> Tensor:
        rows, penalty = len(labels), torch.zeros_like(logits[: len(labels)])
        if penalties.gammas is not None:
            r1_gamma, r2_gamma = penalties.gammas
            squares = losses.zero_centred_penalty(logits, both)
            penalty = r1_gamma / 2 * squares[:rows] + r2_gamma / 2 * squares[rows:]
        if penalties.mix is not None:
            pictures = losses.between(both[:rows].detach(), both[rows:].detach(), penalties.mix)
            pictures.requires_grad_()
            steepness = losses.gradient_penalty(full_precision(self.critic(pictures, labels)), pictures)
            penalty = penalty + self.config.gradient_penalty * steepness
        return penalty


class _Unregistered:
    """Holds a net without registering it as a submodule."""

    def __init__(self, net: Critic) -> None:
        self.net = net


class GeneratorUpdate(nn.Module):
    """The generator's loss per generated picture. It is given the pictures, and holds the generator that drew them so
    that a wrapper knows whose gradients to reduce."""

    def __init__(self, generator: nn.Module, critic: Critic, config: AdversarialConfig) -> None:
        super().__init__()
        self.generator = generator
        self.held = _Unregistered(critic)
        self.config = config
        self.loss = losses.ADVERSARIAL[config.loss]

    def forward(
        self,
        fake: Tensor,
        labels: Tensor,
        real: Tensor,
        targets: Tensor,
        changes: augment.Augmentation,
        augment_config: AugmentConfig,
        noise: Tensor | None,
    ) -> Tensor:
        """Generated pictures [B, C, H, W], labels [B], the critic's real pictures, targets [B] -> loss [B]."""
        fake = augment.apply(fake, changes, augment_config)
        if noise is not None:
            fake = fake + noise
        critic = self.held.net
        on_fake, classes = critic.verdicts(fake, labels)
        on_real = on_fake.detach()  # a stand-in that no loss reads
        if self.loss.paired:
            with torch.no_grad():
                on_real = critic(real, labels)
        loss = self.loss.generator(full_precision(on_fake), full_precision(on_real), targets)
        if classes is not None:
            loss = loss + self.config.auxiliary_weight * losses.classification(
                full_precision(classes), labels
            )
        return loss
