"""A search's record: what is written is what is read, whatever was cut off."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from doodle_dist.config.load import load_experiment
from doodle_dist.config.search import load_search
from doodle_dist.data import filesystems, storage
from doodle_dist.data.storage_errors import StorageError
from doodle_dist.training import lease as lease_module
from doodle_dist.training.lease import Lease, LeaseLostError, acquire
from doodle_dist.tuning import ledger as ledger_module
from doodle_dist.tuning.ledger import CONFIRM, LEDGER, REQUEST, Ledger, Request, read_search
from tests.s3 import S3Server, free_port


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


def finished(folder: Path, *objectives: float) -> None:
    """A search whose trials came to these at their ends."""
    ledger = Ledger(str(folder), request())
    for number, objective in enumerate(objectives):
        ledger.trial_began(number, {})
        ledger.result(number, 400, objective, {})
        ledger.trial_ended(number, "finished")
    ledger.close()


def test_fresh_seeds_decide_between_those_that_were_confirmed(tmp_path: Path) -> None:
    finished(tmp_path, 3.0, 4.0, 5.0)
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
    finished(tmp_path, 3.0, 4.0)
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


def test_one_that_was_not_confirmed_stands_before_one_that_failed_with_another_seed(tmp_path: Path) -> None:
    finished(tmp_path, 3.0, 4.0)
    again = Ledger(str(tmp_path / CONFIRM), replace(request(trials=1), confirms=[0]))
    again.trial_began(0, {})
    again.trial_ended(0, "failed", "not finite")
    again.close()
    record = read_search(str(tmp_path))
    assert record is not None
    assert [trial.number for trial, _ in record.ranked()] == [1, 0]


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


@pytest.mark.parametrize("line", ['{"event":"began"}', '{"event":"result","trial":0,"elapsed_s":1.0}'])
def test_a_line_of_another_release_is_said(line: str, tmp_path: Path) -> None:
    Ledger(str(tmp_path), request()).close()
    with (tmp_path / LEDGER).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=rf"{LEDGER} is damaged, or of another release"):
        read_search(str(tmp_path))


# --- a store that is away, and a search that was taken over ---------------------------------------------------


class Store:
    """An S3 server that goes away and comes back, as far as this process sees."""

    def __init__(self, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server, self.monkeypatch = server, monkeypatch

    def leaves(self) -> None:
        self.monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
        filesystems.forget_filesystems()

    def is_back(self) -> None:
        self.monkeypatch.setenv("AWS_ENDPOINT_URL_S3", self.server.endpoint)
        filesystems.forget_filesystems()


@pytest.fixture
def store(s3_env: S3Server, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(ledger_module, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(ledger_module, "_INTERRUPTED_PATIENCE_S", 0.2)
    return Store(s3_env, monkeypatch)


def test_a_store_that_is_away_for_a_while_loses_nothing(store: Store, s3_bucket: str) -> None:
    uri, told = f"{s3_bucket}/search", []
    ledger = Ledger(uri, request(), warn=told.append)
    ledger.trial_began(0, {})
    ledger.trial_ended(0, "finished")
    store.leaves()
    for number in (1, 2, 3):
        ledger.trial_began(number, {})
        ledger.result(number, 100, 5.0, {})
        ledger.trial_ended(number, "stopped")
    assert len(told) == 1, "once, and tried again later only"
    assert "is unreachable; the search goes on, and its record is kept in /" in told[0]
    assert ledger.next_put > time.monotonic() + ledger_module._PUT_EVERY_S
    store.is_back()
    ledger.next_put = 0.0
    ledger.flush_if_due()
    assert told[1:] == [f"{uri}/search.jsonl is written again"]
    assert read_search(uri) == ledger.record
    ledger.trial_ended(4, "failed", "at once again")
    assert read_search(uri) == ledger.record
    ledger.close()


def test_a_store_that_stays_away_is_said_at_the_end_with_where_the_record_is(
    store: Store, s3_bucket: str
) -> None:
    ledger = Ledger(f"{s3_bucket}/search", request(), warn=lambda _: None)
    store.leaves()
    ledger.trial_began(0, {"optim.generator.lr": 1e-3})
    with pytest.raises(StorageError, match="unreachable; the search's record is in /") as error:
        ledger.close()
    kept = str(error.value).split("record is in ")[1].split(":")[0]
    assert b'"trial":0' in Path(kept).read_bytes()


@pytest.mark.parametrize("where", ["local", "s3"])
def test_who_was_taken_over_writes_no_more(where: str, tmp_path: Path, s3_bucket: str) -> None:
    uri = str(tmp_path / "search") if where == "local" else f"{s3_bucket}/search"
    mine = acquire(uri, lambda _: None)
    ledger = Ledger(uri, request(), mine)
    ledger.trial_began(0, {})
    ledger.flush()
    theirs = Lease(uri, mine.fence + 1, host="far-away", pid=4711, machine="another boot")
    storage.write_atomic(theirs.uri, lease_module._as_json(theirs))
    later = Ledger(uri, request(), theirs)
    later.trial_began(1, {})
    later.close()
    after = read_search(uri)
    assert after is not None
    assert set(after.trials) == {0, 1}
    if where == "s3":
        with pytest.raises(LeaseLostError, match="process 4711 on far-away"):
            ledger.trial_ended(0, "finished")
        with pytest.raises(LeaseLostError):
            ledger.close()
    else:  # what it goes on writing to is not the file that the other made anew
        ledger.trial_ended(0, "finished")
        ledger.close()
    assert read_search(uri) == after
    with pytest.raises(LeaseLostError):
        Ledger(uri, request(), mine)


def test_an_interruption_is_of_the_attempt_that_had_it(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path), request())
    ledger.trial_began(0, {})
    ledger.trial_ended(0, "interrupted", "the store is unreachable")
    ledger.close()
    again = Ledger(str(tmp_path), request())
    assert (again.record.trials[0].status, again.record.interruptions) == ("waiting", "")
    assert not again.record.trials[0].is_over
    again.close()
