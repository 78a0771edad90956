"""What the command line does itself: an interruption, ``--debug``, and no command at all."""

import sys
from typing import NoReturn

import pytest
from ray.exceptions import RayTaskError

from doodle_dist import cli
from doodle_dist.errors import WorkFailedError


def names_that_raise(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on `config list` fails with ``error``."""

    def preset_names() -> NoReturn:
        raise error

    monkeypatch.setattr("doodle_dist.config.load.preset_names", preset_names)


def test_who_interrupts_hears_that_the_same_command_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names_that_raise(KeyboardInterrupt(), monkeypatch)
    with pytest.raises(SystemExit) as stop:
        cli.main(["config", "list"])
    assert stop.value.code == 130
    assert capsys.readouterr().err == "doodle-dist: stopped; run the same command to go on\n"


@pytest.mark.parametrize("words", [["--debug", "config", "list"], ["config", "list", "--debug"]])
def test_debug_shows_tracebacks_wherever_it_stands(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    names_that_raise(RuntimeError("unforeseen"), monkeypatch)
    with pytest.raises(RuntimeError, match="unforeseen"):
        cli.main(words)


def test_a_job_can_be_debugged_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "no-such-preset", "--debug"])
    with pytest.raises(ValueError, match="preset 'no-such-preset' is unknown"):
        cli.train_main()


def test_without_debug_what_nobody_foresaw_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names_that_raise(RuntimeError("unforeseen"), monkeypatch)
    with pytest.raises(SystemExit) as stop:
        cli.main(["config", "list"])
    assert stop.value.code == 1
    assert capsys.readouterr().err == "doodle-dist: RuntimeError: unforeseen (--debug shows where)\n"


@pytest.mark.parametrize("words", [[], ["data"]])
def test_no_command_is_answered_with_the_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("Usage: doodle-dist")


@pytest.mark.parametrize("wrapped", [False, True], ids=["here", "in a task of Ray's"])
def test_work_that_failed_is_its_own_line_wherever_it_was_done(
    wrapped: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error: Exception = WorkFailedError("a loss is not finite at step 3")
    if wrapped:
        error = RayTaskError("work", "a long traceback", error).as_instanceof_cause()
    names_that_raise(error, monkeypatch)
    with pytest.raises(SystemExit) as stop:
        cli.main(["config", "list"])
    assert stop.value.code == 1
    assert capsys.readouterr().err == "doodle-dist: a loss is not finite at step 3\n"
