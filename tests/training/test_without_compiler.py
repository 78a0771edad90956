"""Optimisers and ranks that don't import torch's compiler, and do all else as torch's do."""

import inspect
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from doodle_dist.config.optim import OptimizerConfig
from doodle_dist.training.optim import Optimizer
from doodle_dist.training.task import Clock
from doodle_dist.training.without_compiler import data_parallel, eager_step
from tests.ranks import two_ranks


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop"])
def test_a_run_takes_up_its_moments_and_steps_without_the_compiler(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for method in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        wrapped = getattr(torch.optim.Optimizer, method).__wrapped__
        # Whoever asked torch for the same in this process before has left such a mark.
        monkeypatch.delattr(wrapped, "__dynamo_disable", raising=False)
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)
    with pytest.raises(ImportError):
        torch.optim.SGD(nn.Linear(3, 1).parameters(), 0.1)  # as it would be
    net = nn.Linear(3, 1)
    optimizer = Optimizer(net, OptimizerConfig(name=name, lr=0.1, schedule="constant", warmup_drawings=0))
    before = net.weight.detach().clone()
    optimizer.plan(Clock(0, 0, 100))
    optimizer.descend(net(torch.ones(2, 3)).sum(), 1)
    assert not torch.equal(net.weight, before)
    optimizer.load_state_dict(optimizer.state_dict())


def test_a_step_is_torchs_to_the_bit_with_its_hooks_and_its_name_in_a_profile() -> None:
    ours, theirs = (net := nn.Linear(3, 2)), deepcopy(net)
    optimizers = [torch.optim.Adam(each.parameters(), 0.1, fused=True) for each in (ours, theirs)]
    told: list[object] = []
    optimizers[0].register_step_pre_hook(lambda *_: told.append("before"))
    optimizers[0].register_step_post_hook(lambda *_: told.append("after"))
    step = eager_step(optimizers[0])
    with torch.profiler.profile() as profile:
        for _ in range(3):
            for net in (ours, theirs):
                net(torch.ones(4, 3)).square().sum().backward()
            with torch.no_grad():
                step()
            optimizers[1].step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert told == ["before", "after"] * 3
    (named,) = [event for event in profile.key_averages() if event.key == "Optimizer.step#Adam.step"]
    assert named.count == 6


def _averages_without_the_compiler(rank: int, folder: str) -> None:
    """On each of two ranks: one has inputs of 1, the other of 3."""
    with pytest.MonkeyPatch.context() as patch:
        forward = inspect.unwrap(DistributedDataParallel._inside_ddp_forward)
        patch.delattr(forward, "__dynamo_disable", raising=False)
        if "_dynamo" in vars(torch):
            patch.delattr(torch, "_dynamo")
        patch.setitem(sys.modules, "torch._dynamo", None)
        with pytest.raises(ImportError):
            DistributedDataParallel(nn.Linear(2, 1))  # as it would be
        patch.delitem(sys.modules, "torch._dynamo")
        patch.setitem(sys.modules, "torch._dynamo.utils", None)  # whoever imports the compiler fails at that
        net = nn.Linear(2, 1, bias=False)
        nn.init.constant_(net.weight, 1.0 + rank)
        both = data_parallel(net, torch.device("cpu"))
        both(torch.full((1, 2), 1.0 + 2 * rank)).sum().backward()
        assert net.weight.grad is not None
        assert net.weight.grad.tolist() == [[2.0, 2.0]], "the mean of both ranks'"
        assert net.weight.tolist() == [[1.0, 1.0]], "the first rank's"
        assert "torch._dynamo" not in sys.modules
        assert "_dynamo" not in vars(torch)


@pytest.mark.slow
def test_two_ranks_average_their_gradients_without_the_compiler(tmp_path: Path) -> None:
    two_ranks(_averages_without_the_compiler, str(tmp_path))
