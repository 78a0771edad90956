"""How a search is run, as far as that goes without a cluster."""

import os
import signal
import threading

import pytest
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.utils.callback import _create_default_callbacks

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import load_experiment
from doodle_dist.config.search import SearchConfig
from doodle_dist.tuning.tuner import Search, Silent, terminated_is_interrupted

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


def largest(base: Experiment, space: dict[str, object]) -> Experiment:
    """What a trial's share of a GPU is measured on."""
    config = SearchConfig.model_validate({"space": space})
    return Search("s", base, config, config.axes(), trials=4, searcher="random", seed=0).largest()


def test_what_takes_most_memory_is_the_base_with_the_largest_batch_and_nets() -> None:
    base = load_experiment("doodle-gan-small")
    found = largest(
        base,
        {
            "optim.generator.lr": "loguniform(1e-5, 1e-1)",
            "gan.noise.sigma_start": "choice(0.0, 0.4)",
            "train.global_batch": "choice(512, 64)",
            "model.generator.width": {"draw": "choice(8, 96, 32)", "also": ["model.critic.width"]},
        },
    )
    assert base.model.generator is not None
    assert base.model.critic is not None
    assert found.train.global_batch == 512
    nets = {
        "generator": base.model.generator.model_copy(update={"width": 96}),
        "critic": base.model.critic.model_copy(update={"width": 96}),
    }
    assert found.model == base.model.model_copy(update=nets)
    assert (found.optim, found.gan) == (base.optim, base.gan), "the memory that they take is the same"


def test_where_no_point_has_the_largest_together_it_is_the_base() -> None:
    """Here the lanes, which are no size, are as many as the smaller batch alone is a multiple of."""
    base = load_experiment("doodle-gan-small", ["data.lanes=3", "train.global_batch=24"])
    assert largest(base, {"train.global_batch": "choice(24, 64)"}) == base


def test_ray_tune_prints_nothing_of_a_trial_that_ends(capsys: pytest.CaptureFixture[str]) -> None:
    def trial_ends(callbacks: list[object]) -> str:
        [tells] = [one for one in callbacks if isinstance(one, TrialProgressCallback)]
        trial = Trial("a-trainable", stub=True)
        tells.on_trial_complete(1, [trial], trial)
        return capsys.readouterr().out

    assert "completed. Last result" in trial_ends(_create_default_callbacks([]))
    assert trial_ends(_create_default_callbacks([Silent()])) == ""
