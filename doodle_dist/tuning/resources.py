"""What a trial takes of a cluster, and so how many run at once."""

import math
from dataclasses import dataclass

import ray
import torch

from doodle_dist.config.experiment import Experiment
from doodle_dist.data.stream import StreamPlan
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

    def concurrent(self, have: dict[str, float], most: int) -> int:
        """How many fit into ``have``, a cluster's resources, at once: at most ``most``."""
        fit = math.floor((have.get("CPU", 0.0) - self.data_cpus) / (self.cpus * self.workers) + 1e-9)
        if self.gpus:
            fit = min(fit, math.floor(have.get("GPU", 0.0) / (self.gpus * self.workers) + 1e-9))
        return max(0, min(fit, most))

    def __str__(self) -> str:
        parts = [f"{self.cpus * self.workers:g} CPU{'s' if self.cpus * self.workers != 1 else ''}"]
        if self.gpus:
            parts.append(f"{self.gpus * self.workers:g} GPU")
        return " and ".join(parts)


def fits_in_memory(plans: list[StreamPlan]) -> bool:
    """Whether a dataset's splits are small enough to be read once for all trials, and kept in the object store.

    Its limit is 2 GiB, or a quarter of the smallest node's object store.
    """
    stores = [node["Resources"].get("object_store_memory", 0.0) for node in ray.nodes() if node["Alive"]]
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
