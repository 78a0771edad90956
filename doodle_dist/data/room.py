"""What a Ray Data pipeline knows of the cluster's room when it begins."""

import time
from contextlib import suppress
from typing import Any

_LONGEST_WAIT_S, _PAUSE_S = 2.0, 0.005  # who answers is a process, which the first pipeline starts


class RoomIsKnown:
    """An ExecutionCallback that has a pipeline begin when Ray Data has been told what of the cluster is for it.

    Ray Data asks for it, goes on with none until the answer is there, and looks again after a second: meanwhile it runs
    one task at a time. Seen with Ray 2.60.
    """

    def before_execution_starts(self, executor: Any) -> None:
        """Wait for the answer, some milliseconds; where none comes, begin without.

        No CPU is an answer, too: workers may have them all.
        """
        until = time.monotonic() + _LONGEST_WAIT_S
        with suppress(AttributeError):  # Ray Data's own business, which another release may do in another way
            while executor._cluster_autoscaler.get_total_resources().is_zero() and time.monotonic() < until:
                time.sleep(_PAUSE_S)

    def on_execution_step(self, executor: object) -> None: ...

    def after_execution_succeeds(self, executor: object) -> None: ...

    def after_execution_fails(self, executor: object, error: Exception) -> None: ...
