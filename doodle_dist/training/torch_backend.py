"""torch's process group under Ray Train, with torch imported by the workers alone.

Importing torch takes two seconds of a core, and neither a run's driver nor Ray Train's controller trains anything. Ray
Train's own `TorchTrainer` and `TorchConfig` import it in both. What the controller does for a process group is written
here again; what the workers do is Ray Train's own code.
"""

# mypy: allow-subclassing-any

import os
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.ray_constants import env_integer
from ray.exceptions import GetTimeoutError
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig
from ray.train.constants import (
    DEFAULT_TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S,
    TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S,
)
from ray.train.v2._internal.util import TrainingFramework


@dataclass
class LateTorchConfig(BackendConfig):
    """Ray Train's TorchConfig, made where torch is. ``backend`` is torch.distributed's: gloo, nccl."""

    backend: str

    @property
    def backend_cls(self) -> type[Backend]:
        return _LateTorchBackend

    @property
    def train_func_context(self) -> Any:
        return _on_its_device

    @property
    def framework(self) -> TrainingFramework:
        return TrainingFramework.TORCH


def _on_its_device() -> AbstractContextManager[None]:
    """What a worker's function runs in: torch's current device is the worker's."""
    from ray.train.torch import TorchConfig

    context: AbstractContextManager[None] = TorchConfig().train_func_context()
    return context


class _LateTorchBackend(Backend):
    # As Ray Train's backend for torch has it, which can't be asked without torch.
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: LateTorchConfig) -> None:
        address, port = worker_group.execute_single(0, get_address_and_port)
        ray.get(worker_group.execute_async(_join, backend_config.backend, address, port))

    def on_shutdown(self, worker_group: Any, backend_config: LateTorchConfig) -> None:
        within_s = env_integer(
            TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S, DEFAULT_TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S
        )
        leaving = worker_group.execute_async(_leave, len(worker_group) > 1)
        with suppress(GetTimeoutError):  # they end all the same
            ray.get(leaving, timeout=within_s)


def _join(backend: str, address: str, port: int) -> None:
    """In a worker: join the process group whose first rank listens at ``address`` and ``port``."""
    from ray.train.torch.config import (
        TorchConfig,
        _set_torch_distributed_env_vars,
        _setup_torch_process_group,
    )

    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = address, str(port)
    _set_torch_distributed_env_vars()
    own = ray.train.get_context()
    _setup_torch_process_group(
        backend, own.get_world_rank(), own.get_world_size(), "env://", TorchConfig().timeout_s
    )


def _leave(destroy_process_group: bool) -> None:
    """In a worker: leave the process group, and give back what its GPU has cached."""
    from ray.train.torch.config import _shutdown_torch

    _shutdown_torch(destroy_process_group)
