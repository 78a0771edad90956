"""Ray Train's process group for torch. tests/cluster trains with it; tests/test_imports.py sees who imports torch."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch
from ray.train.torch import TorchConfig
from ray.train.torch import config as theirs
from ray.train.torch.config import TorchConfigContextManager

from doodle_dist.training.torch_backend import LateTorchConfig


def test_it_is_as_ray_trains_own_in_all_that_is_asked_before_torch_is_there() -> None:
    ours, own = LateTorchConfig("gloo"), TorchConfig("gloo")
    assert ours.framework == own.framework
    assert ours.backend_cls.share_cuda_visible_devices == own.backend_cls.share_cuda_visible_devices
    assert ours.backend_cls.has_replica_groups == own.backend_cls.has_replica_groups
    assert isinstance(ours.train_func_context(), TorchConfigContextManager)


class Group:
    """Workers of Ray Train, all of them this process; each call says which of them it is."""

    def __init__(self, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.workers, self.rank = workers, 0
        context = SimpleNamespace(get_world_rank=lambda: self.rank, get_world_size=lambda: workers)
        monkeypatch.setattr(ray.train, "get_context", lambda: context)
        monkeypatch.setattr(ray, "get", lambda done, timeout=None: done)

    def __len__(self) -> int:
        return self.workers

    def execute_single(self, rank: int, function: Any) -> object:
        assert rank == 0
        return function()

    def execute_async(self, function: Any, *args: object, **how: object) -> list[object]:
        done = []
        for rank in range(self.workers):
            self.rank = rank
            done.append(function(*args, **how))
        return done


@pytest.mark.parametrize("workers", [1, 2])
def test_the_workers_do_what_ray_trains_own_has_them_do(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both, and with the same calls: torch's process group is joined and left alike."""
    told: list[object] = []
    group: Any = Group(workers, monkeypatch)
    monkeypatch.setattr("doodle_dist.training.torch_backend.get_address_and_port", lambda: ("10.0.0.1", 1234))
    monkeypatch.setattr(theirs, "get_address_and_port", lambda: ("10.0.0.1", 1234))
    monkeypatch.setattr(theirs, "_set_torch_distributed_env_vars", lambda: told.append(("named", group.rank)))
    monkeypatch.setattr(theirs.dist, "init_process_group", lambda **how: told.append(how))
    monkeypatch.setattr(theirs.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(theirs.dist, "destroy_process_group", lambda: told.append("left"))
    monkeypatch.setattr("ray.air._internal.torch_utils.get_devices", lambda: [torch.device("cpu")])
    # Ray Train's own asks for each worker in turn what ours asks for all.
    group.execute = group.execute_async
    group.execute_single_async = lambda rank, function, **how: function(**how)

    def of(config: Any) -> list[object]:
        told.clear()
        backend = config.backend_cls()
        backend.on_start(group, config)
        backend.on_training_start(group, config)
        backend.on_shutdown(group, config)
        return sorted(told, key=repr)

    for name in ("MASTER_ADDR", "MASTER_PORT", "TORCH_NCCL_ASYNC_ERROR_HANDLING"):
        monkeypatch.setenv(name, "to be put back")
    ours = of(LateTorchConfig("nccl"))
    assert ours == of(TorchConfig("nccl"))
    assert len(ours) == (2 * workers if workers == 1 else 3 * workers)
