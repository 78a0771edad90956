"""A grouped convolution is torch's, to its second derivative, and takes as many convolutions as one without groups."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from doodle_dist.models.grouped_conv import GroupedConv2d

SHAPES = [(1, 1, True), (4, 1, True), (4, 2, False), (8, 1, False)]  # groups, stride, with bias


class Convolutions(TorchDispatchMode):
    """Counts the calls of convolutions, forwards and backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.called: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def,override]
        self.called[str(function)] += "convolution" in str(function)
        return function(*args, **(kwargs or {}))


def pair(groups: int, stride: int, bias: bool) -> tuple[GroupedConv2d, nn.Conv2d]:
    torch.manual_seed(0)
    ours = GroupedConv2d(8, 16, 3, stride, 1, groups=groups, bias=bias).double()
    torchs = nn.Conv2d(8, 16, 3, stride, 1, groups=groups, bias=bias).double()
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


def penalised(net: nn.Module, x: Tensor) -> list[Tensor]:
    """Output, gradient by the input, and the weights' gradient of both the output and that gradient's square."""
    x = x.clone().requires_grad_()
    y = net(x)
    (gradient,) = torch.autograd.grad(F.leaky_relu(y, 0.2).square().sum(), x, create_graph=True)
    net.zero_grad()
    (gradient.square().sum() + y.sum()).backward()
    return [y, gradient, *(p.grad for p in net.parameters() if p.grad is not None)]


@pytest.mark.parametrize(("groups", "stride", "bias"), SHAPES)
def test_it_is_torchs_to_the_second_derivative(groups: int, stride: int, bias: bool) -> None:
    ours, torchs = pair(groups, stride, bias)
    x = torch.randn(3, 8, 6, 6, dtype=torch.float64)
    found, wanted = penalised(ours, x), penalised(torchs, x)
    assert len(found) == len(wanted) == 3 + bias
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(("groups", "stride", "bias"), SHAPES)
def test_its_derivatives_are_those_of_differences(groups: int, stride: int, bias: bool) -> None:
    ours, _ = pair(groups, stride, bias)
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64, requires_grad=True)
    inputs = (x, *(p.detach().requires_grad_() for p in ours.parameters()))

    def call(x: Tensor, *parameters: Tensor) -> Tensor:
        names = [name for name, _ in ours.named_parameters()]
        result: Tensor = torch.func.functional_call(ours, dict(zip(names, parameters, strict=True)), (x,))
        return result

    assert torch.autograd.gradcheck(call, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


def test_groups_take_no_convolutions_of_their_own() -> None:
    x = torch.randn(3, 8, 6, 6, dtype=torch.float64)
    taken = []
    for net in pair(8, 1, False):
        with Convolutions() as counter:
            penalised(net, x)
        taken.append(sum(counter.called.values()))
    ours, torchs = taken
    assert ours <= 8
    assert torchs > 8, "torch has mended this: nn.Conv2d serves again"


def test_autocast_casts_it_as_any_other() -> None:
    ours, _ = pair(4, 1, True)
    with torch.autocast("cpu", torch.bfloat16):
        y = ours.float()(torch.randn(2, 8, 4, 4))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()  # type: ignore[no-untyped-call]
    assert ours.weight.grad is not None
