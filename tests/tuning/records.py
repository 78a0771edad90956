"""Made-up searches, whose answers are known: 64 trials under ASHA, and 8 under population based training."""

import math
import random
from typing import Any

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import build, load_experiment
from doodle_dist.config.search import SearchConfig
from doodle_dist.config.search_space import Settings
from doodle_dist.tuning.ledger import Request, Result, SearchRecord, TrialRecord

ASHA_BEST_LR = 2e-3


_NOISY = {"gan.noise.sigma_start": (0.05, 0.1, 0.2, 0.4)}
_DECAYING = {"gan.noise.decay": ("linear", "exponential")}
# Spaces of their own: those that ship are changed whenever a better one is found.
SPACES: dict[str, dict[str, Any]] = {
    "asha": {
        "optim.generator.lr": "loguniform(3e-4, 1e-2)",
        "optim.critic.lr": "loguniform(3e-4, 1e-2)",
        "gan.updates.critic_updates": "choice(1, 2, 3)",
        "gan.noise.sigma_start": "choice(0.0, 0.05, 0.1, 0.2, 0.4)",
        "gan.noise.decay": {"draw": "choice('none', 'linear', 'exponential')", "when": _NOISY},
        "gan.noise.decay_drawings": {"draw": "logint(1_000, 20_000)", "when": _DECAYING},
        "gan.adversarial.r1_gamma_start": {
            "draw": "loguniform(0.3, 30.0)",
            "also": ("gan.adversarial.r2_gamma_start",),
        },
    },
    "pbt": {
        "optim.generator.lr": "loguniform(3e-4, 1e-2)",
        "optim.critic.lr": "loguniform(3e-4, 1e-2)",
        "gan.updates.critic_updates": "choice(1, 2, 3)",
        "gan.noise.sigma_start": "uniform(0.0, 0.4)",
    },
    "classifier": {
        "optim.classifier.lr": "loguniform(1e-4, 3e-2)",
        "optim.classifier.weight_decay": "loguniform(1e-4, 0.3)",
        "classifier.label_smoothing": "uniform(0.0, 0.2)",
        "model.augment.translate_px": "uniform(0.0, 4.0)",
    },
}


def request(scheduler: str, trials: int, preset: str = "doodle-gan-small", **changes: object) -> Request:
    """What `doodle-dist tune` would have asked for: rungs at 1,250, 5,000 and 20,000 drawings."""
    is_classifier = preset == "classifier-small"
    table = {
        "space": SPACES["classifier" if is_classifier else scheduler],
        "objective": "val/top1" if is_classifier else "judge/frechet_distance",
        "mode": "max" if is_classifier else "min",
        "scheduler": scheduler,
    }
    config = SearchConfig.model_validate(table | changes)
    length = [f"train.drawings={config.drawings}", "train.checkpoint_every_drawings=0"]
    base = load_experiment(preset, ["data.uri=/data/prepared", "run=search", "storage=/runs", *length])
    return Request(
        experiment=base.model_dump(mode="json", exclude_unset=True),
        search=config.model_dump(mode="json"),
        trials=trials,
        scheduler=scheduler,
        searcher="random",
        seed=0,
    )


def base_of(record: SearchRecord) -> Experiment:
    return build(record.request.experiment)


def asha(trials: int = 64, matters: str = "optim.generator.lr", uri: str = "/runs/search") -> SearchRecord:
    """Only ``matters`` matters, best at ASHA_BEST_LR; a quarter goes on at each rung; every 16th trial fails."""
    record = SearchRecord(uri, request("asha", trials))
    config, rng = record.request.config, random.Random(1)
    space, base = config.axes(), base_of(record)
    points = [space.possible(base).sampled(base, 0, number) for number in range(trials)]

    def objective(settings: Settings, seen: int) -> float:
        off = abs(math.log(float(settings[matters]) / ASHA_BEST_LR))
        return (20 + 60 * off) * (1 + 2_000 / seen) + rng.gauss(0, 2)

    alive = list(range(trials))
    elapsed = 0.0
    for number, settings in enumerate(points):
        record.trials[number] = TrialRecord(number, settings)
        if number % 16 == 15:
            record.trials[number].status = "failed"
            record.trials[number].reason = "the critic's loss is nan at drawing 640 <b>&"
            alive.remove(number)
    for seen in config.rungs():
        for number in alive:
            elapsed += 0.01 * seen / 12
            trial = record.trials[number]
            trial.results.append(Result(seen, objective(trial.settings, seen), elapsed, trial.settings))
        alive.sort(key=lambda number: record.trials[number].results[-1].objective or 0)
        for number in alive[max(1, len(alive) // config.reduction) :]:
            record.trials[number].status = "stopped"
        alive = alive[: max(1, len(alive) // config.reduction)] if seen < config.drawings else alive
    for number in alive:
        record.trials[number].status = "finished"
    record.elapsed_s = elapsed
    return record


def pbt(trials: int = 8, uri: str = "/runs/search") -> SearchRecord:
    """The worst quarter copies the best quarter after each interval, its settings changed by 0.8 or 1.2.

    The best learning rate falls on the way, so that what began best does not stay it.
    """
    record = SearchRecord(uri, request("pbt", trials))
    config, rng = record.request.config, random.Random(2)
    base = base_of(record)
    space = config.axes()
    for number in range(trials):
        record.trials[number] = TrialRecord(number, space.sampled(base, 0, number))
    quality = [0.0] * trials
    now = {number: trial.settings for number, trial in record.trials.items()}
    copied: dict[int, tuple[int, int]] = {}
    elapsed = 0.0
    for seen in range(config.perturb_every, config.drawings + 1, config.perturb_every):
        for number, trial in record.trials.items():
            elapsed += 5.0
            lr = float(now[number]["optim.generator.lr"])
            quality[number] += 1 / (1 + 3 * abs(math.log(lr / (3e-3 * 0.85 ** (seen / 2_500)))))
            donor, at = copied.pop(number, (None, None))
            objective = 200 / (0.2 + quality[number]) + rng.gauss(0, 1)
            trial.results.append(Result(seen, objective, elapsed, now[number], donor, at))
        order = sorted(record.trials, key=lambda number: record.trials[number].results[-1].objective or 0)
        for worse, better in zip(order[-trials // 4 :], order[: trials // 4], strict=True):
            if seen < config.drawings:
                copied[worse] = (better, seen)
                quality[worse] = quality[better]
                now[worse] = {
                    axis.key: axis.draw.clip(_mutated(now[better][axis.key], rng)) for axis in space.axes
                }
    for trial in record.trials.values():
        trial.status = "finished"
    record.elapsed_s = elapsed
    return record


def _mutated(value: object, rng: random.Random) -> float | int:
    if isinstance(value, int):
        return rng.choice((1, 2, 3))
    return float(value) * rng.choice((0.8, 1.2))  # type: ignore[arg-type]
