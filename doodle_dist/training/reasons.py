"""Why a run ended: which errors no new start of its workers would mend, and how they are told. Without torch."""

import errno
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from doodle_dist.data.storage_errors import DamagedError, StorageError
from doodle_dist.errors import causes, one_line, root_cause


class NodeError(Exception):
    """What this node can't do, and others may: raised, so that the ranks that could don't wait for this one."""


@contextmanager
def on_this_node(kind: type[ValueError] = ValueError) -> Iterator[None]:
    """An error of this ``kind`` inside is about what this node finds, which others may find otherwise: NodeError,
    naming it."""
    try:
        yield
    except kind as error:
        raise NodeError(f"on {socket.gethostname()}: {one_line(error)}") from error


def reason_to_stop(error: BaseException) -> str:
    """Why a worker's error would meet the next start of the workers too; "" where that may well go better.

    A file that is damaged, a disk that is full, and what the driver found and this node does not.
    """
    for cause in causes(error):
        if isinstance(cause, StorageError) and getattr(cause.__cause__, "errno", None) == errno.ENOSPC:
            return f"{one_line(cause)} ({socket.gethostname()}): make room, and the same command goes on"
        # Itself about an error of the file's reader, and wrapped where it was met in a task of Ray Data.
        if isinstance(cause, DamagedError | NodeError):
            return one_line(cause)
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return (
                f"no space left on {tempfile.gettempdir()} of {socket.gethostname()}, where checkpoints and "
                "curves wait for their upload: make room, and the same command goes on"
            )
    return ""


# Ray's own words come with advice of many lines; after these, what happened stands.
_DETAIL = re.compile(r"(?:exit detail:|The actor (?:is dead|died) because|The actor's node was)\s+(.+)")
_PLAINLY = {
    "unexpectedly exits with a connection error": "its process ended at once: killed, by a person or by the kernel "
    "for want of memory, or crashed",
    "is temporarily unavailable": "it can't be reached: its node is cut off or gone",
}
_LENGTH = 240


def told(error: BaseException) -> str:
    """In one line, why a worker died."""
    root = root_cause(error)
    text = " ".join(str(root).split()) or type(root).__name__
    while found := _DETAIL.search(text):
        text = found.group(1)
    plain = (said for words, said in _PLAINLY.items() if words in text)
    return next(plain, text if len(text) <= _LENGTH else text[: _LENGTH - 1] + "…")
