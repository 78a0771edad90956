"""Which errors are of the place that a trial runs in, its store, its nodes or its cluster, and which its own."""

import torch
from ray.exceptions import (
    ActorUnavailableError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    WorkerCrashedError,
)

from doodle_dist.data.storage_errors import DamagedError, StorageError
from doodle_dist.data.stream import SilentStreamError
from doodle_dist.errors import causes, one_line, root_cause
from doodle_dist.training.lease import LeaseLostError
from doodle_dist.training.loop import StoppedError
from doodle_dist.training.reasons import NodeError

_NODE_DIED = "its node has died"  # Ray's words for an actor that went down with its node


def is_of_the_place(error: BaseException) -> bool:
    """Whether the same trial may well go better later, or elsewhere.

    A process that died alone is the trial's own: want of memory, mostly.
    """
    # Where one worker is lost, the others fail for want of it.
    if failures := getattr(error, "worker_failures", None):
        return any(map(is_of_the_place, failures.values()))
    chain = list(causes(error))
    if any(isinstance(cause, DamagedError) for cause in chain):
        return False
    if any(isinstance(cause, StorageError | LeaseLostError | SilentStreamError | OSError) for cause in chain):
        return True
    root = root_cause(error)
    if isinstance(root, ActorUnavailableError):
        return True
    if isinstance(root, RayActorError):
        return root.preempted or _NODE_DIED in str(root)
    if isinstance(root, WorkerCrashedError | OutOfMemoryError):
        return False
    # Ray Train's own: workers that could not be started, or were not heard of.
    return isinstance(root, RayError) or f"{type(root).__module__}.".startswith("ray.train.")


def own_reason(error: BaseException, gpu_share: float = 1.0) -> str:
    """Why a trial failed by itself, in one line: what was raised inside of Ray's wrappers.

    ``gpu_share`` is the part of a GPU's memory that it was allowed.
    """
    inside = next((one for one in causes(error) if not _is_rays(one)), root_cause(error))
    if isinstance(inside, StoppedError | ValueError | DamagedError | NodeError):
        return one_line(inside)
    kind = type(inside).__name__
    if isinstance(inside, MemoryError | torch.OutOfMemoryError):
        kind = "out of memory"
    if isinstance(inside, torch.OutOfMemoryError) and gpu_share < 1:
        kind += f" in its share of the GPU ({gpu_share:.2f}; --gpus-per-trial gives more)"
    return f"{kind}: {one_line(inside)}"


def _is_rays(error: BaseException) -> bool:
    return type(error).__module__.startswith("ray.")
