"""What a person and the ledger are told of a running search."""

import io
from pathlib import Path

import orjson
import pytest

from doodle_dist.tuning.trial import CHECKPOINT, DRAWINGS
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
    told = [
        (9_000, 30.0, ""),
        (9_000, 30.0, ""),
        (18_000, None, ""),  # saved in haste, and not judged
        (18_000, 20.0, ""),
        (9_000, 30.0, ""),
        (18_000, 20.0, "elsewhere"),  # trained again: of the other checkpoint nothing may be left
    ]
    for seen, found, where in told:
        result = {DRAWINGS: seen, objective: found, CHECKPOINT: where, "config": trial.config}
        follower.on_trial_result(1, [], trial, result)
    results = follower.ledger.record.trials[0].results
    assert [(one.drawings_seen, one.objective, one.checkpoint) for one in results] == [
        told[k] for k in (0, 2, 3, 5)
    ]


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
