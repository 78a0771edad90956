"""Whether an experiment suits its dataset's categories and pictures: the driver asks, and who trains. Without torch."""

from doodle_dist.config.experiment import PretrainingConfig
from doodle_dist.data.categories import unknown_category

_NAMES_SHOWN = 5


def positives(config: PretrainingConfig, categories: tuple[str, ...]) -> tuple[bool, ...]:
    """Of each of the data's categories whether it counts as real.

    Raises ValueError where pretraining.positive names what is no category of the data, none, or all of them.
    """
    for name in config.positive:
        if name not in categories:
            raise ValueError(f"pretraining.positive: {unknown_category(name, categories)}")
    found = tuple(name in config.positive for name in categories)
    if not any(found) or all(found):
        raise ValueError(
            f"pretraining.positive={list(config.positive)}: should name some of the data's categories, and not all: "
            f"{', '.join(categories[:_NAMES_SHOWN])} …"
        )
    return found


def check_judge(
    known: tuple[str, ...], reads: tuple[int, int], categories: tuple[str, ...], shape: tuple[int, int]
) -> None:
    """Raise ValueError where a judge that has ``known`` categories, and ``reads`` pictures of (side, channels), can't
    judge a GAN of these categories and this ``shape``."""
    if known != categories:
        raise ValueError("gan.judge: the judge was trained on other categories than this GAN")
    if reads != shape:
        raise ValueError(
            f"gan.judge: the judge reads pictures of side {reads[0]} with {reads[1]} channels; this "
            f"GAN makes them with side {shape[0]} and {shape[1]}"
        )
