"""What a Ray Data pipeline knows of the cluster's room when it begins."""

import time
from contextlib import suppress
from typing import Any

_LONGEST_WAIT_S, _PAUSE_S = 0.5, 0.005


class RoomIsKnown:
    """An ExecutionCallback that has a pipeline begin when Ray Data has been told how many CPUs there are for it.

    Ray Data asks for it, goes on with none until the answer is there, and looks again after a second: meanwhile it runs
    one task at a time. Seen with Ray 2.60.
    """

    def before_execution_starts(self, executor: Any) -> None:
        """Wait for the answer, some milliseconds; where there is none in half a second, begin without."""
        until = time.monotonic() + _LONGEST_WAIT_S
        with suppress(AttributeError):  # Ray Data's own business, which another release may do in another way
            while not executor._cluster_autoscaler.get_total_resources().cpu and time.monotonic() < until:
                time.sleep(_PAUSE_S)

    def on_execution_step(self, executor: object) -> None: ...

    def after_execution_succeeds(self, executor: object) -> None: ...

    def after_execution_fails(self, executor: object, error: Exception) -> None: ...
