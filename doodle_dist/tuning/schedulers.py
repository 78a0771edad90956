"""What ends a trial early: Ray Tune's schedulers, on drawings seen. What changes it on its way is population.py.

No time budget: a trial that was slow because its node was would be judged by that.
"""

from collections.abc import Iterable
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from doodle_dist.config.search import SearchConfig
from doodle_dist.tuning.ledger import TrialRecord, trial_number
from doodle_dist.tuning.trial import DRAWINGS


class _Asha(ASHAScheduler):
    """Asynchronous successive halving (Li et al. 2020, algorithm 2) that knows what earlier attempts found.

    A trial that comes to its end ends by itself, its last lines written: none is stopped there.
    """

    def __init__(self, search: SearchConfig) -> None:
        super().__init__(
            time_attr=DRAWINGS,
            metric=search.objective,
            mode=search.mode,
            max_t=search.drawings,
            grace_period=search.first_rung,
            reduction_factor=search.reduction,
        )
        self.whole_trial = search.drawings

    def on_trial_add(self, tune_controller: object, trial: Trial) -> None:
        """Of what earlier attempts found the trial is given what is its own: nothing of it counts twice."""
        super().on_trial_add(tune_controller, trial)
        for _, recorded in self._brackets[0]._rungs:
            if (score := recorded.pop(_earlier(trial_number(str(trial))), None)) is not None:
                recorded[trial.trial_id] = score

    def on_trial_result(self, tune_controller: object, trial: Trial, result: dict[str, Any]) -> str:
        action: str = super().on_trial_result(tune_controller, trial, result)
        return TrialScheduler.CONTINUE if result.get(DRAWINGS, 0) >= self.whole_trial else action

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
                        recorded.setdefault(_earlier(trial.number), score)
                        break


def _earlier(number: int) -> str:
    return f"earlier-{number}"


def report_at(search: SearchConfig) -> tuple[int, ...]:
    """Drawings seen after which a trial is judged: ASHA's rungs, PBT's intervals, and the end."""
    if search.scheduler == "pbt":
        return (*range(search.perturb_every, search.drawings, search.perturb_every), search.drawings)
    return search.rungs()


def build_scheduler(search: SearchConfig, earlier: Iterable[TrialRecord] = ()) -> TrialScheduler:
    """The scheduler of a search, asha or none. ``earlier`` are the trials of earlier attempts."""
    if search.scheduler == "asha":
        asha = _Asha(search)
        asha.remember(earlier)
        return asha
    return FIFOScheduler()
