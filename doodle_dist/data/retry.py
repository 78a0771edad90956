"""Trying again where a store was busy or away for a moment: exponential back-off with jitter, up to a deadline.

What is tried again: time-outs, dropped and refused connections, names that don't resolve, 500s, 503 SlowDown, 429. What
is not: a refused key, a missing file or bucket, a full disk; those would come again. The libraries below try for some
seconds themselves; this is the layer that outlasts a restart of the store.
"""

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

# A command's person waits; a training run outlasts the store's restart.
COMMAND_PATIENCE_S, TRAINING_PATIENCE_S = 5.0, 120.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 8.0

_process_patience_s = COMMAND_PATIENCE_S
_patience_s: ContextVar[float | None] = ContextVar("patience_s", default=None)

_TRANSIENT = re.compile(
    r"slow_?down|reduce your request rate|too_?many_?requests|throttl|internal_?(failure|error)"
    r"|service[_ ]?unavailable|network_connection"
    r"|request_?time_?out|timed? ?out|connect(ion)? ?(was |has been )?(refused|reset|aborted|closed)"
    r"|(couldn't|could not|cannot) (connect|resolve)|broken pipe|server ?disconnected|incomplete ?read"
    r"|payload is not completed|curlcode"
    r"|\((http status )?(429|50[0234])\)|status(:| code)? ?(429|50[0234])"
    r"|Status\((unavailable|resource_exhausted|deadline_exceeded|internal)\b",  # as Google's library has it
    re.IGNORECASE,
)
_STATUS = (429, 500, 502, 503, 504)  # of a web server's answer, where an error has it as a number


def be_patient(seconds: float) -> None:
    """How long this process tries from now on."""
    global _process_patience_s
    _process_patience_s = seconds


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """How long this thread tries inside the block."""
    token = _patience_s.set(seconds)
    try:
        yield
    finally:
        _patience_s.reset(token)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may well succeed in a moment."""
    if isinstance(error, (FileNotFoundError, PermissionError, FileExistsError)):
        return False
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    if getattr(error, "status", None) in _STATUS:
        return True
    return bool(_TRANSIENT.search(f"{type(error).__name__} {error}"))


def persistently(do: Callable[[], T], is_worth_it: Callable[[Exception], bool] = is_transient) -> T:
    """``do()``, again and again while what it raises ``is_worth_it``, and patience lasts."""
    given_s = _patience_s.get()
    deadline = time.monotonic() + (_process_patience_s if given_s is None else given_s)
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return do()
        except Exception as error:
            wait_s = pause_s * random.uniform(0.5, 1.5)  # jitter: workers don't all come back at once
            if not is_worth_it(error) or time.monotonic() + wait_s > deadline:
                raise
        time.sleep(wait_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
