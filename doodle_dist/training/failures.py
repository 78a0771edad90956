"""Named failures of adversarial training, found in the figures of a run's log.

The signs are those that practitioners watch for: the critic's loss goes to zero, gradients explode, the
critic's loss jumps about, the generator's loss falls steadily because it fools the critic with garbage.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean, pstdev

from doodle_dist.config.gan import FailuresConfig

Moment = Mapping[str, float]  # a log's figures by name, reduced over ranks

EXCESS = "critic/loss_above_least"
REAL_READ, FAKE_READ = "critic/accuracy_on_real", "critic/accuracy_on_fake"
CRITIC_LOSS, GENERATOR_LOSS = "loss/critic", "loss/generator"
NORMS = ("optim/gradient_norm_max_critic", "optim/gradient_norm_max_generator")
_REMEMBERED = (EXCESS, REAL_READ, FAKE_READ, CRITIC_LOSS, GENERATOR_LOSS, *NORMS)


def _column(history: Sequence[Moment], name: str, config: FailuresConfig) -> list[float]:
    """The last window of a figure; empty where there isn't a whole one."""
    values = [moment[name] for moment in history[-config.window :] if name in moment]
    return values if len(values) == config.window else []


def _critic_loss_zero(history: Sequence[Moment], config: FailuresConfig) -> str | None:
    values = _column(history, EXCESS, config)
    if not values or max(values) > config.critic_loss_excess:
        return None
    return f"the critic's loss is {values[-1]:.2g} above the least it could be: nothing is left to learn from"


def _critic_too_strong(history: Sequence[Moment], config: FailuresConfig) -> str | None:
    values = _column(history, REAL_READ, config) + _column(history, FAKE_READ, config)
    if not values or min(values) < config.critic_accuracy:
        return None
    return f"the critic tells {min(values):.1%} or more of real and of generated pictures apart"


def _gradient_norm(history: Sequence[Moment], config: FailuresConfig) -> str | None:
    for name in NORMS:
        norm = history[-1].get(name, 0.0)
        if norm > config.gradient_norm:
            return f"a gradient of the {name.rpartition('_')[2]} had norm {norm:.3g}"
    return None


def _critic_loss_variance(history: Sequence[Moment], config: FailuresConfig) -> str | None:
    values = _column(history, CRITIC_LOSS, config)
    if not values or not all(map(math.isfinite, values)):
        return None
    mean, spread = fmean(values), pstdev(values)
    if spread <= config.critic_loss_spread * abs(mean):
        return None
    return f"the critic's loss varies by {spread:.3g} about a mean of {mean:.3g}"


def _generator_loss_falling(history: Sequence[Moment], config: FailuresConfig) -> str | None:
    values = _column(history, GENERATOR_LOSS, config)
    if not values or any(later >= earlier for earlier, later in pairwise(values)):
        return None
    first, last = values[0], values[-1]
    if first - last < config.generator_loss_fall * max(abs(first), abs(last)):
        return None
    return f"the generator's loss fell at each log, from {first:.3g} to {last:.3g}: look whether it makes garbage"


DETECTORS: dict[str, Callable[[Sequence[Moment], FailuresConfig], str | None]] = {
    "critic-loss-zero": _critic_loss_zero,
    "critic-too-strong": _critic_too_strong,
    "gradient-norm": _gradient_norm,
    "critic-loss-variance": _critic_loss_variance,
    "generator-loss-falling": _generator_loss_falling,
}


class FailureWatch:
    """Looks back over a window of logs. Its memory belongs to a run's state."""

    def __init__(self, config: FailuresConfig) -> None:
        self.config = config
        self.history: list[dict[str, float]] = []

    def look(self, figures: Moment) -> dict[str, str]:
        """Add a log's figures; the failures that show now, each with a sentence."""
        self.history.append({name: figures[name] for name in _REMEMBERED if name in figures})
        del self.history[: -self.config.window]
        found = {name: detect(self.history, self.config) for name, detect in DETECTORS.items()}
        return {name: said for name, said in found.items() if said is not None}
