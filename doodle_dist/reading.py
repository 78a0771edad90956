"""Who reads a dataset, Ray Data's tasks or the workers, and how much: what data, settings and the cluster's room all
have to know."""

from typing import Literal

Read = Literal["auto", "tasks", "worker"]
Rasterize = Literal["worker", "tasks", "device"]

STROKES_BYTES = 128  # about what a drawing's strokes take on their way to a rank


def bytes_of_drawing(*, is_strokes: bool, rasterize: Rasterize, pixels: int) -> int:
    """What a drawing takes on its way to a rank: its ``pixels`` (all channels, a byte each), or about what strokes
    take, where the dataset holds these and tasks don't rasterise."""
    return STROKES_BYTES if is_strokes and rasterize != "tasks" else pixels


def who_reads(read: Read, rasterize: Rasterize, nodes: int) -> Literal["tasks", "worker"]:
    """Ray Data's tasks or the workers, on so many nodes that have cores.

    ``auto``: tasks have cores that workers lack only where there are several nodes. A single node's are the workers'
    own, and handing drawings from process to process costs more than reading them.
    """
    if read != "auto":
        return read
    return "worker" if nodes <= 1 and rasterize != "tasks" else "tasks"
