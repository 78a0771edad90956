"""What the driver hands Ray Train: the function that its workers run, its arguments, and whom it tells of failures.

Light to import: the driver and Ray Train's controller do, before the workers start, and train nothing themselves.
"""

# mypy: allow-subclassing-any

from typing import TypedDict

import ray.train
from ray.actor import ActorHandle
from ray.exceptions import RayError

from doodle_dist.errors import root_cause
from doodle_dist.training.lease import Lease
from doodle_dist.training.reasons import told


class WorkerConfig(TypedDict):
    """What the driver hands every worker: plain values, and the actor that shows progress."""

    experiment: dict[str, object]
    run_uri: str
    board: ActorHandle | None
    report_at: tuple[int, ...]
    lease: Lease | None


def train_loop_per_worker(config: WorkerConfig) -> None:
    """The function that Ray Train runs on every worker, at every start of the worker group."""
    from doodle_dist.training.worker import work

    work(**config)


class TellFailures(ray.train.UserCallback):
    """Tells the board why workers died: Ray Train starts them again, and says so in its own logs only."""

    def __init__(self, board: ActorHandle) -> None:
        self.board = board

    def after_exception(self, run_context: object, worker_exceptions: dict[int, Exception]) -> None:
        # Where one worker's process dies, the others fail for want of it.
        rank, error = max(worker_exceptions.items(), key=lambda one: isinstance(root_cause(one[1]), RayError))
        self.board.warn.remote(f"worker {rank} failed: {told(error)}")
