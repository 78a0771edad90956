"""How a driver is asked to stop."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from doodle_dist.training.asked import asked_to_stop


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


def test_a_terminal_that_closes_asks_and_is_heard_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel and the shell both tell: the second one is no interruption."""
    monkeypatch.setattr(os, "isatty", lambda _: False)  # these tests' own output stays
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with asked_to_stop() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert asked.is_set()
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


_WAITS = """
import sys, time
from pathlib import Path
from doodle_dist.training.asked import asked_to_stop
with asked_to_stop() as asked:
    print("ready", flush=True)
    deadline = time.monotonic() + 30
    while not asked.is_set() and time.monotonic() < deadline:
        time.sleep(0.01)
    print("nobody reads this any more", flush=True)
    Path(sys.argv[1]).write_text("saved" if asked.is_set() else "not asked")
"""


def _at_the_terminal() -> None:
    """A child's standard input becomes its terminal; these tests may run under nohup, it does not."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.slow
def test_what_is_said_after_a_terminal_has_closed_goes_nowhere(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", _WAITS, str(tmp_path / "note")],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_at_the_terminal,
    )
    os.close(theirs)
    said = b""
    while b"ready\r\n" not in said:  # a terminal that closes before the line's end fails the line
        said += os.read(ours, 4096)
    os.close(ours)
    child.send_signal(signal.SIGHUP)  # as a shell does, after the kernel
    assert child.wait(60) == 0
    assert (tmp_path / "note").read_text() == "saved"
