"""Two ranks of torch.distributed, of which this process is the first: one process less to start."""

from collections.abc import Callable
from datetime import timedelta

import torch.distributed as dist
import torch.multiprocessing as mp

# (rank, folder that both know) -> None; runs under the process group of both.
OfRank = Callable[[int, str], None]
# Gloo's own is half an hour, for which a rank would wait for one that failed.
_PATIENCE = timedelta(minutes=2)


def two_ranks(run: OfRank, folder: str) -> None:
    """Run it as rank 0 here and as rank 1 in a process of its own, which ends where this one fails."""
    other = mp.spawn(_second, args=(run, folder), nprocs=1, join=False)
    try:
        _in_group(0, run, folder)
    except BaseException:
        other.processes[0].kill()
        raise
    while not other.join():
        pass


def _second(_: int, run: OfRank, folder: str) -> None:
    _in_group(1, run, folder)


def _in_group(rank: int, run: OfRank, folder: str) -> None:
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2, timeout=_PATIENCE)
    try:
        run(rank, folder)
    finally:
        dist.destroy_process_group()
