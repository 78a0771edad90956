"""What ends or changes trials, without a cluster."""

import itertools
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler

from doodle_dist.config.load import load_experiment
from doodle_dist.config.search import load_search
from doodle_dist.tuning.ledger import Result, TrialRecord, trial_name
from doodle_dist.tuning.schedulers import build_scheduler, report_at

BASE = load_experiment("doodle-gan-small")


class trial_of(SimpleNamespace):  # noqa: N801
    """A trial of Ray Tune's, as far as a scheduler looks at it."""

    def __init__(self, number: int) -> None:
        super().__init__(trial_id=f"id-{number}", name=trial_name(number))

    def __str__(self) -> str:
        return self.name


def test_trials_report_where_their_scheduler_decides() -> None:
    asha, pbt = load_search("doodle-gan-small", BASE), load_search("doodle-gan-small", BASE, scheduler="pbt")
    assert report_at(asha) == asha.rungs()
    reports = report_at(pbt)
    assert {after - before for before, after in itertools.pairwise(reports)} == {pbt.perturb_every}
    assert reports[-1] == pbt.drawings


@pytest.mark.parametrize("earlier", [True, False])
def test_asha_stops_what_is_worse_than_earlier_trials_at_the_same_rung(earlier: bool) -> None:
    search = load_search("doodle-gan-small", BASE)
    rung = search.first_rung
    before = [TrialRecord(n, {}, [Result(rung, 10.0 + n, 0.0, {})], "stopped") for n in range(8)]
    scheduler = build_scheduler(search, before if earlier else [])
    answers = {}
    for objective in (5.0, 100.0):
        trial = trial_of(100 + int(objective))
        scheduler.on_trial_add(None, trial)
        result = {"drawings_seen": rung, search.objective: objective}
        answers[objective] = scheduler.on_trial_result(None, trial, result)
    assert answers[5.0] == TrialScheduler.CONTINUE
    # Alone on its rung, the second is measured against the first.
    assert answers[100.0] == TrialScheduler.STOP


def test_asha_lets_a_first_bad_trial_pass_only_where_nothing_is_known() -> None:
    search = load_search("doodle-gan-small", BASE)
    before = [TrialRecord(n, {}, [Result(search.first_rung, 10.0 + n, 0.0, {})], "stopped") for n in range(8)]
    answers = []
    for known in ([], before):
        scheduler, trial = (
            build_scheduler(search, known),
            trial_of(100),
        )
        scheduler.on_trial_add(None, trial)
        result = {"drawings_seen": search.first_rung, search.objective: 100.0}
        answers.append(scheduler.on_trial_result(None, trial, result))
    assert answers == [TrialScheduler.CONTINUE, TrialScheduler.STOP]


@pytest.mark.parametrize("overshoot", [0, 48])
def test_asha_lets_a_trial_at_its_end_end_by_itself(overshoot: int) -> None:
    search = load_search("doodle-gan-small", BASE)
    before = [TrialRecord(n, {}, [Result(search.drawings, 1.0 + n, 0.0, {})], "finished") for n in range(8)]
    scheduler, trial = build_scheduler(search, before), trial_of(100)
    scheduler.on_trial_add(None, trial)
    result = {"drawings_seen": search.drawings + overshoot, search.objective: 100.0}
    assert scheduler.on_trial_result(None, trial, result) == TrialScheduler.CONTINUE


def test_what_a_trial_reported_before_a_search_went_on_counts_once() -> None:
    search = load_search("doodle-gan-small", BASE)
    rung = search.first_rung
    begun = [TrialRecord(n, {}, [Result(rung, 10.0 + n, 0.0, {})], "running") for n in range(8)]
    scheduler, worst = build_scheduler(search, begun), trial_of(7)
    lowest = scheduler._brackets[0]._rungs[-1][1]  # type: ignore[attr-defined]
    assert len(lowest) == 8
    scheduler.on_trial_add(None, worst)
    again = {"drawings_seen": rung, search.objective: 17.0}
    assert scheduler.on_trial_result(None, worst, again) == TrialScheduler.CONTINUE, "it had passed"
    end = {"drawings_seen": search.drawings, search.objective: 1.0}
    scheduler.on_trial_result(None, worst, end)
    scheduler.on_trial_complete(None, worst, end)
    assert sorted(lowest.values()) == [-17.0, -16.0, -15.0, -14.0, -13.0, -12.0, -11.0, -10.0]
