"""Importance: the one axis that matters is found, wherever it stands and however few trials have it."""

import math
import random
from dataclasses import replace

import pytest

from doodle_dist.config.search_space import Settings
from doodle_dist.tuning.importance import common_drawings, importance_of
from doodle_dist.tuning.ledger import Result, SearchRecord, TrialRecord
from tests.tuning.records import asha, base_of, pbt, request


def record_of(objectives: dict[int, float], settings: dict[int, Settings], preset: str) -> SearchRecord:
    record = SearchRecord("/runs/search", request("asha", len(settings), preset))
    for number, point in settings.items():
        results = [Result(1_250, objectives[number], float(number), point)] if number in objectives else []
        record.trials[number] = TrialRecord(number, point, results, "stopped")
    return record


def points(trials: int, preset: str = "doodle-gan-small") -> dict[int, Settings]:
    empty = SearchRecord("/runs/search", request("asha", trials, preset))
    base = base_of(empty)
    space = empty.request.config.axes().possible(base)
    return {number: space.sampled(base, 3, number) for number in range(trials)}


@pytest.mark.parametrize("axis", ["optim.generator.lr", "optim.critic.lr", "gan.adversarial.r1_gamma_start"])
def test_the_axis_that_matters_is_found(axis: str) -> None:
    record = asha(matters=axis)
    shares = importance_of(record, base_of(record)).shares
    assert sum(shares.values()) == pytest.approx(1)
    assert next(iter(shares)) == axis == max(shares, key=lambda key: shares[key])
    assert shares[axis] > 0.5
    assert "gan.adversarial.r2_gamma_start" not in shares, "it follows an axis, and is none"


@pytest.mark.parametrize("axis", ["gan.noise.decay_drawings", "gan.noise.decay", "gan.noise.sigma_start"])
def test_an_axis_with_a_condition_is_judged_among_the_trials_that_have_it(axis: str) -> None:
    settings, rng = points(128), random.Random(4)
    order = {"gan.noise.decay": {"none": 2, "linear": 1, "exponential": 0}}.get(axis)
    worst = {"gan.noise.decay_drawings": 30_000.0, "gan.noise.decay": 2.0}.get(axis, 1.0)

    def objective(point: Settings) -> float:
        value = point.get(axis, worst)
        return float(order[str(value)] if order and axis in point else value) * (1 + 0.01 * rng.random())

    record = record_of(
        {number: objective(point) for number, point in settings.items()}, settings, "doodle-gan-small"
    )
    shares = importance_of(record, base_of(record)).shares
    # Whether the length of a decay is there at all is the decay's doing, and whether that is, the noise's.
    family = [key for key in shares if key.startswith("gan.noise.")]
    assert sum(shares[key] for key in family) > 0.7
    assert shares[axis] > max(share for key, share in shares.items() if key not in family)


def test_high_is_good_where_the_search_says_so() -> None:
    """What makes trials bad is another axis than what makes them good: only one direction finds the latter."""
    settings = points(64, "classifier-small")
    good, bad = "optim.classifier.lr", "optim.classifier.weight_decay"
    spoiled = set(sorted(settings, key=lambda number: settings[number][bad])[:20])
    objectives = {
        number: -10.0 - number / 100 if number in spoiled else -abs(float(point[good]) - 1e-3)
        for number, point in settings.items()
    }
    record = record_of(objectives, settings, "classifier-small")
    assert record.sign > 0
    assert next(iter(importance_of(record, base_of(record)).shares)) == good
    low = replace(record.request, search=record.request.search | {"mode": "min"})
    record = SearchRecord(record.uri, low, record.trials)
    assert next(iter(importance_of(record, base_of(record)).shares)) == bad


def test_trials_are_compared_where_all_of_them_got_to() -> None:
    record = asha()
    assert common_drawings(record) == record.request.config.first_rung
    found = importance_of(record, base_of(record))
    assert found.drawings == 1_250
    for trial in record.trials.values():
        trial.results = [
            one if one.drawings_seen == 1_250 else replace(one, objective=1e6 + trial.number)
            for one in trial.results
        ]
    assert importance_of(record, base_of(record)) == found, "what only some trials got to says nothing of all"


def test_a_trial_whose_larger_batches_report_later_is_compared_at_the_same_rung() -> None:
    """Of batches of 64 and 512 the first rung's reports come at 1,280 and 1,536 drawings."""
    record = asha()
    for number, trial in record.trials.items():
        batch = 512 if number % 2 else 64
        trial.results = [
            replace(one, drawings_seen=math.ceil(one.drawings_seen / batch) * batch) for one in trial.results
        ]
    assert importance_of(record, base_of(record)) == importance_of(asha(), base_of(record))


def test_it_says_why_there_is_none() -> None:
    few = asha(8)
    few.trials[0].results = []
    assert importance_of(few, base_of(few)).shares == {}
    assert "7 trials" in importance_of(few, base_of(few)).why_none
    nothing = asha(0)
    assert "0 trials" in importance_of(nothing, base_of(nothing)).why_none
    population = pbt()
    assert "population" in importance_of(population, base_of(population)).why_none
    settings = points(20)
    same = record_of(dict.fromkeys(settings, 1.0), settings, "doodle-gan-small")
    assert "same objective" in importance_of(same, base_of(same)).why_none
