"""Whether an elastic run is about to be started again with more workers, which costs what it hasn't saved.

Ray Train looks for room every ``scaling.grow_every_s`` and ends the workers without a word to them. The same room is
seen from here, mostly sooner: the run saves then, and loses no more than what it trains until Ray Train looks.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from ray.exceptions import RayError

from doodle_dist.config.experiment import ScalingConfig
from doodle_dist.ray_cluster import nodes_of_cluster

_WAIT_S = 0.5


def room_for_more(scaling: ScalingConfig, workers: int) -> Callable[[], bool]:
    """A question, for one rank to ask: do the nodes hold more than the ``workers`` of now? No, where none may come."""
    if not scaling.is_elastic or workers >= scaling.workers:
        return lambda: False
    return Beside(lambda: workers_that_fit(scaling, nodes_of_cluster()) > workers)


class Beside:
    """A question that is asked in a thread, and mostly answered within milliseconds; else the last answer counts.

    Training must not wait for a head that is away, and goes on where the question fails.
    """

    def __init__(self, question: Callable[[], bool]) -> None:
        self.question, self.answer = question, False
        self.thread: threading.Thread | None = None

    def __call__(self) -> bool:
        if self.thread is None or not self.thread.is_alive():
            self.thread = threading.Thread(target=self._ask, daemon=True)
            self.thread.start()
            self.thread.join(_WAIT_S)
        return self.answer

    def _ask(self) -> None:
        with suppress(RayError, OSError, RuntimeError):
            self.answer = self.question()


def workers_that_fit(scaling: ScalingConfig, nodes: Iterable[Mapping[str, float]]) -> int:
    """How many workers Ray Train would start on nodes of these resources, each whole on one; the most at most."""
    fit = sum(scaling.workers_on(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes)
    return min(fit, scaling.workers)
