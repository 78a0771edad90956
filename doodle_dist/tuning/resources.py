"""What a trial takes of a cluster, and so how many run at once."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import ray
import torch
from ray._private import state

from doodle_dist.config.experiment import Experiment, whole_workers
from doodle_dist.data.stream_plan import StreamPlan
from doodle_dist.ray_cluster import NotEnoughResourcesError, nodes_of_cluster
from doodle_dist.tuning.probe import peak_gpu_bytes

# A shared GPU is left this much of its memory: fragmentation, and CUDA's own context of each process.
_GPU_SPARE, _CONTEXT_BYTES = 0.1, 600 << 20
_MOST_TRIALS_PER_GPU = 16
_MEMORY_SHARE, _MEMORY_BYTES = 0.25, 2 << 30


@dataclass(frozen=True)
class TrialResources:
    """What one trial takes. ``data_cpus`` are kept free for Ray Data where each trial streams for itself."""

    cpus: float
    gpus: float
    workers: int
    data_cpus: float

    def concurrent(self, nodes: Iterable[Mapping[str, float]], most: int) -> int:
        """How many fit at once on ``nodes``, each with its own resources: at most ``most``.

        A worker is on one node; those of a trial may be on several.
        """
        places = [(dict(node), self._workers_on(node)) for node in nodes]
        total = sum(fit for _, fit in places)
        if self.data_cpus:
            # Ray Data's share is taken where it costs the least.
            costs = [
                fit - self._workers_on(node | {"CPU": node["CPU"] - self.data_cpus})
                for node, fit in places
                if node.get("CPU", 0.0) >= self.data_cpus
            ]
            total -= min(costs, default=total)
        return max(0, min(total // self.workers, most))

    def _workers_on(self, node: Mapping[str, float]) -> int:
        return whole_workers(node.get("CPU", 0.0), node.get("GPU", 0.0), self.cpus, self.gpus)

    def __str__(self) -> str:
        return _listed(self.cpus * self.workers, self.gpus * self.workers)


def _listed(cpus: float, gpus: float) -> str:
    parts = [f"{cpus:g} CPU{'s' if cpus != 1 else ''}"]
    if gpus:
        parts.append(f"{gpus:g} GPU{'s' if gpus > 1 else ''}")
    return " and ".join(parts)


def nodes_now() -> list[dict[str, float]]:
    """Of each node what nobody has taken."""
    return list(state.available_resources_per_node().values())


def places(resources: TrialResources, nodes: list[dict[str, float]], most: int) -> int:
    """How many trials run at once on a cluster's ``nodes``. Raises NotEnoughResourcesError for none."""
    if found := resources.concurrent(nodes, most):
        return found
    worker = _listed(resources.cpus, resources.gpus)
    takes = f"{resources.workers} workers of {worker}, each" if resources.workers > 1 else f"{worker}, all"
    beside = f", beside {_listed(resources.data_cpus, 0)} for Ray Data" if resources.data_cpus else ""
    kinds = Counter(_listed(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes)
    have = " and ".join(f"{count} node{'s' * (count > 1)} of {kind}" for kind, count in kinds.items())
    raise NotEnoughResourcesError(
        f"no trial fits: one takes {takes} on one node{beside}, and the cluster has {have or 'no nodes'}; "
        "--cpus, --gpus-per-trial and --workers-per-trial say what it takes, and --wait SECONDS lets a cluster grow"
    )


def fits_in_memory(plans: list[StreamPlan]) -> bool:
    """Whether a dataset's splits are small enough to be read once for all trials, and kept in the object store.

    Its limit is 2 GiB, or a quarter of the smallest node's object store.
    """
    stores = [node.get("object_store_memory", 0.0) for node in nodes_of_cluster()]
    limit = min(_MEMORY_BYTES, _MEMORY_SHARE * min(stores, default=0.0))
    return sum(plan.rows * plan.bytes_of_drawing for plan in plans) <= limit


def gpu_share(needed_bytes: int, total_bytes: int) -> float:
    """The fraction of a GPU that a trial is given: one of so many equal shares as hold ``needed_bytes``."""
    usable = total_bytes * (1 - _GPU_SPARE)
    return 1 / max(1, min(_MOST_TRIALS_PER_GPU, int(usable // (needed_bytes + _CONTEXT_BYTES))))


@ray.remote(num_gpus=1, max_calls=1)
def measured_gpu_share(experiment: dict[str, object]) -> float:
    """Train a few steps of an experiment on a GPU, and say what share of it such a trial takes."""
    device = torch.device("cuda")
    peak = peak_gpu_bytes(Experiment.model_validate(experiment), device)
    return gpu_share(peak, torch.cuda.get_device_properties(device).total_memory)
