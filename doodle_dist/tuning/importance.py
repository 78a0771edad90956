"""How much each axis of a search has to do with how good its trials were."""

import warnings
from dataclasses import dataclass, field

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from doodle_dist.config.experiment import Experiment
from doodle_dist.tuning.ledger import SearchRecord, TrialRecord
from doodle_dist.tuning.optuna_space import distribution

FEWEST_TRIALS = 8
# The best quarter is told from the rest, but never fewer than five trials (Optuna's advice). Tried on made-up
# objectives over five axes of a GAN's search, 64 trials, 20 repeats each: with a quarter the one axis that mattered
# came first every time; with Optuna's tenth a categorical one did in half to two thirds, with half of the trials an
# axis with a condition did in a twentieth. With 16 trials and fewer, no share finds all of them.
_BEST_SHARE, _FEWEST_BEST, _MOST_BEST_SHARE = 0.25, 5, 0.5


@dataclass(frozen=True)
class Importance:
    """Shares by axis, which sum to 1, largest first; none, and ``why_none``, where nothing can be said.

    ``drawings`` is the rung at which all trials are compared, in drawings seen.
    """

    shares: dict[str, float] = field(default_factory=dict)
    drawings: int = 0
    why_none: str = ""


def importance_of(record: SearchRecord, base: Experiment) -> Importance:
    """Importance of each axis by PED-ANOVA (Watanabe et al. 2023): how far the best quarter's values of an
    axis differ from all trials' values.

    All trials are compared at the same rung, the last that all of them reached. An axis with a condition
    is judged among the trials that have it, weighted by how many of the best those are (Optuna's conditional
    PED-ANOVA, arXiv 2601.20800, theorem 4.2): whether it is there at all counts for the axis of its condition.
    """
    if record.request.scheduler == "pbt":
        return Importance(why_none="population based training changes settings during a trial")
    drawings = common_drawings(record)
    values = {number: _objective_at(trial, drawings) for number, trial in record.trials.items()}
    compared = {number: value for number, value in values.items() if value is not None}
    if len(compared) < FEWEST_TRIALS:
        return Importance(
            drawings=drawings,
            why_none=f"{len(compared)} trials with an objective are too few: it takes {FEWEST_TRIALS}",
        )
    if len(set(compared.values())) == 1:
        return Importance(drawings=drawings, why_none="all trials have the same objective")
    study = _study(record, base, compared)
    share = min(max(_BEST_SHARE, _FEWEST_BEST / len(compared)), _MOST_BEST_SHARE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of axes that one trial has
        raw = get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(target_quantile=share), normalize=False
        )
    total = sum(raw.values())
    if not total > 0:
        return Importance(drawings=drawings, why_none="no axis tells the best trials from the others")
    ordered = sorted(raw.items(), key=lambda item: -item[1])
    return Importance({key: value / total for key, value in ordered}, drawings)


def _study(record: SearchRecord, base: Experiment, compared: dict[int, float]) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    axes = {axis.key: distribution(axis.draw) for axis in record.request.config.axes().possible(base).axes}
    study = optuna.create_study(direction="maximize" if record.sign > 0 else "minimize")
    for number, value in compared.items():
        settings = record.trials[number].settings
        params = {key: settings[key] for key in axes if key in settings}
        distributions = {key: axes[key] for key in params}
        study.add_trial(create_trial(params=params, distributions=distributions, value=value))
    return study


def common_drawings(record: SearchRecord) -> int:
    """The last rung that every trial with an objective got to, in drawings seen; 0 without any. ASHA's is the first."""
    reached = [
        max(result.drawings_seen for result in trial.results if result.objective is not None)
        for trial in record.trials.values()
        if any(result.objective is not None for result in trial.results)
    ]
    least = min(reached, default=0)
    return max((rung for rung in record.request.config.rungs() if rung <= least), default=0)


def _objective_at(trial: TrialRecord, rung: int) -> float | None:
    """A trial's first objective from a rung on: reports come at a step's end, a little later with larger batches."""
    found = (
        result.objective
        for result in trial.results
        if result.objective is not None and result.drawings_seen >= rung
    )
    return next(found, None)
