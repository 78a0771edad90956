"""What ends a trial early, or changes it on its way: Ray Tune's schedulers, on drawings seen.

No time budget: a trial that was slow because its node was would be judged by that.
"""

import logging
import random
from collections.abc import Iterable

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import ConfigError
from doodle_dist.config.search import Axis, Draw, SearchConfig, SearchSpace
from doodle_dist.tuning.ledger import TrialRecord
from doodle_dist.tuning.trial import DRAWINGS, POINT, TRIAL, settings_of

_FEWEST_FOR_PBT = 4


class _Asha(ASHAScheduler):
    """Asynchronous successive halving (Li et al. 2020, algorithm 2) that knows what earlier attempts found."""

    def remember(self, trials: Iterable[TrialRecord]) -> None:
        """Enter what trials reported before the search was cut off: they count at their rungs."""
        bracket = self._brackets[0]
        for trial in trials:
            for result in trial.results:
                if result.objective is None:
                    continue
                score = self._metric_op * result.objective
                for milestone, recorded in bracket._rungs:
                    if result.drawings_seen >= milestone:
                        recorded.setdefault(f"earlier-{trial.number}", score)
                        break


def report_at(search: SearchConfig, scheduler: str) -> tuple[int, ...]:
    """Drawings seen after which a trial is judged: ASHA's rungs, PBT's intervals, and the end."""
    if scheduler == "pbt":
        return (*range(search.perturb_every, search.drawings, search.perturb_every), search.drawings)
    return search.rungs()


def build_scheduler(
    name: str,
    search: SearchConfig,
    space: SearchSpace,
    base: Experiment,
    earlier: Iterable[TrialRecord] = (),
) -> TrialScheduler:
    """The scheduler of a search. ``earlier`` are the trials that are not run again."""
    by = {"time_attr": DRAWINGS, "metric": search.objective, "mode": search.mode}
    if name == "asha":
        # One more than the end, so that a trial that gets there ends by itself, with its last report written.
        asha = _Asha(
            **by, max_t=search.drawings + 1, grace_period=search.first_rung, reduction_factor=search.reduction
        )
        asha.remember(earlier)
        return asha
    if name == "pbt":
        logging.getLogger("ray.tune.schedulers.pbt").setLevel(logging.WARNING)
        return PopulationBasedTraining(
            **by,
            perturbation_interval=search.perturb_every,
            hyperparam_mutations={POINT: {axis.key: _mutation(axis.draw) for axis in space.axes}},
            custom_explore_fn=lambda config: {POINT: repaired(config[POINT], space, base)},
            log_config=False,
            require_attrs=False,
        )
    return FIFOScheduler()


def _mutation(draw: Draw) -> object:
    """What PBT changes a value by: a list's neighbour, or a factor of 0.8 or 1.2, or in a quarter of cases anew."""
    if draw.is_numeric:
        return lambda: draw.at(random.random())
    return list(draw.values)


def repaired(point: dict, space: SearchSpace, base: Experiment) -> dict:
    """A mutated point with every value in its range, the settings that follow an axis with it, and what its
    conditions don't allow left out."""
    mutated = settings_of(point)

    def pick(axis: Axis) -> float | int | str | bool:
        value = mutated.get(axis.key)
        return axis.draw.at(0.5) if value is None else axis.draw.clip(value)

    return {TRIAL: point[TRIAL]} | space.settings(base, pick)


def check_population(space: SearchSpace, trials: int, workers: int) -> None:
    """Raise ConfigError for what population based training can't do."""
    if trials < _FEWEST_FOR_PBT:
        raise ConfigError(f"--trials {trials}: population based training takes {_FEWEST_FOR_PBT} or more")
    if workers > 1:
        raise ConfigError(
            f"--workers-per-trial {workers}: population based training passes checkpoints between trials of one "
            "worker each; use --scheduler asha for more"
        )
    conditional = [axis.key for axis in space.axes if axis.when]
    if conditional:
        raise ConfigError(
            f"search: {conditional[0]} has a condition, and population based training changes every axis at any "
            "time: use --space pbt, or axes without conditions"
        )
    for axis in space.axes:
        if axis.key in _FIXED_IN_A_RUN or axis.key.startswith("model."):
            raise ConfigError(
                f"search: {axis.key} can't change during a run, which population based training would do"
            )


_FIXED_IN_A_RUN = ("seed", "train.global_batch", "data.lanes", "optim.generator.name", "optim.critic.name")
