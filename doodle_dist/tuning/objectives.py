"""What a search may be judged by: the figures that a task's checkpoints have, and which way each is better."""

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import ConfigError
from doodle_dist.config.names import nearest
from doodle_dist.config.search import SearchConfig
from doodle_dist.data.schema import Manifest
from doodle_dist.data.stream_plan import stream_categories

JUDGED = "judge/"  # figures that a classifier's run gives
_OF_A_CATEGORY = "val_category/"
FIGURES = {
    "gan": {
        "judge/frechet_distance": "min",
        "judge/conditional_accuracy": "max",
        "judge/diversity_ratio": "max",
        "judge/diversity_ratio_lowest": "max",
    },
    "classifier": {
        "val/top1": "max",
        "val/top3": "max",
        "val/map3": "max",
        "val/balanced": "max",
        "val/macro_f1": "max",
        "val/loss": "min",
    },
    "critic": {
        "val/balanced_accuracy": "max",
        "val/accuracy_on_positive": "max",
        "val/accuracy_on_others": "max",
    },
}


def with_objective(config: SearchConfig, experiment: Experiment, manifest: Manifest) -> SearchConfig:
    """The search with an objective: its own, or else the first of its task's figures.

    Raises ConfigError for one that the task's checkpoints don't have, or that is better the other way round, and
    where there are no held-out drawings to judge by.
    """
    figures = dict(FIGURES[experiment.task])
    categories = stream_categories(manifest, experiment.data.categories)
    if not config.objective:
        objective, mode = next(iter(figures.items()))
        config = SearchConfig.model_validate(config.model_dump() | {"objective": objective, "mode": mode})
    if experiment.task == "classifier":
        figures |= {f"{_OF_A_CATEGORY}{name}": "max" for name in categories}
    if config.objective not in figures:
        raise ConfigError(
            f"search.objective={config.objective!r}: a {experiment.task} has no such figure"
            f"{nearest(config.objective, list(FIGURES[experiment.task]))}"
        )
    if figures[config.objective] != config.mode:
        raise ConfigError(
            f"search.mode={config.mode!r}: should be {figures[config.objective]!r} for {config.objective}, or the "
            "worst would be searched for"
        )
    held_out = dict(zip(manifest.categories, manifest.splits["val"].counts, strict=True))
    if sum(held_out.get(name, 0) for name in categories) < 2:
        raise ConfigError(
            f"{config.objective} is measured on held-out drawings, and the dataset's split val has none of these "
            "categories: prepare it with a --split that leaves some"
        )
    return config
