"""Which of a run's checkpoints is the best."""

import pytest

from doodle_dist.run.checkpoints import rank


@pytest.mark.parametrize("score", [None, float("nan"), float("inf"), float("-inf")])
def test_no_score_and_one_that_is_not_finite_are_the_worst_and_of_equals_the_newer_is_better(
    score: float | None,
) -> None:
    assert rank(score, 2000) < rank(-1e9, 1000)
    assert rank(score, 1000) < rank(None, 2000)
    assert rank(0.5, 1000) < rank(0.5, 2000) < rank(0.6, 1000)
