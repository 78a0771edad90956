"""Optuna's sampler as Ray Tune asks it."""

import warnings

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from doodle_dist.config.load import load_experiment
from doodle_dist.config.search import experiment_with, load_search
from doodle_dist.config.search_check import checked_space
from doodle_dist.tuning.ledger import Result, TrialRecord
from doodle_dist.tuning.tpe import TpeSearcher
from doodle_dist.tuning.trial import POINT, TRIAL, settings_of

BASE = load_experiment("doodle-gan-small")
SEARCH = load_search("doodle-gan-small", BASE)
SPACE = checked_space(SEARCH, BASE)


def searcher(
    earlier: list[TrialRecord], unfinished: list[TrialRecord], first: int, trials: int
) -> TpeSearcher:
    return TpeSearcher(
        SPACE, BASE, objective=SEARCH.objective, mode="min", seed=0, unfinished=unfinished, earlier=earlier,
        numbers=range(first, trials),
    )  # fmt: skip


def points(found: TpeSearcher) -> list[dict]:
    asked = []
    while (answer := found.suggest(f"id-{len(asked)}")) != Searcher.FINISHED:
        assert isinstance(answer, dict)
        asked.append(answer[POINT])
        found.on_trial_complete(f"id-{len(asked) - 1}", {SEARCH.objective: 1.0})
    return asked


def test_every_suggestion_is_a_valid_point_and_each_number_comes_once() -> None:
    asked = points(searcher([], [], 0, 30))
    assert [point[TRIAL] for point in asked] == list(range(30))
    for point in asked:
        experiment_with(BASE, settings_of(point))


def test_trials_that_were_begun_come_first_and_as_they_were() -> None:
    begun = TrialRecord(1, SPACE.sampled(BASE, 5, 1))
    over = TrialRecord(0, SPACE.sampled(BASE, 5, 0), [Result(100, 3.0, 0.0, {})], "finished")
    asked = points(searcher([over], [begun], 2, 5))
    assert [point[TRIAL] for point in asked] == [1, 2, 3, 4]
    assert settings_of(asked[0]) == begun.settings


@pytest.mark.slow
def test_it_looks_where_earlier_trials_were_good() -> None:
    def score(settings: dict) -> float:
        return abs(settings["optim.generator.lr"] - 1e-3)

    earlier = [
        TrialRecord(n, point, [Result(100, score(point), 0.0, point)], "finished")
        for n, point in enumerate(SPACE.sampled(BASE, 0, k) for k in range(60))
    ]
    found = sum(score(point) for point in points(searcher(earlier, [], 60, 80))) / 20
    chance = sum(score(SPACE.sampled(BASE, 9, k)) for k in range(200)) / 200
    assert found < chance / 2


def test_a_trial_that_failed_says_nothing() -> None:
    found = searcher([], [], 0, 2)
    found.suggest("a")
    found.on_trial_complete("a", None, error=True)
    assert found.study.best_trials == []


def test_what_a_trial_that_was_under_way_comes_to_is_told_to_the_sampler() -> None:
    begun = [TrialRecord(k, SPACE.sampled(BASE, 5, k), [Result(100, 9.0, 0.0, {})]) for k in range(3)]
    found = searcher([], begun, 3, 4)
    for k in range(3):
        answer = found.suggest(f"id-{k}")
        assert isinstance(answer, dict)
    found.on_trial_complete("id-0", {SEARCH.objective: 2.0})
    found.on_trial_complete("id-1", None, error=True)
    told = {trial.params["optim.generator.lr"]: (trial.state, trial.value) for trial in found.study.trials}
    assert told == {
        begun[0].settings["optim.generator.lr"]: (TrialState.COMPLETE, 2.0),
        begun[1].settings["optim.generator.lr"]: (TrialState.FAIL, None),
        begun[2].settings["optim.generator.lr"]: (TrialState.RUNNING, None),
    }


def test_new_points_after_a_restart_are_not_those_that_are_under_way() -> None:
    first = searcher([], [], 0, 3)
    begun = [
        TrialRecord(answer[POINT][TRIAL], settings_of(answer[POINT]))
        for answer in (first.suggest(f"id-{k}") for k in range(3))
        if isinstance(answer, dict)
    ]
    again = points(searcher([], begun, 3, 6))
    assert [settings_of(point) for point in again[:3]] == [trial.settings for trial in begun]
    assert all(settings_of(point) not in [trial.settings for trial in begun] for point in again[3:])


def test_what_is_experimental_of_optuna_s_sampler_is_not_a_person_s_to_read() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        searcher([], [], 0, 1)
    assert [str(warning.message) for warning in told] == []


def test_an_earlier_trial_that_failed_says_nothing_either() -> None:
    failed = TrialRecord(0, SPACE.sampled(BASE, 5, 0), [Result(100, 3.0, 0.0, {})], "failed", "not finite")
    assert searcher([failed], [], 1, 2).study.trials == []
