"""An optimiser that goes on from a checkpoint: moments of before, settings of now."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from doodle_dist.config.optim import OptimizerConfig
from doodle_dist.training.optim import Optimizer
from doodle_dist.training.task import Clock


def descend(optimizer: Optimizer, loss: Tensor, clock: Clock) -> None:
    optimizer.plan(clock)
    optimizer.descend(loss, 1)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop"])
def test_settings_that_were_changed_count_after_a_resume(name: str) -> None:
    net = nn.Linear(3, 1)
    config = OptimizerConfig(name=name, lr=0.1, weight_decay=0.1, schedule="constant", warmup_drawings=0)
    before = Optimizer(net, config)
    descend(before, net(torch.ones(2, 3)).sum(), Clock(0, 0, 100))
    changed = Optimizer(net, config.model_copy(update={"weight_decay": 0.5, "beta1": 0.3}))
    changed.load_state_dict(before.state_dict())
    (group,) = changed.inner.param_groups
    assert group["weight_decay"] == 0.5
    assert 0.3 in (*group.get("betas", ()), group.get("momentum"))
    was, now = before.inner.state_dict()["state"], changed.inner.state_dict()["state"]
    assert was.keys() == now.keys()
    for number, moments in was.items():
        for key, value in moments.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(now[number][key]))


@pytest.mark.parametrize(("had", "asked"), [("sgd", "adam"), ("adamw", "sgd"), ("adam", "rmsprop")])
def test_moments_of_another_optimiser_are_refused(had: str, asked: str) -> None:
    net = nn.Linear(3, 1)
    before = Optimizer(net, OptimizerConfig(name=had, lr=0.1))
    descend(before, net(torch.ones(2, 3)).sum(), Clock(0, 0, 100))
    with pytest.raises(ValueError, match=f"{asked} can't go on with the moments of another"):
        Optimizer(net, OptimizerConfig(name=asked, lr=0.1)).load_state_dict(before.state_dict())
    Optimizer(net, OptimizerConfig(name=had, lr=0.2)).load_state_dict(before.state_dict())


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop"])
def test_momentum_may_begin_after_a_resume(name: str) -> None:
    net = nn.Linear(3, 1)
    config = OptimizerConfig(name=name, lr=0.1, beta1=0.0)
    before = Optimizer(net, config)
    descend(before, net(torch.ones(2, 3)).sum(), Clock(0, 0, 100))
    after = Optimizer(net, config.model_copy(update={"beta1": 0.5}))
    after.load_state_dict(before.state_dict())
    moved = []
    for step in (1, 2):
        at = net.bias.detach().clone()
        descend(after, net(torch.ones(2, 3)).sum(), Clock(step, 2 * step, 100))
        moved.append(float((net.bias.detach() - at).abs()))
    assert all(distance > 0 for distance in moved)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop"])
def test_moments_lie_in_memory_as_the_weights_do_wherever_they_come_from(name: str) -> None:
    """Those of a GPU lie channels last: a fused step goes through memory, and would give weights another's moments."""
    torch.manual_seed(0)
    config = OptimizerConfig(name=name, lr=0.1, beta1=0.5, schedule="constant", warmup_drawings=0)
    nets = [nn.Conv2d(4, 8, 3) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    nets[1].to(memory_format=torch.channels_last)
    x = torch.randn(2, 4, 8, 8)
    first, second = (Optimizer(net, config) for net in nets)
    descend(first, nets[0](x).square().sum(), Clock(0, 0, 100))
    nets[1].load_state_dict(nets[0].state_dict())
    second.load_state_dict(deepcopy(first.state_dict()))
    for net, optimizer in zip(nets, (first, second), strict=True):
        descend(optimizer, net(x).square().sum(), Clock(1, 2, 100))
    torch.testing.assert_close(nets[1].weight, nets[0].weight)
    for moment in second.inner.state[nets[1].weight].values():
        assert moment.dim() == 0 or moment.stride() == nets[1].weight.stride()


def test_where_steps_are_recorded_a_second_decay_moves_in_thousandths_and_never_to_1() -> None:
    config = OptimizerConfig(name="adam", lr=0.1, beta2=0.99, beta2_end=0.9999)
    optimizer = Optimizer(nn.Linear(3, 1), config, recorded=True)
    decays = []
    for drawings in range(0, 1001, 10):
        optimizer.plan(Clock(drawings, drawings, 1000))
        decays.append(optimizer.inner.param_groups[0]["betas"][1])
    assert sorted(set(decays)) == [*(pytest.approx(k / 1000) for k in range(990, 1000)), 0.9999]
