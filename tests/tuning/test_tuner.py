"""How a search is run, as far as that goes without a cluster."""

import os
import signal
import threading

from doodle_dist.tuning.tuner import terminated_is_interrupted

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def test_a_search_that_is_told_to_terminate_is_interrupted_and_leaves_no_handlers_behind() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    was_interrupted = threading.Event()
    with terminated_is_interrupted():
        for number in (signal.SIGINT, signal.SIGUSR1):  # as Ray Tune does
            signal.signal(number, lambda *_: was_interrupted.set())
        os.kill(os.getpid(), signal.SIGTERM)
        assert was_interrupted.wait(5)
    assert [signal.getsignal(number) for number in SIGNALS] == before
