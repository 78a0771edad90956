"""How a search is run, as far as that goes without a cluster."""

import os
import signal
import threading

import pytest
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.utils.callback import _create_default_callbacks

from doodle_dist.tuning.tuner import Silent, terminated_is_interrupted

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


def test_ray_tune_prints_nothing_of_a_trial_that_ends(capsys: pytest.CaptureFixture[str]) -> None:
    def trial_ends(callbacks: list[object]) -> str:
        [tells] = [one for one in callbacks if isinstance(one, TrialProgressCallback)]
        trial = Trial("a-trainable", stub=True)
        tells.on_trial_complete(1, [trial], trial)
        return capsys.readouterr().out

    assert "completed. Last result" in trial_ends(_create_default_callbacks([]))
    assert trial_ends(_create_default_callbacks([Silent()])) == ""
