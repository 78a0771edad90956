"""Who was trained from whom, by a record whose answer is known, and a search's best so far."""

import itertools

import pytest

from doodle_dist.config.search_space import Settings
from doodle_dist.tuning.courses import Stretch, best_so_far, copies, lineage
from doodle_dist.tuning.ledger import Result, SearchRecord, TrialRecord, increments
from tests.tuning.records import asha, pbt, request


def lr(value: float) -> Settings:
    return {"optim.generator.lr": value}


def made_up() -> SearchRecord:
    """Trial 1 copies 0 at 200; 0 then copies 2 at 300, and 2 copies 1 at 400."""
    record = SearchRecord("/runs/search", request("pbt", 4))
    results = {
        0: [
            Result(100, 9.0, 1, lr(0.1)),
            Result(200, 8.0, 4, lr(0.1)),
            Result(300, 9.5, 7, lr(0.1)),
            Result(400, 5.0, 10, lr(0.24), copied_from=2, copied_at=300),
        ],
        1: [
            Result(100, 20.0, 2, lr(0.5)),
            Result(200, 21.0, 5, lr(0.5)),
            Result(300, 6.0, 8, lr(0.12), copied_from=0, copied_at=200),
            Result(400, 4.0, 11, lr(0.12)),
        ],
        2: [
            Result(100, 9.0, 3, lr(0.2)),
            Result(200, 8.5, 6, lr(0.2)),
            Result(300, 7.0, 9, lr(0.2)),
            Result(400, 8.0, 12, lr(0.2)),
            Result(500, 1.0, 13, lr(0.15), copied_from=1, copied_at=400),
        ],
    }
    for number, reported in results.items():
        record.trials[number] = TrialRecord(number, reported[0].settings, reported, "finished")
    record.trials[3] = TrialRecord(3, lr(0.3), status="failed", reason="nan")
    return record


def test_a_lineage_follows_copies_back_to_the_first_drawing() -> None:
    record = made_up()
    assert lineage(record, 2) == [
        Stretch(0, 200, 0, lr(0.1)),
        Stretch(200, 400, 1, lr(0.12)),
        Stretch(400, 500, 2, lr(0.15)),
    ]
    assert lineage(record, 0) == [Stretch(0, 300, 2, lr(0.2)), Stretch(300, 400, 0, lr(0.24))]
    assert lineage(record, 3) == []
    assert [(trial.number, trial.results[place].copied_from) for trial, place in copies(record)] == [
        (1, 0),
        (0, 2),
        (2, 1),
    ]


def test_a_donor_that_was_overwritten_later_is_followed_as_it_was() -> None:
    record = made_up()
    # Trial 0 goes through 200 drawings again, from another model, after trial 1 has copied it.
    record.trials[0].results.append(Result(200, 3.0, 14, lr(0.9), copied_from=2, copied_at=100))
    assert lineage(record, 1)[0] == Stretch(0, 200, 0, lr(0.1))
    # Had it been before, that would have been the model that was copied.
    record.trials[0].results[-1] = Result(200, 3.0, 6.5, lr(0.9), copied_from=2, copied_at=100)
    assert lineage(record, 1)[:2] == [Stretch(0, 100, 2, lr(0.2)), Stretch(100, 200, 0, lr(0.9))]


def test_a_trial_that_went_on_after_a_crash_is_one_stretch() -> None:
    record = SearchRecord("/runs/search", request("asha", 1))
    reports = [Result(seen, 1.0, at, lr(0.1)) for at, seen in enumerate((100, 200, 200, 300))]
    record.trials[0] = TrialRecord(0, lr(0.1), reports, "finished")
    assert lineage(record, 0) == [Stretch(0, 300, 0, lr(0.1))]
    assert increments(record.trials[0]) == [100, 100, 0, 100]


@pytest.mark.parametrize("number", range(8))
def test_every_lineage_of_a_population_is_a_whole_way(number: int) -> None:
    record = pbt()
    way = lineage(record, number)
    assert way[0].drawings_from == 0
    assert way[-1].drawings_to == record.trials[number].drawings_seen
    assert way[-1].trial == number
    assert all(one.drawings_to == after.drawings_from for one, after in itertools.pairwise(way))


@pytest.mark.parametrize("record", [asha(), pbt(), made_up()], ids=["asha", "pbt", "made up"])
def test_the_best_so_far_only_gets_better_and_counts_every_drawing(record: SearchRecord) -> None:
    moments = best_so_far(record)
    reported = [r.objective for t in record.trials.values() for r in t.results if r.objective is not None]
    bests = [moment.best for moment in moments]
    assert bests == sorted(bests, reverse=True)
    assert bests[-1] == min(reported)
    assert moments[-1].drawings_trained == record.drawings_seen
    assert [m.elapsed_s for m in moments] == sorted(m.elapsed_s for m in moments)


def test_where_high_is_good_the_best_is_the_highest() -> None:
    record = SearchRecord("/runs/search", request("asha", 2, "classifier-small"))
    for number, accuracies in enumerate(([None, 0.4, 0.3], [0.2, 0.1, 0.6])):
        reports = [Result(100 * (k + 1), a, 2.0 * k + number, {}) for k, a in enumerate(accuracies)]
        record.trials[number] = TrialRecord(number, {}, reports, "finished")
    moments = best_so_far(record)
    assert [moment.best for moment in moments] == [0.2, 0.4, 0.4, 0.4, 0.6]
    assert moments[0].drawings_trained == 200, "a report without an objective was trained as well"
