"""Whether a search's folder holds the search that is asked for: what differs, key by key."""

from doodle_dist.config.load import ConfigError, build, flattened
from doodle_dist.config.search import SearchConfig
from doodle_dist.config.search_check import CHANGES_NOTHING
from doodle_dist.config.search_space import Axis
from doodle_dist.data import locations
from doodle_dist.tuning.evaluator import is_evaluators_name
from doodle_dist.tuning.ledger import Request, read_search

# What changes nothing that is searched for: names and places, what a trial takes, and when it writes what.
_ANYTHING_GOES = (
    "preset",
    "run",
    "storage",
    "scaling",
    "train.checkpoint_every_drawings",
    *CHANGES_NOTHING,
)
_SHOWN = 3


def refuse_another(uri: str, request: Request, resume: bool) -> None:
    """Raise ConfigError where another search has the name, saying what differs; with ``resume`` where none has.

    More trials than before are the same search, and so is one on other machines.
    """
    found = read_search(uri)
    if found is None:
        if resume:
            raise ConfigError(f"--resume: there is no search at {locations.public(uri)}")
        return
    had, asked = _settings(uri, found.request), _settings(uri, request)
    told = [
        f"{key} is {had.get(key, 'not set')} there and {asked.get(key, 'not set')} here"
        for key in dict.fromkeys((*had, *asked))
        if had.get(key) != asked.get(key)
    ]
    if told:
        more = f", and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
        raise ConfigError(
            f"{locations.public(uri)} holds another search: {'; '.join(told[:_SHOWN])}{more}; give --run another name"
        )


def _settings(uri: str, request: Request) -> dict[str, object]:
    """All that makes a search what it is, by key; what is not given has its default."""
    try:
        experiment = flattened(build(request.experiment).model_dump(mode="json"))
        table = SearchConfig.model_validate(request.search)
    except ValueError as error:
        raise ConfigError(f"{locations.public(uri)} holds a search of another release: {error}") from None
    kept = {
        key: value
        for key, value in experiment.items()
        if not any(key == free or key.startswith(f"{free}.") for free in _ANYTHING_GOES)
    }
    judge = locations.basename(kept["gan.judge"])
    if is_evaluators_name(judge):  # which says all of it, wherever it lies
        kept["gan.judge"] = judge
    axes = {f"search.space.{axis.key}": _described(axis) for axis in table.axes().without(request.fixed).axes}
    lengths = {f"search.{k}": v for k, v in table.model_dump(exclude={"space", "scheduler"}).items()}
    command = {"--seed": request.seed, "--scheduler": request.scheduler, "--search": request.searcher}
    return command | axes | lengths | kept


def _described(axis: Axis) -> str:
    also = f" also {', '.join(axis.also)}" if axis.also else ""
    when = "".join(f" when {key} in {list(values)}" for key, values in axis.when)
    return f"{axis.draw}{also}{when}"
