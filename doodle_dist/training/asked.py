"""How a driver is asked to stop: by a signal, once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Asked:
    """Whether a signal has asked to stop. Not a threading.Event: its lock, held by what a handler interrupts, waits
    for ever."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set


@contextmanager
def asked_to_stop() -> Iterator[Asked]:
    """SIGTERM and SIGINT ask, once; the second one is a KeyboardInterrupt, also of SIGTERM.

    So does SIGHUP, a terminal that closes, except under nohup; what would be said after it goes nowhere.
    Nothing is caught where this isn't the main thread, which alone may.
    """
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    signals = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in signals}
    terminals = [stream for stream in (1, 2) if os.isatty(stream)]

    def ask(number: int, _: object) -> None:
        asked.set()
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.default_int_handler)
        if number == signal.SIGHUP:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the kernel and the shell both send it
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in terminals:
                os.dup2(nowhere, stream)
            os.close(nowhere)

    for number in signals:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
