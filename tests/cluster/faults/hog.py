"""A job that keeps the object store of every node full: `python -m tests.cluster.faults.hog`.

Each node's store is given twice what it holds, and new objects for old ones as long as the job runs.
"""

import time
from collections import deque

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

OBJECT_BYTES = 16 << 20
FULL = "all object stores are full"


@ray.remote(num_cpus=0)
class Hog:
    """Holds objects in the store of its node."""

    def __init__(self, store_bytes: float) -> None:
        self.held: deque[ray.ObjectRef] = deque(maxlen=round(2 * store_bytes / OBJECT_BYTES))

    def fill(self) -> None:
        while len(self.held) < self.held.maxlen:
            self.renew()

    def renew(self) -> None:
        """A new object; the oldest goes where there is no room for it."""
        self.held.append(ray.put(np.zeros(OBJECT_BYTES, np.uint8)))


def main() -> None:
    ray.init()
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    hogs = [
        Hog.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            node["Resources"]["object_store_memory"]
        )
        for node in nodes
    ]
    ray.get([hog.fill.remote() for hog in hogs])
    print(FULL, flush=True)
    while True:
        time.sleep(1)
        ray.get([hog.renew.remote() for hog in hogs])


if __name__ == "__main__":
    main()
