"""Population based training (Jaderberg et al. 2017) by Ray Tune: on drawings seen, seeded, in so many places.

Ray's own draws from Python's one generator, compares drawings with multiples that batches don't end on, lets as many
trials run as the cluster has CPUs, copies only those that were among the best when they reported, and copies once
more when a trial is at its end.
"""

import logging
import random
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler
from ray.tune.search import BasicVariantGenerator

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import ConfigError
from doodle_dist.config.search import SearchConfig
from doodle_dist.config.search_space import Axis, SearchSpace, Settings, Value
from doodle_dist.tuning.ledger import trial_number
from doodle_dist.tuning.trial import DRAWINGS, POINT, TRIAL, settings_of

_FEWEST = 4
_ANEW_PROBABILITY, _FACTORS = 0.25, (0.8, 1.2)


class Turns(BasicVariantGenerator):
    """The trials of a population, of which ``places`` run at once: the others have not begun, or are paused."""

    def __init__(self, places: int) -> None:
        super().__init__()
        self.places = places
        self.begun: list[Trial] = []

    @property
    def is_full(self) -> bool:
        """Whether all places are taken, by trials that run or are about to."""
        return sum(trial.status in (Trial.PENDING, Trial.RUNNING) for trial in self.begun) >= self.places

    @property
    def some_wait(self) -> bool:
        """Whether a trial would run, were there a place for it."""
        return len(self.begun) < self.total_samples or any(t.status == Trial.PAUSED for t in self.begun)

    def next_trial(self) -> Trial | None:
        trial = None if self.is_full else super().next_trial()
        if trial is not None:
            self.begun.append(trial)
        return trial

    def get_state(self) -> dict[str, Any]:
        """What Ray Tune writes down; a search goes on from its ledger, and trials hold what can't be pickled."""
        state = super().get_state()
        return state and {name: value for name, value in state.items() if name != "begun"}


class Population(PopulationBasedTraining):
    """Every report ends an interval: a trial of the worst quarter goes on from the checkpoint of one of the best."""

    def __init__(
        self, search: SearchConfig, space: SearchSpace, base: Experiment, seed: int, turns: Turns
    ) -> None:
        logging.getLogger("ray.tune.schedulers.pbt").setLevel(logging.WARNING)
        super().__init__(
            time_attr=DRAWINGS,
            metric=search.objective,
            mode=search.mode,
            perturbation_interval=1,  # a trial reports at its intervals' ends, and a little later than their multiples
            hyperparam_mutations={
                POINT: {axis.key: list(axis.draw.probes) for axis in space.axes}
            },  # for its log
            log_config=False,
            require_attrs=False,
        )
        self.length, self.space, self.base, self.seed, self.turns = search.drawings, space, base, seed, turns

    def on_trial_result(self, tune_controller: object, trial: Trial, result: dict[str, Any]) -> str:
        if DRAWINGS not in result or result[DRAWINGS] >= self.length:
            # It failed, or is at its end: a copy would have nothing left to learn.
            return str(TrialScheduler.CONTINUE)
        decision = str(super().on_trial_result(tune_controller, trial, result))
        if decision == TrialScheduler.CONTINUE and self.turns.some_wait:
            return str(TrialScheduler.PAUSE)
        return decision

    def choose_trial_to_run(self, tune_controller: object) -> Trial | None:
        return None if self.turns.is_full else super().choose_trial_to_run(tune_controller)

    def _checkpoint_or_exploit(
        self, trial: Trial, tune_controller: object, upper_quantile: list[Trial], lower_quantile: list[Trial]
    ) -> None:
        if trial in lower_quantile:  # Ray chooses one of them, from a generator that others draw from
            donor = self._random(trial, "donor").choice(sorted(upper_quantile, key=_number))
            upper_quantile = [donor]
            # Ray knows of the checkpoints of those only that were among the best when they reported.
            state = self._trial_state[donor]
            state.last_checkpoint = state.last_checkpoint or donor.checkpoint
        super()._checkpoint_or_exploit(trial, tune_controller, upper_quantile, lower_quantile)

    def _quantiles(self) -> tuple[list[Trial], list[Trial]]:
        alive = [trial for trial in self._trial_state if not trial.is_finished()]
        judged = [trial for trial in alive if self._trial_state[trial].last_score is not None]
        # The second of all to report is not bad for being worse than the first.
        return super()._quantiles() if len(judged) >= min(_FEWEST, len(alive)) else ([], [])

    def _get_new_config(self, trial: Trial, trial_to_clone: Trial) -> tuple[dict[str, Any], dict[str, Any]]:
        point = trial_to_clone.config[POINT]
        settings = mutated(settings_of(point), self.space, self.base, self._random(trial, "settings"))
        return {**trial_to_clone.config, POINT: {TRIAL: point[TRIAL]} | settings}, {}

    def _random(self, trial: Trial, what: str) -> random.Random:
        """Of this trial at its last report: who reports first changes nothing of what it draws."""
        return random.Random(
            f"{self.seed}/{_number(trial)}/{self._trial_state[trial].last_train_time}/{what}"
        )


def _number(trial: Trial) -> int:
    return trial_number(str(trial))


def mutated(settings: Settings, space: SearchSpace, base: Experiment, rng: random.Random) -> Settings:
    """Settings a little changed, each still in its range, and what follows an axis with it.

    A number is multiplied by 0.8 or 1.2, whole ones by at least one more or less; of a list its neighbour is taken;
    in a quarter of cases, and where there is none to change, a value is drawn anew (Jaderberg et al. 2017,
    section 4.1.1).
    """

    def pick(axis: Axis) -> Value:
        value = settings.get(axis.key)
        # Drawn whether needed or not: one axis' turn changes no other's.
        is_anew, share, step = rng.random() < _ANEW_PROBABILITY, rng.random(), rng.choice((0, 1))
        if is_anew or value is None or not axis.draw.holds(value):
            return axis.draw.at(share)
        if not axis.draw.is_numeric:
            values = axis.draw.values
            return values[min(max(values.index(value) + 2 * step - 1, 0), len(values) - 1)]
        changed = axis.draw.clip(float(value) * _FACTORS[step])
        if changed == value and axis.draw.kind in ("int", "logint"):
            return axis.draw.clip(float(value) + 2 * step - 1)
        return changed

    return space.settings(base, pick)


def check_population(space: SearchSpace, trials: int, workers: int) -> None:
    """Raise ConfigError for what population based training can't do."""
    if trials < _FEWEST:
        raise ConfigError(f"--trials {trials}: population based training takes {_FEWEST} or more")
    if workers > 1:
        raise ConfigError(
            f"--workers-per-trial {workers}: population based training passes checkpoints between trials of one "
            "worker each; use --scheduler asha for more"
        )
    conditional = [axis.key for axis in space.axes if axis.when]
    if conditional:
        raise ConfigError(
            f"search: {conditional[0]} has a condition, and population based training changes every axis at any "
            "time: use --space pbt or pbt-classifier, or axes without conditions"
        )
    for key in (key for axis in space.axes for key in (axis.key, *axis.also)):
        if _is_fixed_in_a_run(key):
            raise ConfigError(
                f"search: {key} can't change during a run, which population based training would do"
            )


def _is_fixed_in_a_run(key: str) -> bool:
    """Whether a checkpoint can't be gone on from with another value: networks, kinds of optimisers, the order."""
    if key in ("seed", "train.global_batch", "data.lanes", "gan.critic_from", "precision"):
        return True
    if key.startswith("model."):
        return not key.startswith("model.augment.")
    return key.startswith("optim.") and key.endswith(".name")
