"""What a search found, as data and in words: the same for the screen, the JSON and the page."""

import math
import shlex
from collections import Counter
from dataclasses import asdict, dataclass

import orjson

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import build
from doodle_dist.config.search_space import Settings
from doodle_dist.data import locations
from doodle_dist.tuning.courses import Stretch, copies, lineage
from doodle_dist.tuning.importance import importance_of
from doodle_dist.tuning.ledger import SearchRecord

# A report's files, in the search's folder.
REPORT, LEADERBOARD, BEST = "report.html", "leaderboard.json", "best.toml"
BY_AXIS, SO_FAR, IMPORTANCE, SCHEDULES = (
    "objective-by-axis.png",
    "best-so-far.png",
    "importance.png",
    "pbt-schedules.png",
)
FRESH_SEEDS = 3


@dataclass(frozen=True)
class Row:
    """A trial's place. ``settings`` are those of its last report, which population based training changes.

    Where it was confirmed, ``fresh_mean`` and ``fresh_std`` are the objective's over ``fresh_seeds`` seeds that the
    search had not used; None where a run of them failed.
    """

    place: int
    trial: int
    status: str
    drawings_seen: int
    objective: float
    settings: Settings
    fresh_seeds: int = 0
    fresh_mean: float | None = None
    fresh_std: float | None = None

    @property
    def fresh(self) -> str:
        """``155.1 ± 20.3``, or how it is that there is no such thing."""
        if not self.fresh_seeds:
            return ""
        if self.fresh_mean is None:
            return "failed"
        spread = "" if self.fresh_std is None else f" ± {figure(self.fresh_std)}"
        return f"{figure(self.fresh_mean)}{spread}"


@dataclass(frozen=True)
class Failure:
    """A trial that failed, where, and why."""

    trial: int
    drawings_seen: int
    reason: str
    settings: Settings


@dataclass(frozen=True)
class Found:
    """All that a search found: what `leaderboard.json` holds and ``tune --json`` prints.

    ``trials`` counts trials by status; ``drawings_seen`` is of all trials together. ``importance`` is by axis, and
    sums to 1, or is empty for the reason in ``importance_none``; ``lineage`` is the way of the best trial's model,
    and ``copies`` how often a trial went on from another's checkpoint (population based training).
    """

    uri: str
    objective: str
    mode: str
    scheduler: str
    searcher: str
    seed: int
    asked: int
    trials: dict[str, int]
    drawings_seen: int
    elapsed_s: float
    leaderboard: list[Row]
    failed: list[Failure]
    importance: dict[str, float]
    importance_drawings: int
    importance_none: str
    copies: int
    lineage: list[Stretch]


def leaderboard(record: SearchRecord, top: int = 10) -> list[Row]:
    """The best ``top`` trials, 0 for all, in the order of `SearchRecord.ranked`."""
    ranked, confirmations = record.ranked(), record.confirmations()
    return [
        Row(
            place,
            trial.number,
            trial.status,
            result.drawings_seen,
            result.objective,
            result.settings,
            len(record.confirmed.get(trial.number, ())),
            *(_finite(value) for value in confirmations.get(trial.number, (math.nan, math.nan))),
        )
        for place, (trial, result) in enumerate(ranked[: top or len(ranked)], 1)
        if result.objective is not None
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def failures(record: SearchRecord) -> list[Failure]:
    """The trials that failed, by number."""
    return [
        Failure(trial.number, trial.drawings_seen, trial.reason or "no reason was given", trial.settings)
        for _, trial in sorted(record.trials.items())
        if trial.status == "failed"
    ]


def found_by(record: SearchRecord) -> Found:
    """The search's results, with all of its trials."""
    request, importance = record.request, importance_of(record, base_of(record))
    return Found(
        uri=record.uri,
        objective=record.objective,
        mode=request.config.mode,
        scheduler=request.scheduler,
        searcher=request.searcher,
        seed=request.seed,
        asked=request.trials,
        trials=dict(Counter(trial.status for trial in record.trials.values())),
        drawings_seen=record.drawings_seen,
        elapsed_s=record.elapsed_s,
        leaderboard=leaderboard(record, top=0),
        failed=failures(record),
        importance=importance.shares,
        importance_drawings=importance.drawings,
        importance_none=importance.why_none,
        copies=len(copies(record)),
        lineage=lineage(record, record.best[0].number) if record.best else [],
    )


def base_of(record: SearchRecord) -> Experiment:
    """The experiment that trials' settings are laid over."""
    return build(record.request.experiment)


def found_json(found: Found) -> bytes:
    """``found`` as `leaderboard.json`."""
    tree = asdict(found) | {"lineage": [stretch._asdict() for stretch in found.lineage]}
    return orjson.dumps(tree, option=orjson.OPT_INDENT_2)


def counted(record: SearchRecord) -> str:
    """``64 trials asked for: 3 finished, 57 stopped, 4 failed``"""
    counts = Counter(trial.status for trial in record.trials.values())
    told = [
        f"{counts[status]} {status}"
        for status in ("finished", "stopped", "failed", "interrupted", "running", "waiting")
        if counts[status]
    ]
    return f"{record.request.trials} trials asked for: {', '.join(told) or 'none begun'}"


def figure(value: float) -> str:
    """An objective with as many digits as tell one trial from the next."""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def flattered(record: SearchRecord) -> str:
    """Why the best trial's objective is better than its settings are, and what was done about it."""
    trials = len(record.ranked())
    said = f"The best of {trials} trials is flattered by its selection: some of what put it first was luck."
    if record.confirmed:
        seeds = len(next(iter(record.confirmed.values())))
        return (
            f"{said} So the first {len(record.confirmed)} were trained again, each with {seeds} seeds that the search "
            "had not used, and their means decide. Of the best of those means too a little is luck; more seeds tell:"
        )
    return f"{said} What its settings are worth, seeds tell that the search has not used:"


def retrain_command(record: SearchRecord) -> str:
    """The shell's line that trains `best.toml` with seeds that the search has not used."""
    used = {int(trial.settings.get("seed", 0)) for trial in record.trials.values()} | {base_of(record).seed}
    used |= {int(end.settings.get("seed", 0)) for ends in record.confirmed.values() for end in ends}
    seeds = " ".join(str(max(used) + k) for k in range(1, FRESH_SEEDS + 1))
    local = "://" not in record.uri
    preset = shlex.quote(locations.join(record.uri, BEST)) if local else BEST
    name = shlex.quote(locations.basename(record.uri))
    return (
        f"for seed in {seeds}; do doodle-dist train {preset} --set seed=$seed --run {name}-best-$seed; done"
    )
