"""Adversarial losses, penalties and the classifier's loss: pure functions that return one value per sample.

All return float [B]. The caller weights and averages, because the last batch of an epoch may be short and
ranks may hold different numbers of rows. Logits are unbounded critic outputs [B], one per picture.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def classification(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy [B] of logits [B, K] and int64 labels [B].

    With smoothing e the target is (1 - e) one_hot + e / K (Szegedy et al. 2016, section 7).
    """
    return F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)


def non_saturating_critic(
    real_logits: Tensor, fake_logits: Tensor, real_targets: Tensor, fake_targets: Tensor
) -> Tensor:
    """BCE on logits, -t log s(D) - (1 - t) log(1 - s(D)), of real + generated pictures (Goodfellow et al.
    2014, eq. 1), with soft targets t [B]. A target above 1 gives a loss without a minimum.
    """
    return _bce(real_logits, real_targets) + _bce(fake_logits, fake_targets)


def non_saturating_generator(fake_logits: Tensor, targets: Tensor) -> Tensor:
    """-log s(D(G(z))) where the target is 1 (Goodfellow et al. 2014, section 3, last paragraph)."""
    return _bce(fake_logits, targets)


def _bce(logits: Tensor, targets: Tensor) -> Tensor:
    # softplus(-a) = -log s(a); F.binary_cross_entropy_with_logits is the same within targets of [0, 1].
    return targets * F.softplus(-logits) + (1 - targets) * F.softplus(logits)


def least_squares_critic(
    real_logits: Tensor, fake_logits: Tensor, real_targets: Tensor, fake_targets: Tensor
) -> Tensor:
    """(D(x) - b)² / 2 + (D(G(z)) - a)² / 2 with soft targets b, a [B] (Mao et al. 2017, eq. 2)."""
    return (real_logits - real_targets).square() / 2 + (fake_logits - fake_targets).square() / 2


def least_squares_generator(fake_logits: Tensor, targets: Tensor) -> Tensor:
    """(D(G(z)) - c)² / 2 (Mao et al. 2017, eq. 2)."""
    return (fake_logits - targets).square() / 2


def hinge_critic(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))) (Miyato et al. 2018, eq. 16; Lim & Ye 2017)."""
    return F.relu(1 - real_logits) + F.relu(1 + fake_logits)


def hinge_generator(fake_logits: Tensor) -> Tensor:
    """-D(G(z)) (Miyato et al. 2018, eq. 17)."""
    return -fake_logits


def wasserstein_critic(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """D(G(z)) - D(x) (WGAN: Arjovsky et al. 2017, eq. 2, negated), for a critic whose slope is bounded."""
    return fake_logits - real_logits


def wasserstein_generator(fake_logits: Tensor) -> Tensor:
    """-D(G(z)) (WGAN: Arjovsky et al. 2017, algorithm 1)."""
    return -fake_logits


def relativistic_critic(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """softplus(-(D(x) - D(G(z)))), pair by pair (R3GAN: Huang et al. 2024, eq. 2; Jolicoeur-Martineau 2019).

    A pair compares like with like, so row i of both must have the same label.
    """
    return F.softplus(fake_logits - real_logits)


def relativistic_generator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """softplus(-(D(G(z)) - D(x))), pair by pair: the critic's loss with the sides exchanged (as above)."""
    return F.softplus(real_logits - fake_logits)


def zero_centred_penalty(logits: Tensor, pictures: Tensor) -> Tensor:
    """|d D / d x|^2 of every sample, [B]: R1 at real pictures, R2 at generated ones (Mescheder et al. 2018,
    eq. 9 and 10). The penalised loss is D's + (gamma/2) R1 + (gamma/2) R2 (R3GAN: Huang et al. 2024, eq. 4).

    ``logits`` [B] come from ``pictures`` [B, C, H, W], which require grad. The graph is kept, so the penalty
    can be differentiated by the critic's parameters. The gradient of the sum of the logits is each sample's
    own gradient only in a critic without batch statistics.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    return gradient.square().flatten(1).sum(1)


def gradient_penalty(logits: Tensor, pictures: Tensor) -> Tensor:
    """(|d D / d x| - 1)², [B], at pictures between real and generated ones (WGAN-GP: Gulrajani et al. 2017,
    eq. 3). The penalised loss is the critic's + lambda times this. As `zero_centred_penalty` otherwise.
    """
    # The root's slope at 0 is infinite: a critic that is flat there would make a NaN of it.
    return ((zero_centred_penalty(logits, pictures) + 1e-12).sqrt() - 1).square()


def between(real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """share x + (1 - share) G(z), share [B] in [0, 1] (WGAN-GP: Gulrajani et al. 2017, algorithm 1)."""
    share = share.view(-1, *[1] * (real.dim() - 1))
    return share * real + (1 - share) * fake


def target_entropy(targets: Tensor) -> Tensor:
    """-t log t - (1 - t) log(1 - t), [B]: the least that `non_saturating` can be at soft targets in [0, 1]."""
    t = targets.clamp(0, 1)
    return -(torch.special.xlogy(t, t) + torch.special.xlogy(1 - t, 1 - t))


@dataclass(frozen=True)
class Adversarial:
    """An adversarial loss in one shape for all.

    ``critic(real_logits, fake_logits, real_targets, fake_targets)`` and ``generator(fake_logits, real_logits,
    targets)`` return [B]. ``least(real_targets, fake_targets)`` is the least that the critic's loss could be,
    None where it has no bound. ``paired``: the generator's loss needs the logits of real drawings.
    """

    critic: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor, Tensor], Tensor]
    least: Callable[[Tensor, Tensor], Tensor] | None
    paired: bool = False


def _zero(real_targets: Tensor, fake_targets: Tensor) -> Tensor:
    return torch.zeros_like(real_targets)


ADVERSARIAL: dict[str, Adversarial] = {
    "non-saturating": Adversarial(
        critic=non_saturating_critic,
        generator=lambda fake, real, targets: non_saturating_generator(fake, targets),
        least=lambda real, fake: target_entropy(real) + target_entropy(fake),
    ),
    "least-squares": Adversarial(
        critic=least_squares_critic,
        generator=lambda fake, real, targets: least_squares_generator(fake, targets),
        least=_zero,
    ),
    "hinge": Adversarial(
        critic=lambda real, fake, *_: hinge_critic(real, fake),
        generator=lambda fake, *_: hinge_generator(fake),
        least=_zero,
    ),
    "wasserstein": Adversarial(
        critic=lambda real, fake, *_: wasserstein_critic(real, fake),
        generator=lambda fake, *_: wasserstein_generator(fake),
        least=None,
    ),
    "relativistic": Adversarial(
        critic=lambda real, fake, *_: relativistic_critic(real, fake),
        generator=lambda fake, real, _: relativistic_generator(real, fake),
        least=_zero,
        paired=True,
    ),
}
