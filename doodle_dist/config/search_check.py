"""Whether a search space fits an experiment: axes that may be searched, and values that the experiment takes."""

from collections.abc import Iterable

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import ConfigError
from doodle_dist.config.search import SearchConfig, experiment_with
from doodle_dist.config.search_space import Axis, SearchSpace, Settings, Value, setting

# How a run's data are read, what is written of it, and how often it may fail: whatever they are, the same is learned.
CHANGES_NOTHING = (
    "data.audit",
    "data.buffer_bytes",
    "data.raster_threads",
    "data.read",
    "data.window_bytes",
    "train.keep_checkpoints",
    "train.log_every_drawings",
    "train.max_failures",
    "train.pictures_every_drawings",
)
# What no search varies, each with all that is below it, and why.
NOT_SEARCHED = {
    "task": "a search is of one task",
    "preset": "it is a name for people",
    "run": "each trial's run is named by its number, and the search by --run",
    "storage": "all trials lie in the search's folder",
    "data.uri": "objectives on other drawings can't be compared",
    "data.categories": "objectives on other categories can't be compared",
    "gan.judge": "objectives by other judges can't be compared",
    "train.drawings": "trials are of one length, which --drawings gives",
    "train.epochs": "trials are of one length, which --drawings gives",
    "train.held_out_drawings": "objectives on other drawings can't be compared",
    "train.checkpoint_every_drawings": "the scheduler says when a trial is judged",
    "scaling": "what a trial takes is given by --workers-per-trial, --gpus-per-trial and --cpus",
} | dict.fromkeys(CHANGES_NOTHING, "it changes nothing that is learned")
# What a search sets for each trial itself: an override would have no effect.
NOT_OVERRIDDEN = ("run", "train.drawings", "train.epochs", "scaling.workers")
# Random points that are tried before a search starts: axes may be refused together that are taken one by one.
_POINTS = 200
_OTHERS = 8  # points that an axis' value is tried in


def checked_space(search: SearchConfig, base: Experiment, fixed: Iterable[str] = ()) -> SearchSpace:
    """The axes that a search of ``base`` has, tried all over their ranges; ``fixed`` settings are not searched.

    Raises ConfigError naming the axis for a key that is no setting or none that a search may vary, a condition
    that comes before its axis, and a value, or some together, that the experiment refuses.
    """
    space = search.axes().without(fixed)
    before: set[str] = set()
    searched = {axis.key for axis in space.axes}
    for axis in space.axes:
        for key in (axis.key, *axis.also):
            setting(base, key)
            _refuse(key, axis)
        for key, _ in axis.when:
            setting(base, key)
            if key in searched and key not in before:
                raise ConfigError(f"search: {axis.key} depends on {key}, which should stand before it")
        before.add(axis.key)
    space = space.possible(base)
    if not space.axes:
        raise ConfigError("search: no axis is left, since all are fixed or belong to other presets")
    for axis in space.axes:
        for value in axis.draw.probes:
            _try(space, axis, value, base)
    check_points((space.sampled(base, seed=0, trial=trial) for trial in range(_POINTS)), base)
    return space


def check_overrides(keys: Iterable[str]) -> None:
    """Raise ConfigError for an override that a search would replace, naming what gives it."""
    for key in keys:
        if key in NOT_OVERRIDDEN:
            raise ConfigError(f"--set {key}: {_why_not_searched(key)}")


def check_points(points: Iterable[Settings], base: Experiment) -> None:
    """Raise ConfigError for the first point that the experiment refuses."""
    for point in points:
        try:
            experiment_with(base, point)
        except ConfigError as error:
            together = ", ".join(f"{key} = {value!r}" for key, value in point.items())
            raise ConfigError(f"search: some of {together} don't go together: {error}") from None


def _refuse(key: str, axis: Axis) -> None:
    """Raise ConfigError for a setting that no search varies."""
    if why := _why_not_searched(key):
        raise ConfigError(f"search: {key} can't be an axis: {why}")
    # Gone through in a grid on purpose, seeds show how much is luck; drawn, the search would find the luckiest.
    if key == "seed" and axis.draw.kind != "grid":
        raise ConfigError(
            f"search: seed = {axis.draw}: seeds are not drawn, or luck would be searched for; grid(…) tries every "
            "point with each"
        )


def _why_not_searched(key: str) -> str:
    """What NOT_SEARCHED says of a key or the section that it is in; "" for one that is searched."""
    reasons = (why for kept, why in NOT_SEARCHED.items() if key == kept or key.startswith(f"{kept}."))
    return next(reasons, "")


def _try(space: SearchSpace, axis: Axis, value: Value, base: Experiment) -> None:
    """Build the experiment with one axis at one of its values, its conditions met: one point that has it must do."""
    given = _conditions(space, axis) | {axis.key: value}
    refused: ConfigError | None = None
    for trial in range(_OTHERS):
        point = space.sampled(base, seed=0, trial=trial, given=given)
        if axis.key not in point:
            continue  # another axis' range holds what this one is conditional on, and is never drawn just there
        try:
            experiment_with(base, point)
        except ConfigError as error:
            refused = error
        else:
            return
    if refused is not None:
        raise ConfigError(f"search: {axis.key} = {axis.draw}: at {value!r}, {refused}")


def _conditions(space: SearchSpace, axis: Axis) -> Settings:
    """Values of other axes with which an axis is drawn."""
    axes = {other.key: other for other in space.axes}
    met: Settings = {}
    for key, values in axis.when:
        if key in axes:
            met |= _conditions(space, axes[key])
            drawn = [value for value in values if axes[key].draw.holds(value)]
            met |= {key: drawn[0]} if drawn else {}
    return met
