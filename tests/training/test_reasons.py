"""Why a run ended: what is noted for good, what is tried again, and what is said of a worker that died."""

import errno
import socket
import tempfile

import pytest
from ray.train.v2.api.exceptions import WorkerGroupError

from doodle_dist.data.storage_errors import DamagedError, StorageError, errors_about
from doodle_dist.training.reasons import (
    NodeError,
    on_this_node,
    reason_to_stop,
    told,
)


def wrapped(cause: Exception) -> Exception:
    outer = RuntimeError("a task failed")
    outer.__cause__ = cause
    return outer


def test_damage_and_a_full_disk_stop_a_run_wherever_in_the_chain_they_are() -> None:
    assert reason_to_stop(wrapped(DamagedError("part-3 is damaged"))) == "part-3 is damaged"
    full = OSError(errno.ENOSPC, "No space left on device")
    for error in (full, wrapped(full)):
        assert reason_to_stop(error).startswith(f"no space left on {tempfile.gettempdir()} of ")


def test_a_full_disk_that_the_run_lies_on_is_named_and_not_the_one_of_uploads() -> None:
    with pytest.raises(StorageError) as error, errors_about("/runs/mine/audit/0.arrow"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert reason_to_stop(wrapped(error.value)).startswith("no space left on /runs/mine/audit/0.arrow (")


def test_what_only_this_node_lacks_is_told_with_its_name_and_stops_the_run() -> None:
    with pytest.raises(NodeError, match=f"on {socket.gethostname()}: no data here") as error, on_this_node():
        raise ValueError("no data here")
    assert reason_to_stop(wrapped(error.value)) == f"on {socket.gethostname()}: no data here"
    assert not isinstance(error.value, ValueError), "which all ranks are thought to meet alike"


@pytest.mark.parametrize(
    "error",
    [StorageError("s3://b is unreachable"), OSError(errno.EIO, "input/output error"), ValueError("x")],
)
def test_other_errors_are_worth_another_start(error: Exception) -> None:
    assert reason_to_stop(error) == ""
    assert reason_to_stop(wrapped(error)) == ""


RAYS_WORDS = """The actor died unexpectedly before finishing this task.
	class_name: RayTrainWorker
	actor_id: 3f2a
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: {detail}"""


@pytest.mark.parametrize(
    ("detail", "said"),
    [
        (
            "Worker unexpectedly exits with a connection error code 2. End of file. There are some potential root "
            "causes. (1) The process is killed by SIGKILL by OOM killer due to high memory usage. (2) …",
            "its process ended at once: killed, by a person or by the kernel for want of memory, or crashed",
        ),
        (
            "Task was killed due to the node running low on memory.\nMemory on the node was 23.1GB / 24.0GB.",
            "Task was killed due to the node running low on memory. Memory on the node was 23.1GB / 24.0GB.",
        ),
    ],
)
def test_rays_pages_about_a_dead_worker_become_a_line(detail: str, said: str) -> None:
    assert told(wrapped(RuntimeError(RAYS_WORDS.format(detail=detail)))) == said


class LostError(Exception):
    """As Ray Train's, which keeps why it lost a worker beside its cause."""

    def __init__(self, failure: Exception) -> None:
        super().__init__("A worker health check failed. Worker info: …")
        self.health_check_failure = failure


def test_a_lost_worker_is_told_by_why_it_was_lost() -> None:
    said = "The actor died unexpectedly.\n\tip: 10.0.0.3\nThe actor died because its node has died. Node Id: 95a1"
    assert told(LostError(RuntimeError(said))) == "its node has died. Node Id: 95a1"
    said = (
        "The actor e7028b is unavailable: The actor is temporarily unavailable: RpcError: failed to connect …"
    )
    assert told(LostError(RuntimeError(said))) == "it can't be reached: its node is cut off or gone"


def test_where_a_worker_is_lost_the_others_are_not_to_blame() -> None:
    peer = RuntimeError("[/pytorch/gloo/pair.cc:547] Connection closed by peer [10.0.0.3]:39251")
    lost = LostError(RuntimeError("The actor died because its node has died. Node Id: 95a1"))
    assert told(WorkerGroupError("two failed", {0: peer, 1: lost})) == "its node has died. Node Id: 95a1"
    assert told(WorkerGroupError("one failed", {0: peer})) == str(peer)


def test_an_error_without_words_is_told_by_its_name() -> None:
    assert told(KeyError()) == "KeyError"
    assert len(told(ValueError("long " * 500))) <= 240
