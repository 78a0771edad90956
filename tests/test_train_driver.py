"""What the driver prints of a run."""

import pytest

from doodle_dist.train import TrainResult, print_result


def test_a_figure_that_was_not_finite_is_printed_as_that(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(TrainResult("run", {"val/top1": 0.25, "val/loss": None}, "run/checkpoint"), as_json=False)
    figures = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert figures["val/top1"] == "0.2500"
    assert figures["val/loss"] == "not finite"
