"""Work on a split's drawings, cut into parts: Ray tasks, or done here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Spread:
    """Into how many parts work is cut, and where they are done: 1 is done here, without Ray.

    ``wait_s`` are seconds to wait for an autoscaler; ``debug`` shows Ray's own log.
    """

    workers: int = 1
    local: bool = False
    wait_s: float = 0.0
    debug: bool = field(default=False, compare=False)

    def parts(self, work: Callable[[int, int], T], at_most: int | None = None) -> list[T]:
        """What each of the parts (0, N) ... (N - 1, N) comes to, N the workers, ``at_most`` as many as that.

        A task has a GPU where there is one for each. Raises NotEnoughResourcesError where the cluster is too small.
        """
        workers = min(self.workers, at_most or self.workers)
        if workers == 1:
            return [work(0, 1)]
        import ray

        from doodle_dist import log
        from doodle_dist.ray_cluster import Need, check_resources, connect

        need = Need(workers, cpus_per_worker=1, gpus_per_worker=0, data_cpus=0)
        connect(need, local=self.local, debug=self.debug)
        check_resources(need, self.wait_s)
        there = ray.cluster_resources().get("GPU", 0.0)
        gpus = 1 if there >= workers else 0
        if there and not gpus:
            log.say(f"working on CPUs: {workers} workers, and the cluster has {there:g} GPUs")
        # Not by `options`: with them a process that holds one GPU may be used again for a task of another.
        task = ray.remote(num_cpus=1, num_gpus=gpus)(_part)
        shared = ray.put(work)  # nets and all, once
        found: list[T] = ray.get([task.remote(shared, part, workers) for part in range(workers)])
        return found


HERE = Spread()


def _part(work: Callable[[int, int], T], part: int, parts: int) -> T:
    return work(part, parts)
