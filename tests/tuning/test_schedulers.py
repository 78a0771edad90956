"""What ends or changes trials, without a cluster."""

import itertools
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler

from doodle_dist.config.load import ConfigError, load_experiment
from doodle_dist.config.search import experiment_with, load_search
from doodle_dist.config.search_check import checked_space
from doodle_dist.tuning.ledger import Result, TrialRecord
from doodle_dist.tuning.schedulers import build_scheduler, check_population, repaired, report_at
from doodle_dist.tuning.trial import TRIAL

BASE = load_experiment("doodle-gan-small")


def test_trials_report_where_their_scheduler_decides() -> None:
    asha, pbt = load_search("doodle-gan-small", BASE), load_search("doodle-gan-small", BASE, scheduler="pbt")
    assert report_at(asha, "asha") == asha.rungs()
    reports = report_at(pbt, "pbt")
    assert {after - before for before, after in itertools.pairwise(reports)} == {pbt.perturb_every}
    assert reports[-1] == pbt.drawings


@pytest.mark.parametrize("earlier", [True, False])
def test_asha_stops_what_is_worse_than_earlier_trials_at_the_same_rung(earlier: bool) -> None:
    search = load_search("doodle-gan-small", BASE)
    rung = search.first_rung
    before = [TrialRecord(n, {}, [Result(rung, 10.0 + n, 0.0, {})], "stopped") for n in range(8)]
    scheduler = build_scheduler("asha", search, search.axes(), BASE, before if earlier else [])
    answers = {}
    for objective in (5.0, 100.0):
        trial = SimpleNamespace(trial_id=f"t{objective}")
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
            build_scheduler("asha", search, search.axes(), BASE, known),
            SimpleNamespace(trial_id="t"),
        )
        scheduler.on_trial_add(None, trial)
        result = {"drawings_seen": search.first_rung, search.objective: 100.0}
        answers.append(scheduler.on_trial_result(None, trial, result))
    assert answers == [TrialScheduler.CONTINUE, TrialScheduler.STOP]


def test_a_mutated_point_is_put_back_into_its_space() -> None:
    search = load_search("doodle-gan-small", BASE)
    space = checked_space(search, BASE)
    point = {TRIAL: 3} | space.sampled(BASE, 0, 1)
    wild = point | {
        "optim.generator.lr": 5.0,
        "gan.adversarial.r1_gamma_start": 1.5,
        "gan.noise.sigma_start": 0.1,
        "gan.noise.decay": "linear",
    }
    wild.pop("gan.noise.decay_drawings", None)
    mended = repaired(wild, space, BASE)
    assert mended[TRIAL] == 3
    assert mended["optim.generator.lr"] == space.axes[0].draw.high
    assert mended["gan.adversarial.r2_gamma_start"] == 1.5
    experiment_with(BASE, {key: value for key, value in mended.items() if key != TRIAL})


@pytest.mark.parametrize(
    ("extra", "trials", "workers", "message"),
    [
        ([], 2, 1, "takes 4 or more"),
        ([], 8, 2, "one worker each"),
        (["seed=int(1, 5)"], 8, 1, "seed can't change during a run"),
        (["model.generator.width=choice(32, 64)"], 8, 1, "can't change during a run"),
    ],
)
def test_what_a_population_cannot_do_is_refused(
    extra: list[str], trials: int, workers: int, message: str
) -> None:
    search = load_search("doodle-gan-small", BASE, scheduler="pbt", extra=extra)
    with pytest.raises(ConfigError, match=message):
        check_population(checked_space(search, BASE), trials, workers)


def test_a_population_takes_no_conditions() -> None:
    space = checked_space(load_search("doodle-gan-small", BASE, space="gan", scheduler="pbt"), BASE)
    with pytest.raises(ConfigError, match="has a condition"):
        check_population(space, 8, 1)
