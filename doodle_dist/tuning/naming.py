"""Settings as people read them: as much of a key as tells it from the others, and three digits of a number."""

from collections.abc import Iterable, Sequence

from doodle_dist.config.search_space import Settings, Value
from doodle_dist.progress_line import hanging
from doodle_dist.tuning.ledger import SearchRecord


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """``optim.generator.lr`` -> ``generator.lr`` where another key ends in ``lr`` too; by key."""
    keys = list(keys)
    return {key: _shortest(key, keys) for key in keys}


def _shortest(key: str, keys: list[str]) -> str:
    parts = key.split(".")
    for length in range(1, len(parts) + 1):
        tail = ".".join(parts[-length:])
        if sum(other == tail or other.endswith("." + tail) for other in keys) == 1:
            return tail
    return key


def shown(value: Value) -> str:
    """A setting's value: 0.00213, 12,500, true or a word."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else value


def short(settings: Settings, record: SearchRecord) -> str:
    """``generator.lr=0.0021 critic.lr=0.001 …``: the axes of a search that a point has."""
    return _named(settings, [key for key in record.request.config.space if key in settings])


def point_line(number: int, settings: Settings, axes: Sequence[str]) -> str:
    """A point of a search that has not begun, for a terminal or a file."""
    return hanging(f"{number:5}  {_named(settings, axes)}", indent=7)


def _named(settings: Settings, axes: Sequence[str]) -> str:
    names = short_names(axes)
    return " ".join(f"{names[key]}={shown(settings[key])}" for key in axes if key in settings)
