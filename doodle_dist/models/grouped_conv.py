"""A grouped convolution that is differentiated twice at the price of its groups together.

torch's own second derivative by the weight of ``F.conv2d`` calls one convolution for each group (ATen's
``_convolution_double_backward``), hundreds a layer, each far too small for a GPU. Here every derivative is a whole
grouped convolution, of any order: gradient by input and by weight are functions of their own, whose derivatives are
the convolution and each other.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GroupedConv2d(nn.Conv2d):
    """``nn.Conv2d`` with groups, [B, C, H, W] -> [B, D, H', W'], the same function and state dict.

    Under autocast, and where nothing is differentiated, it is torch's own: gradients that are differentiated again
    are taken without autocast.
    """

    def forward(self, x: Tensor) -> Tensor:
        is_differentiated = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        if not is_differentiated or torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        how = _How(self.stride, (int(self.padding[0]), int(self.padding[1])), self.groups)
        y = _apply(_Convolution, x, self.weight, how)
        return y if self.bias is None else y + self.bias[:, None, None]


class _How(NamedTuple):
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    groups: int


def _apply(function: type[torch.autograd.Function], *inputs: object) -> Tensor:
    result: Tensor = function.apply(*inputs)
    return result


def _gradient(of: Tensor, x: Tensor, weight: Tensor, how: _How, by: int) -> Tensor:
    """The gradient by the input (``by`` 0) or by the weight (1), given that of the output."""
    wanted = [by == 0, by == 1, False]
    all_three = torch.ops.aten.convolution_backward(
        of, x, weight, None, how.stride, how.padding, (1, 1), False, (0, 0), how.groups, wanted
    )
    gradient: Tensor = all_three[by]
    return gradient


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, how: _How) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how = how
        return F.conv2d(x, weight, None, how.stride, how.padding, 1, how.groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        by_x, by_weight, _ = ctx.needs_input_grad
        return (
            _apply(_ByInput, gradients[0], x, weight, ctx.how) if by_x else None,
            _apply(_ByWeight, gradients[0], x, weight, ctx.how) if by_weight else None,
            None,
        )


class _ByInput(torch.autograd.Function):
    """The gradient by the input: linear in that of the output and in the weight; of ``x`` only the shape counts."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor, weight: Tensor, how: _How) -> Tensor:
        ctx.save_for_backward(gradient, weight)
        ctx.how = how
        return _gradient(gradient, x, weight, how, 0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        gradient, weight = ctx.saved_tensors
        by_gradient, _, by_weight, _ = ctx.needs_input_grad
        return (
            _apply(_Convolution, gradients[0], weight, ctx.how) if by_gradient else None,
            None,
            _apply(_ByWeight, gradient, gradients[0], weight, ctx.how) if by_weight else None,
            None,
        )


class _ByWeight(torch.autograd.Function):
    """The gradient by the weight: linear in that of the output and in ``x``; of ``weight`` only the shape counts."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor, weight: Tensor, how: _How) -> Tensor:
        ctx.save_for_backward(gradient, x)
        ctx.how = how
        return _gradient(gradient, x, weight, how, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        gradient, x = ctx.saved_tensors
        by_gradient, by_x, _, _ = ctx.needs_input_grad
        return (
            _apply(_Convolution, x, gradients[0], ctx.how) if by_gradient else None,
            _apply(_ByInput, gradient, x, gradients[0], ctx.how) if by_x else None,
            None,
            None,
        )
