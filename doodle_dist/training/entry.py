"""What the driver hands Ray Train: the function that its workers run, its arguments, and whom it tells of failures.

Light to import: the driver and Ray Train's controller do, before the workers start, and train nothing themselves.
"""

# mypy: allow-subclassing-any

import threading
from typing import Any, TypedDict

import ray.train
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback

from doodle_dist.collector import at_rest
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
    with at_rest():
        from doodle_dist.training.worker import work

    work(**config)


class HandOver(WorkerGroupCallback):
    """Ends workers that aren't handed their function in time, for which Ray Train would wait without end.

    It lies in the object store of the driver's node. A worker's node asks the driver where, once, and where that
    goes unanswered it waits for ever (Ray's pull request 59807, closed). Another start puts it there anew: the
    driver makes one, as for a worker that died as it began.
    """

    def __init__(self, within_s: float = 120.0) -> None:
        self.within_s = within_s
        self.timer: threading.Timer | None = None

    def after_worker_group_start(self, worker_group: Any) -> None:
        actors = [worker.actor for worker in worker_group.get_workers()]
        self.timer = threading.Timer(self.within_s, self._end, args=(actors,))
        self.timer.daemon = True
        self.timer.start()

    def after_worker_group_training_start(self, worker_group: Any) -> None:
        if self.timer:
            self.timer.cancel()

    @staticmethod
    def _end(actors: list[ActorHandle]) -> None:
        for actor in actors:
            ray.kill(actor)


class GiveBack(WorkerGroupCallback, ControllerCallback):
    """Gives back what workers had reserved that died after all were there and before they had their function.

    While they look for each other, that is. Ray Train forgets them there with their placement group, and the next start
    waits for what that holds: for ever, where there is not enough for both. Comes before Ray Train's own callbacks,
    since it is in one of these that they look for each other.
    """

    def __init__(self) -> None:
        # Of the workers that were started, until Ray Train sees to their end.
        self.group: Any = None

    def after_worker_group_start(self, worker_group: Any) -> None:
        self.group = worker_group.get_worker_group_state()

    def after_worker_group_training_start(self, worker_group: object) -> None:
        self.group = None

    def before_controller_execute_failure_decision(self, failure_decision: object) -> None:
        group, self.group = self.group, None
        if group:
            group.shutdown()


class TellFailures(ray.train.UserCallback):
    """Tells the board why workers died: Ray Train starts them again, and says so in its own logs only."""

    def __init__(self, board: ActorHandle) -> None:
        self.board = board

    def after_exception(self, run_context: object, worker_exceptions: dict[int, Exception]) -> None:
        # Where one worker's process dies, the others fail for want of it.
        rank, error = max(worker_exceptions.items(), key=lambda one: isinstance(root_cause(one[1]), RayError))
        self.board.warn.remote(f"worker {rank} failed: {told(error)}")
