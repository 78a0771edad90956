"""Who reads a dataset, Ray Data's tasks or the workers: what data, settings and the cluster's room all have to know."""

from typing import Literal

Read = Literal["auto", "tasks", "worker"]
Rasterize = Literal["worker", "tasks", "device"]


def who_reads(read: Read, rasterize: Rasterize, nodes: int) -> Literal["tasks", "worker"]:
    """Ray Data's tasks or the workers, on so many nodes that have cores.

    ``auto``: tasks have cores that workers lack only where there are several nodes. A single node's are the workers'
    own, and handing drawings from process to process costs more than reading them.
    """
    if read != "auto":
        return read
    return "worker" if nodes <= 1 and rasterize != "tasks" else "tasks"
