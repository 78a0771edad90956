"""Which checkpoints a run has, and what they say of themselves. Without torch."""

from math import inf, isfinite


def rank(score: float | None, drawings_seen: float) -> tuple[float, float]:
    """What checkpoints are compared by: their score, and of equal ones the newer is better.

    None, or a score that is not finite, which a checkpoint's JSON has as null, is the worst.
    """
    return (-inf if score is None or not isfinite(score) else score), drawings_seen
