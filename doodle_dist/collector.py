"""Python's garbage collector, at rest."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at_rest() -> Iterator[None]:
    """It waits meanwhile: for work that makes very many objects which all stay, a large manifest or torch's modules.

    As they become more it looks through all of the process's again and again: a sixth of the time of importing what a
    worker needs, nearly half of reading a manifest of 100,000 shards.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
