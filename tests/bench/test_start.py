"""The bench of the start: its clock stops at the first loss, and what is over its bar is said to be."""

import sys
import time
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from doodle_dist.bench import start
from doodle_dist.bench.machine import Machine
from doodle_dist.bench.start import StartBench, help_seconds
from doodle_dist.errors import WorkFailedError


def test_the_first_step_is_dated_by_the_first_loss(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("speed/drawings_per_s", 1.0, 64, walltime=1000.0)
        writer.add_scalar("loss/critic", 0.5, 64, walltime=1001.5)
        writer.add_scalar("loss/critic", 0.4, 128, walltime=1003.0)
    (file,) = tmp_path.iterdir()
    assert start._first_scalar_time(file) == 1001.5
    with SummaryWriter(str(tmp_path / "none")) as writer:
        writer.add_scalar("speed/drawings_per_s", 1.0, 64)
    (file,) = (tmp_path / "none").iterdir()
    with pytest.raises(AssertionError, match="holds no loss"):
        start._first_scalar_time(file)


def test_what_a_command_that_fails_said_is_said() -> None:
    with pytest.raises(WorkFailedError, match=r"^the disk is full \(of -c "):
        start._run([sys.executable, "-c", "import sys; sys.exit('the disk is full')"])


def test_a_command_is_timed_from_its_beginning_to_its_end() -> None:
    began = time.time()
    seconds = help_seconds()
    assert 0 < seconds <= time.time() - began


@pytest.mark.parametrize(
    ("first_step_s", "over_floor_s", "missed"),
    [(11.0, -3.0, 0), (15.9, 1.9, 0), (16.5, 2.5, 1), (15.9, 2.9, 1), (16.5, 1.9, 0)],
)
def test_a_start_may_take_twelve_seconds_or_two_over_the_floor(
    first_step_s: float,
    over_floor_s: float,
    missed: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = StartBench(
        workers=2, rounds=1, help_s=0.1, first_step_s=first_step_s, floor_s=14.0, over_floor_s=over_floor_s,
        machine=Machine.here(),
    )  # fmt: skip
    monkeypatch.setattr(start, "run", lambda workers, rounds: found)
    start.main(2, 1, tmp_path / "results" / "start.json")
    assert capsys.readouterr().out.count("missed") == missed
    written = (tmp_path / "results" / "start.json").read_text()
    assert StartBench.model_validate_json(written) == found
