"""Which of a run's checkpoints is the best."""

import pytest

from doodle_dist.run.checkpoints import standing


@pytest.mark.parametrize("score", [None, float("nan"), float("inf"), float("-inf")])
def test_no_score_and_one_that_is_not_finite_are_the_worst_and_of_equals_the_newer_is_better(
    score: float | None,
) -> None:
    assert standing(score, 2000) < standing(-1e9, 1000)
    assert standing(score, 1000) < standing(None, 2000)
    assert standing(0.5, 1000) < standing(0.5, 2000) < standing(0.6, 1000)
