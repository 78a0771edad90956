"""Ray Train's process group for torch, and who imports torch for it. tests/cluster trains with it."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.train.torch import TorchConfig
from ray.train.torch.config import TorchConfigContextManager

from doodle_dist.training.torch_backend import LateTorchConfig


def test_it_is_as_ray_trains_own_in_all_that_is_asked_before_torch_is_there() -> None:
    ours, theirs = LateTorchConfig("gloo"), TorchConfig("gloo")
    assert ours.torch_config() == theirs
    assert ours.framework == theirs.framework
    assert ours.backend_cls.share_cuda_visible_devices == theirs.backend_cls.share_cuda_visible_devices
    assert ours.backend_cls.has_replica_groups == theirs.backend_cls.has_replica_groups
    assert isinstance(ours.train_func_context(), TorchConfigContextManager)


def test_what_is_done_is_done_by_ray_trains_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    own = TorchConfig().backend_cls
    for what in ("on_start", "on_shutdown", "on_training_start"):

        def note(self: object, group: object, config: TorchConfig, what: str = what) -> None:
            asked.append((what, group, config.backend))

        monkeypatch.setattr(own, what, note)
    config, group = LateTorchConfig("nccl"), SimpleNamespace()
    backend: Any = config.backend_cls()
    backend.on_start(group, config)
    backend.on_training_start(group, config)
    backend.on_shutdown(group, config)
    assert asked == [
        ("on_start", group, "nccl"),
        ("on_training_start", group, "nccl"),
        ("on_shutdown", group, "nccl"),
    ]
