"""What an elastic run has reserved of its cluster, given back for a driver that died without doing so.

Ray keeps a reservation for three minutes after it last heard of its run, and gives nobody what is reserved: the same
command would wait so long for the resources of its own dead run. So each start of a run leaves its Ray id beside the
lease, and the next holder of the lease gives back what is reserved under it.
"""

from contextlib import suppress

import ray
from ray.exceptions import RayError

from doodle_dist.data import locations, storage
from doodle_dist.training.lease import FOLDER

_ANSWER_S = 5.0


def take_over(run_uri: str, train_run_id: str) -> None:
    """Give back what the run's last start reserved, and note this one's id. Call it while holding the lease."""
    from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
        get_or_create_autoscaling_coordinator,
    )

    where = locations.join(run_uri, FOLDER, "reserved-by")
    if storage.exists(where):
        before = storage.read_bytes(where).decode()
        with suppress(RayError):  # it expires by itself, later
            coordinator = get_or_create_autoscaling_coordinator()
            ray.get(coordinator.cancel_request.remote(requester_id=f"train-{before}"), timeout=_ANSWER_S)
    storage.write_atomic(where, train_run_id.encode())
