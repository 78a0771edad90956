"""What a person and the ledger are told of a running search."""

import io
from pathlib import Path

import orjson
import pytest

from doodle_dist.tuning.trial import DRAWINGS
from tests.tuning.test_outages import _Trial, follower_of


def test_drawings_that_come_as_a_float_are_counted_whole(tmp_path: Path) -> None:
    """Ray Train's workers report numbers of one kind."""
    follower, trial = follower_of(tmp_path, 1), _Trial(0, tmp_path)
    follower.on_trial_start(0, [], trial)
    objective = follower.ledger.record.objective
    follower.on_trial_result(1, [], trial, {DRAWINGS: 18_000.0, objective: 30.0, "config": trial.config})
    assert "best 30 (trial 0, 18,000 drawings)" in follower.headline()
    (result,) = follower.ledger.record.trials[0].results
    assert isinstance(result.drawings_seen, int)


def test_a_report_that_is_known_is_passed_over_and_a_lost_one_is_not(tmp_path: Path) -> None:
    """A trial whose process starts again tells what it goes on from."""
    follower, trial = follower_of(tmp_path, 1), _Trial(0, tmp_path)
    follower.on_trial_start(0, [], trial)
    objective = follower.ledger.record.objective
    for seen in (9_000, 9_000, 18_000):
        follower.on_trial_result(1, [], trial, {DRAWINGS: seen, objective: 30.0, "config": trial.config})
    assert [one.drawings_seen for one in follower.ledger.record.trials[0].results] == [9_000, 18_000]


def test_with_json_logs_it_tells_in_lines_of_json(
    tmp_path: Path, json_lines: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    follower, trial = follower_of(tmp_path, 1), _Trial(0, tmp_path)
    follower.on_trial_start(0, [], trial)
    follower.on_trial_error(1, [], trial.failed_with(ArithmeticError("a mistake in a net")))
    follower.close()
    first, last = (orjson.loads(line)["message"] for line in json_lines.getvalue().splitlines())
    assert first == "trial 0 failed: a mistake in a net"
    assert last.startswith("1/1 trials")
    assert capsys.readouterr().err == ""
