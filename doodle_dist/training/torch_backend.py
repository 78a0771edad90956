"""torch's process group, set up by Ray Train's own code, with torch imported no sooner than somebody needs it.

Importing torch takes two seconds of a core. A run's driver has no need of it, and Ray Train's controller none before
its workers are there: it imports it while their processes start. Ray Train's own `TorchTrainer` has it in both, first
of all.
"""

# mypy: allow-subclassing-any

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.util import TrainingFramework

from doodle_dist.training.early_imports import begin_to_import

if TYPE_CHECKING:
    from ray.train.torch import TorchConfig


@dataclass
class LateTorchConfig(BackendConfig):
    """Ray Train's TorchConfig, made where it is used. ``backend`` is torch.distributed's: gloo, nccl."""

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

    def torch_config(self) -> "TorchConfig":
        """Ray Train's own. Imports torch."""
        from ray.train.torch import TorchConfig

        return TorchConfig(backend=self.backend)


def _on_its_device() -> AbstractContextManager[None]:
    """What a worker's function runs in: torch's current device is the worker's."""
    from ray.train.torch import TorchConfig

    context: AbstractContextManager[None] = TorchConfig().train_func_context()
    return context


class _LateTorchBackend(Backend):
    # As Ray Train's backend for torch has it, which can't be asked without torch.
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: LateTorchConfig) -> None:
        config = backend_config.torch_config()
        config.backend_cls().on_start(worker_group, config)

    def on_training_start(self, worker_group: Any, backend_config: LateTorchConfig) -> None:
        config = backend_config.torch_config()
        config.backend_cls().on_training_start(worker_group, config)

    def on_shutdown(self, worker_group: Any, backend_config: LateTorchConfig) -> None:
        config = backend_config.torch_config()
        config.backend_cls().on_shutdown(worker_group, config)


class ImportTorchMeanwhile(WorkerGroupCallback):
    """Has the controller import torch while it waits for its workers' processes."""

    def before_worker_group_start(self, worker_group_context: object) -> None:
        begin_to_import("ray.train.torch.config")
