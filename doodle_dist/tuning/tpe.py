"""Optuna's TPE sampler as a searcher of Ray Tune, over spaces with conditions.

Ray's own wrapper can't go on with a space that is defined by running it; this one is told what was found before.
"""

import warnings
from collections.abc import Iterable
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.search_space import Axis, SearchSpace, Settings, Value
from doodle_dist.tuning.ledger import TrialRecord
from doodle_dist.tuning.optuna_space import distribution
from doodle_dist.tuning.trial import POINT, TRIAL


class TpeSearcher(Searcher):
    """Tree-structured Parzen estimator (Bergstra et al. 2011), multivariate, conditions as groups.

    A trial's value is its last objective, as in Ray's own wrapper: what ASHA stopped early was bad there.
    """

    def __init__(
        self,
        space: SearchSpace,
        base: Experiment,
        *,
        objective: str,
        mode: str,
        seed: int,
        unfinished: Iterable[TrialRecord],
        earlier: Iterable[TrialRecord],
        numbers: Iterable[int],
        begin_with: Settings | None = None,
    ) -> None:
        """``unfinished`` trials come first, as they were; then new ones with ``numbers``, of which the first is
        ``begin_with``, if it is given."""
        super().__init__(metric=objective, mode=mode)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        earlier, unfinished = list(earlier), list(unfinished)
        # Another seed after a restart: the sampler's own state is gone, and would repeat its first draws.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=seed + len(earlier) + len(unfinished),
                multivariate=True,
                group=True,
                constant_liar=True,
            )
        self.study = optuna.create_study(
            sampler=sampler, direction="maximize" if mode == "max" else "minimize"
        )
        self.space, self.base = space, base
        self.numbers = list(numbers)
        self.asked: dict[str, optuna.Trial | int] = {}  # the study's trial, or its number there
        axes = {axis.key: distribution(axis.draw) for axis in space.axes}
        if begin_with is not None:
            self.study.enqueue_trial({key: value for key, value in begin_with.items() if key in axes})
        for trial in earlier:
            values = [result.objective for result in trial.results if result.objective is not None]
            if values and trial.status != "failed":  # as while it ran: what failed says nothing
                self._add(trial, axes, TrialState.COMPLETE, values[-1])
        # Under way from the beginning, so that the sampler keeps off their points, and is told what they come to.
        self.waiting = [(trial, self._add(trial, axes, TrialState.RUNNING)) for trial in unfinished]

    def _add(
        self,
        trial: TrialRecord,
        axes: dict[str, BaseDistribution],
        state: TrialState,
        value: float | None = None,
    ) -> int:
        """Tell the study of a trial that it did not suggest; the trial's number there."""
        params = {key: value for key, value in trial.settings.items() if key in axes}
        distributions = {key: axes[key] for key in params}
        self.study.add_trial(
            create_trial(params=params, distributions=distributions, state=state, value=value)
        )
        return len(self.study.trials) - 1

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        if self.waiting:
            trial, self.asked[trial_id] = self.waiting.pop(0)
            return {POINT: {TRIAL: trial.number} | trial.settings}
        if not self.numbers:
            return str(Searcher.FINISHED)
        asked = self.study.ask()
        self.asked[trial_id] = asked

        def pick(axis: Axis) -> Value:
            return _suggest(asked, axis)

        settings = self.space.settings(self.base, pick)
        return {POINT: {TRIAL: self.numbers.pop(0)} | settings}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        pass

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        asked = self.asked.pop(trial_id, None)
        if asked is None:
            return
        value = (result or {}).get(self.metric)
        if error or value is None:
            self.study.tell(asked, state=TrialState.FAIL)
        else:
            self.study.tell(asked, value)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the search's ledger is what it goes on from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as for `save`."""


def _suggest(trial: optuna.Trial, axis: Axis) -> Value:
    draw = axis.draw
    if not draw.is_numeric:
        value = trial.suggest_categorical(axis.key, draw.values)
        assert value is not None
        return value
    if draw.kind in ("int", "logint"):
        return trial.suggest_int(axis.key, int(draw.low), int(draw.high), log=draw.is_log)
    return trial.suggest_float(axis.key, draw.low, draw.high, log=draw.is_log)
