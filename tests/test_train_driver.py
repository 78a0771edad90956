"""The driver's judgement of what Ray Train takes for the end of a run, and how it is asked to stop."""

import os
import pty
import signal
import sys
from pathlib import Path

import pytest
from ray.exceptions import RayActorError
from ray.train import ControllerError

from doodle_dist.train import asked_to_stop, died_as_it_began


def test_a_worker_that_died_as_it_began_is_worth_another_start_and_other_ends_are_not() -> None:
    assert died_as_it_began(ControllerError(RayActorError()))
    assert not died_as_it_began(ControllerError(ValueError("a mistake")))
    assert not died_as_it_began(RuntimeError("a mistake"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_and_the_second_interrupts(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with asked_to_stop() as asked:
        assert not asked.is_set()
        signal.raise_signal(number)
        assert asked.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) == before


def test_under_nohup_a_terminal_that_closes_asks_for_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with asked_to_stop() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert not asked.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


_WAITS = """
import sys, traceback
from pathlib import Path
from doodle_dist.train import asked_to_stop
try:
    with asked_to_stop() as asked:
        print("ready", flush=True)
        asked.wait(60)
        print("nobody reads this any more", flush=True)
        print("nor this", file=sys.stderr, flush=True)
        Path(sys.argv[1]).write_text("saved" if asked.is_set() else "not asked")
except BaseException:
    Path(sys.argv[1]).write_text(traceback.format_exc())
"""


def test_a_terminal_that_closes_asks_and_what_is_said_after_it_goes_nowhere(tmp_path: Path) -> None:
    child, terminal = pty.fork()
    if not child:
        os.execv(sys.executable, [sys.executable, "-c", _WAITS, str(tmp_path / "note")])
    said = b""
    while b"ready" not in said:
        said += os.read(terminal, 4096)
    os.close(terminal)
    os.kill(child, signal.SIGHUP)  # as a shell does, after the kernel
    _, status = os.waitpid(child, 0)
    assert (tmp_path / "note").read_text() == "saved"
    assert os.waitstatus_to_exitcode(status) == 0
