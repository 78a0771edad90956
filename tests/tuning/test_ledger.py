"""A search's record: what is written is what is read, whatever was cut off."""

from dataclasses import replace
from pathlib import Path

import pytest

from doodle_dist.config.load import load_experiment
from doodle_dist.config.search import load_search
from doodle_dist.tuning.ledger import CONFIRM, LEDGER, REQUEST, Ledger, Request, read_search


def request(mode: str = "min", trials: int = 8) -> Request:
    base = load_experiment("doodle-gan-small")
    search = load_search("doodle-gan-small", base).model_copy(update={"mode": mode})
    return Request(base.model_dump(mode="json"), search.model_dump(mode="json"), trials, "asha", "random", 0)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path), request())
    ledger.trial_began(3, {"optim.generator.lr": 1e-3})
    ledger.result(3, 100, 5.0, {"optim.generator.lr": 1e-3})
    ledger.result(3, 200, 4.0, {"optim.generator.lr": 1e-3}, checkpoint="here")
    ledger.trial_ended(3, "finished")
    ledger.trial_began(4, {})
    ledger.trial_ended(4, "failed", "out of memory")
    ledger.close()
    record = read_search(str(tmp_path))
    assert record is not None
    assert record == ledger.record
    assert record.trials[3].status == "finished"
    assert [result.objective for result in record.trials[3].results] == [5.0, 4.0]
    assert record.trials[4].reason == "out of memory"
    assert record.request == request()


def test_a_line_cut_short_is_left_out_and_the_next_attempt_goes_on_behind_it(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path), request())
    ledger.trial_began(0, {})
    ledger.result(0, 100, 5.0, {})
    ledger.close()
    with (tmp_path / LEDGER).open("ab") as file:
        file.write(b'{"event":"result","trial":0,"drawi')
    again = Ledger(str(tmp_path), request())
    assert again.record.trials[0].drawings_seen == 100
    again.result(0, 200, 4.0, {})
    again.close()
    record = read_search(str(tmp_path))
    assert record is not None
    assert [result.drawings_seen for result in record.trials[0].results] == [100, 200]


def test_time_goes_on_where_it_was_left(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path), request())
    ledger.began -= 1000.0  # as if it had run so long
    ledger.trial_began(0, {})
    ledger.close()
    again = Ledger(str(tmp_path), request())
    again.result(0, 10, 1.0, {})
    assert again.record.trials[0].results[0].elapsed_s == pytest.approx(1000, abs=60)
    again.close()


@pytest.mark.parametrize(("mode", "best"), [("min", 1), ("max", 2)])
def test_the_best_is_the_best_of_those_that_got_furthest(tmp_path: Path, mode: str, best: int) -> None:
    ledger = Ledger(str(tmp_path), request(mode))
    for number, seen, objective in [
        (0, 2000, 0.0),
        (1, 18048, 3.0),
        (2, 18016, 4.0),
        (3, 2000, 9.0),
        (4, 18016, None),
    ]:
        ledger.trial_began(number, {})
        ledger.result(number, seen, objective, {})
    assert ledger.record.best is not None
    assert ledger.record.best[0].number == best
    assert {trial.number for trial, _ in ledger.record.ranked()} == {0, 1, 2, 3}
    ledger.close()


def test_fresh_seeds_decide_between_those_that_were_confirmed(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path), request())
    for number, objective in enumerate((3.0, 4.0, 5.0)):
        ledger.trial_began(number, {})
        ledger.result(number, 400, objective, {})
        ledger.trial_ended(number, "finished")
    ledger.close()
    again = Ledger(str(tmp_path / CONFIRM), replace(request(trials=5), confirms=[0, 0, 1, 1, 2]))
    for number, objective in enumerate((9.0, 7.0, 6.0, 7.0)):
        again.trial_began(number, {"seed": number})
        again.result(number, 400, objective, {"seed": number})
        again.trial_ended(number, "finished")
    again.close()
    record = read_search(str(tmp_path))
    assert record is not None
    assert record.confirmations()[0] == (8.0, pytest.approx(2**0.5))
    # Trial 2 is not through with its seed; of the others the means decide, and they stand before it.
    assert [trial.number for trial, _ in record.ranked()] == [1, 0, 2]
    assert [trial.number for trial, _ in record.by_objective()] == [0, 1, 2]


def test_a_finalist_that_fails_with_another_seed_is_no_best(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path), request())
    for number, objective in enumerate((3.0, 4.0)):
        ledger.trial_began(number, {})
        ledger.result(number, 400, objective, {})
        ledger.trial_ended(number, "finished")
    ledger.close()
    again = Ledger(str(tmp_path / CONFIRM), replace(request(trials=2), confirms=[0, 1]))
    again.trial_began(0, {})
    again.trial_ended(0, "failed", "not finite")
    again.trial_began(1, {})
    again.result(1, 400, 50.0, {})
    again.trial_ended(1, "finished")
    again.close()
    record = read_search(str(tmp_path))
    assert record is not None
    assert record.best is not None
    assert record.best[0].number == 1


def test_drawings_that_were_copied_count_once(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path), request())
    ledger.result(0, 100, 1.0, {})
    ledger.result(0, 200, 1.0, {})
    ledger.result(1, 100, 2.0, {})
    ledger.result(1, 300, 0.5, {}, copied_from=0, copied_at=200)
    assert ledger.record.drawings_seen == 200 + 100 + 100
    ledger.close()


def test_no_search_is_none_and_a_damaged_one_is_said(tmp_path: Path) -> None:
    assert read_search(str(tmp_path)) is None
    (tmp_path / REQUEST).write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        read_search(str(tmp_path))
