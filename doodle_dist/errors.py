"""The failure that is nobody's typing: it exits with 1, where a wrong request (ValueError) exits with 2."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class WorkFailedError(Exception):
    """Work that was under way could not go on. The message is one line for a person."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and in turn what each wrapper (Ray's, mostly) was raised about, to the root."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        yield error
        # Ray Train keeps each worker's own error, and why it lost one; Ray's task errors keep theirs as `cause`.
        # Where one worker is lost, the others fail for want of it.
        failures = getattr(error, "worker_failures", {}).values()
        of_workers = sorted(failures, key=lambda one: not hasattr(one, "health_check_failure"))
        lost = getattr(error, "health_check_failure", None)
        error = (
            next(iter(of_workers), None) or lost or getattr(error, "cause", None) or error.__cause__ or error
        )


def root_cause(error: BaseException) -> BaseException:
    """What a chain of wrappers was raised about."""
    *_, root = causes(error)
    return root


# What Ray Data appends to the message of every error in one of its tasks, with the settings of its retries.
_RAY_DATAS_ADVICE = "Failed to apply UDF transform after"


def one_line(error: BaseException, limit: int = 600) -> str:
    """An error as one line: its message, or its type where it has none."""
    said = str(error).split(_RAY_DATAS_ADVICE)[0]
    text = " ".join(said.split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"


def mismatch(error: "ValidationError") -> str:
    """The first thing that is not as it should be in a file that was read, and where: ``counts.0: should be …``."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]
