"""Modules that a thread imports while whoever needs them later waits for something else."""

import importlib
import threading
from contextlib import suppress

from doodle_dist.collector import at_rest


def begin_to_import(*modules: str) -> threading.Thread:
    """A thread that imports them; one that isn't there is said where it is needed."""

    def work() -> None:
        with at_rest():
            for module in modules:
                with suppress(ImportError):
                    importlib.import_module(module)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread
