"""Everything that changes during training, as pure functions of ``drawings_seen``.

A schedule never counts steps: 4 or 32 workers, or another global batch, mean the same course. The one
exception is how many critic updates come to a generator update, which is said in updates.
"""

import math
from bisect import bisect_left

from doodle_dist.config.gan import AdversarialConfig, NoiseConfig, UpdatesConfig
from doodle_dist.config.model import AugmentConfig
from doodle_dist.config.optim import EmaConfig, OptimizerConfig


def progress(drawings_seen: float, over_drawings: float) -> float:
    """Drawings seen as a fraction of ``over_drawings``, clipped to [0, 1]."""
    if over_drawings <= 0:
        return 1.0
    return min(max(drawings_seen / over_drawings, 0.0), 1.0)


def linear(start: float, end: float, drawings_seen: float, over_drawings: float) -> float:
    """From start to end in a straight line, then constant."""
    return start + (end - start) * progress(drawings_seen, over_drawings)


def cosine(start: float, end: float, drawings_seen: float, over_drawings: float) -> float:
    """From start to end along half a cosine, then constant (Loshchilov & Hutter 2017, eq. 5)."""
    share = 0.5 - 0.5 * math.cos(math.pi * progress(drawings_seen, over_drawings))
    return start + (end - start) * share


def learning_rate(config: OptimizerConfig, drawings_seen: float, total_drawings: float) -> float:
    """Learning rate for the update that follows ``drawings_seen`` of a run of ``total_drawings``.

    ``warmup_drawings``, at most half of the run, come first: a straight line from 0, or for ``one-cycle`` half a
    cosine from a 25th of the peak (Smith & Topin 2018). Then ``schedule`` leads from ``lr`` to
    ``lr * final_lr_fraction``; inverse-time, lr / (1 + seen / halving_drawings), is Keras' ``decay`` and knows no end.
    """
    final = config.lr * config.final_lr_fraction
    warmup = min(config.warmup_drawings, total_drawings / 2)
    if drawings_seen < warmup:
        if config.schedule == "one-cycle":
            return cosine(config.lr / 25, config.lr, drawings_seen, warmup)
        return linear(0.0, config.lr, drawings_seen, warmup)
    seen, remaining = drawings_seen - warmup, total_drawings - warmup
    match config.schedule:
        case "constant":
            return config.lr
        case "linear":
            return linear(config.lr, final, seen, remaining)
        case "cosine" | "one-cycle":
            return cosine(config.lr, final, seen, remaining)
        case "inverse-time":
            assert config.halving_drawings is not None
            return config.lr / (1 + seen / config.halving_drawings)


def beta2(config: OptimizerConfig, drawings_seen: float, total_drawings: float) -> float:
    """Adam's second decay: from ``beta2`` to ``beta2_end`` along half a cosine (R3GAN, table of settings)."""
    end = config.beta2 if config.beta2_end is None else config.beta2_end
    return cosine(config.beta2, end, drawings_seen, total_drawings)


def penalty_gammas(
    config: AdversarialConfig, drawings_seen: float, total_drawings: float
) -> tuple[float, float]:
    """(gamma of R1, gamma of R2), each along half a cosine (R3GAN, table of settings)."""
    over = total_drawings if config.gamma_ramp_drawings is None else config.gamma_ramp_drawings
    return (
        cosine(config.r1_gamma_start, config.r1_gamma_end, drawings_seen, over),
        cosine(config.r2_gamma_start, config.r2_gamma_end, drawings_seen, over),
    )


def penalty_is_due(config: AdversarialConfig, critic_updates_done: int) -> bool:
    """Whether the next critic update carries the penalties (StyleGAN2: Karras et al. 2020, section 3.1).

    A penalty that is due is multiplied by ``penalty_every``.
    """
    return config.has_penalty and critic_updates_done % config.penalty_every == 0


def critic_updates_for(config: UpdatesConfig, generator_update: int) -> int:
    """Critic updates that come to generator update number ``generator_update`` (from 0), before it."""
    in_burst = generator_update < config.burst_first or (
        config.burst_every is not None and generator_update % config.burst_every == 0
    )
    if config.burst_updates is not None and in_burst:
        return config.burst_updates
    return config.critic_updates


def critic_updates_before(config: UpdatesConfig, generator_update: int) -> int:
    """Critic updates of a run before generator update number ``generator_update`` is done: the sum of
    `critic_updates_for` over 0 ... generator_update, in closed form."""
    updates, first, every = generator_update + 1, config.burst_first, config.burst_every
    bursts = min(updates, first)
    if every is not None and updates > first:
        bursts += -(-updates // every) - -(-first // every)  # multiples of every in [first, updates)
    burst = config.critic_updates if config.burst_updates is None else config.burst_updates
    return updates * config.critic_updates + bursts * (burst - config.critic_updates)


def generator_update_after(config: UpdatesConfig, critic_update: int) -> int | None:
    """The number of the generator update that follows critic update ``critic_update`` (from 0); None if none
    does yet."""
    done = critic_update + 1
    candidates = range(done + 1)  # a generator update takes at least one critic update
    number = bisect_left(candidates, done, key=lambda k: critic_updates_before(config, k))
    return number if critic_updates_before(config, number) == done else None


def augment_probability(config: AugmentConfig, drawings_seen: float, total_drawings: float) -> float:
    """Share of augmented pictures, along half a cosine (R3GAN, table of settings)."""
    if config.probability_start is None:
        return config.probability
    over = total_drawings if config.ramp_drawings is None else config.ramp_drawings
    return cosine(config.probability_start, config.probability, drawings_seen, over)


def noise_sigma(config: NoiseConfig, drawings_seen: float) -> float:
    """Standard deviation of the instance noise (Sønderby et al. 2017, section 3.3; the decay is a choice)."""
    if config.decay == "none" or config.decay_drawings is None:
        return config.sigma_start
    if config.decay == "linear":
        return linear(config.sigma_start, 0.0, drawings_seen, config.decay_drawings)
    return config.sigma_start * math.exp2(-drawings_seen / config.decay_drawings)


def ema_halflife(config: EmaConfig, drawings_seen: float) -> float:
    """Half-life in drawings of the average after ``drawings_seen`` (StyleGAN2-ADA's and EDM2's ramp-up)."""
    if config.rampup_fraction is None:
        return config.halflife_drawings
    return min(config.halflife_drawings, config.rampup_fraction * drawings_seen)


def ema_share(config: EmaConfig, drawings_seen: float, drawings: float) -> float:
    """The share of the way to the trained weights that the average goes after ``drawings`` more; 1: all of it."""
    halflife = ema_halflife(config, drawings_seen)
    return 1.0 - 0.5 ** (drawings / halflife) if halflife > 0 else 1.0
