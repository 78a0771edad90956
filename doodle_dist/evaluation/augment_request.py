"""What `doodle-dist augment` was asked for, checked, and the tasks that it makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import load_experiment, load_run, parse_override
from doodle_dist.config.model import AugmentConfig
from doodle_dist.evaluation.augment_folder import cell_name
from doodle_dist.evaluation.augment_results import ARMS, Arm
from doodle_dist.training.plan import with_absolute_locations


@dataclass(frozen=True)
class Request:
    """What `augment` was asked for, ``out`` absolute. ``concurrent`` 0: as many tasks at once as the cluster holds."""

    gan: Experiment
    classifier: Experiment
    out: str
    ks: tuple[int | None, ...] = (10, 30, 100, 300, None)
    seeds: int = 3
    per_category: int = 1000
    share: float = 0.5
    at_most: int = 5000
    concurrent: int = 0
    cpus: float = 1.0
    gpus: float = 0.0
    local: bool = False
    wait_s: float = 0.0
    debug: bool = False
    quiet: bool = False


def experiments_for(
    gan_preset: str,
    classifier_preset: str,
    *,
    overrides: Sequence[str],
    classifier_overrides: Sequence[str],
    data: str,
    gan_drawings: int,
    classifier_drawings: int,
) -> tuple[Experiment, Experiment]:
    """The GANs' and the classifiers' experiment. Raises ValueError for presets that don't serve the comparison."""
    for option, texts, length in (
        ("--set", overrides, "--gan-drawings"),
        ("--classifier-set", classifier_overrides, "--classifier-drawings"),
    ):
        for key in (parse_override(text)[0] for text in texts):
            if key in ("train.drawings", "train.epochs"):
                raise ValueError(f"{option} {key}: {length} says how long it is trained")
            if key == "seed":
                raise ValueError(
                    f"{option} seed: each repetition has a seed of its own, and --seeds says how many"
                )
    given = {"train.drawings": gan_drawings} | ({"data.uri": data} if data else {})
    gan = with_absolute_locations(load_run(gan_preset, overrides, given))
    classifier = load_experiment(
        classifier_preset, [*classifier_overrides, f"train.drawings={classifier_drawings}"]
    )
    for experiment, task, option in ((gan, "gan", "PRESET"), (classifier, "classifier", "--classifier")):
        if experiment.task != task:
            raise ValueError(
                f"{option} {experiment.preset}: should be a {task}'s preset; it is a {experiment.task}'s"
            )
    if classifier.model.augment == AugmentConfig():
        raise ValueError(
            f"--classifier {classifier.preset}: its [model.augment] changes nothing, so there is no classic "
            "augmentation to compare with; should be a preset, or a .toml of your own, that has some"
        )
    optim = classifier.optim.classifier
    assert optim is not None
    if optim.warmup_drawings > classifier_drawings // 4:  # made for a longer run
        optim = optim.model_copy(update={"warmup_drawings": classifier_drawings // 4})
        sections = classifier.optim.model_copy(update={"classifier": optim})
        classifier = classifier.model_copy(update={"optim": sections})
    return gan, classifier


def parse_ks(text: str) -> tuple[int | None, ...]:
    """``10,30,all`` -> (10, 30, None), ascending. Raises ValueError for what is neither a number nor all."""
    ks: set[int | None] = set()
    for word in text.split(","):
        word = word.strip()
        if word != "all" and not (word.isdigit() and int(word) > 0):
            raise ValueError(f"--k {text!r}: {word!r} should be a number of drawings per category, or all")
        ks.add(None if word == "all" else int(word))
    return tuple(sorted(ks, key=lambda k: float("inf") if k is None else k))


def check_numbers(request: Request) -> None:
    """Raise ValueError for a number that makes no experiment."""
    for option, value, low, high in (
        ("--seeds", request.seeds, 1, 1000),
        ("--generated-per-category", request.per_category, 1, 1_000_000),
        ("--at-most", request.at_most, 1, 10_000_000),
        ("--concurrent", request.concurrent, 0, 100_000),
    ):
        if not low <= value <= high:
            raise ValueError(f"{option} {value}: should be {low} to {high:,}")
    if not 0 < request.share <= 1:
        raise ValueError(f"--share {request.share:g}: should be above 0 and at most 1")
    if not request.cpus > 0:
        raise ValueError(f"--cpus {request.cpus:g}: should be above 0")
    if not request.gpus >= 0:
        raise ValueError(f"--gpus {request.gpus:g}: should be 0 or more")


@dataclass(frozen=True)
class Job:
    """A task: a GAN's where there is no arm."""

    k: int | None
    seed: int
    arm: Arm | None

    @property
    def name(self) -> str:
        return cell_name(self.k, self.seed, self.arm)

    @property
    def needs_gan(self) -> bool:
        return self.arm in ("generated", "both")


def plan_jobs(ks: Sequence[int | None], seeds: int) -> list[Job]:
    """Every task, seed by seed, so that a part of them is a whole experiment; a GAN comes before who needs it."""
    arms: tuple[Arm | None, ...] = (None, *ARMS)
    return [Job(k, seed, arm) for seed in range(seeds) for k in ks for arm in arms]
