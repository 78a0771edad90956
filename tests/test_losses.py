"""Losses against closed forms; penalties against closed forms and finite differences."""

import math

import pytest
import torch
from torch import Tensor, nn

from doodle_dist import losses
from doodle_dist.config.model import CriticConfig
from doodle_dist.models.doodle_small import DoodleSmallCritic
from doodle_dist.models.registry import build_critic

REAL = torch.tensor([2.0, -1.0, 0.3], dtype=torch.float64)
FAKE = torch.tensor([-0.5, 0.5, 4.0], dtype=torch.float64)


def each(function: object, *columns: Tensor) -> Tensor:
    assert callable(function)
    return torch.tensor(
        [function(*map(float, row)) for row in zip(*columns, strict=True)], dtype=torch.float64
    )


def test_cross_entropy_is_per_sample_and_smoothed_towards_uniform() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], dtype=torch.float64)
    labels, smoothing = torch.tensor([1, 0]), 0.1
    logs = logits - logits.exp().sum(1, keepdim=True).log()
    expected = -(0.9 * logs[torch.arange(2), labels] + 0.1 * logs.mean(1))
    torch.testing.assert_close(losses.classification(logits, labels, smoothing), expected)


def test_non_saturating_is_binary_cross_entropy_with_soft_targets() -> None:
    real_targets = torch.tensor([0.9, 1.0, 0.7], dtype=torch.float64)
    fake_targets = torch.tensor([0.1, 0.0, 0.3], dtype=torch.float64)

    def bce(logit: float, target: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -(target * math.log(p) + (1 - target) * math.log(1 - p))

    expected = each(bce, REAL, real_targets) + each(bce, FAKE, fake_targets)
    actual = losses.non_saturating_critic(REAL, FAKE, real_targets, fake_targets)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        losses.non_saturating_generator(FAKE, torch.ones_like(FAKE)), -torch.sigmoid(FAKE).log()
    )


def test_a_target_above_one_has_no_minimum() -> None:
    logits = torch.tensor([1.0, 10.0, 100.0])
    loss = losses.non_saturating_generator(logits, torch.full((3,), 1.2))
    assert loss[2] < loss[1] < loss[0]
    assert loss[2] < -10


def test_hinge() -> None:
    expected = each(lambda r, f: max(0.0, 1 - r) + max(0.0, 1 + f), REAL, FAKE)
    torch.testing.assert_close(losses.hinge_critic(REAL, FAKE), expected)
    torch.testing.assert_close(losses.hinge_generator(FAKE), -FAKE)


def test_relativistic_pairs() -> None:
    expected = each(lambda r, f: math.log(1 + math.exp(-(r - f))), REAL, FAKE)
    torch.testing.assert_close(losses.relativistic_critic(REAL, FAKE), expected)
    torch.testing.assert_close(
        losses.relativistic_generator(REAL, FAKE), losses.relativistic_critic(FAKE, REAL)
    )
    shifted = losses.relativistic_critic(REAL + 7, FAKE + 7)  # only differences count
    torch.testing.assert_close(shifted, expected)


def test_the_penalty_of_a_linear_and_of_a_quadratic_critic() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(16, dtype=torch.float64)
    linear = losses.zero_centred_penalty(x.flatten(1) @ w, x)
    torch.testing.assert_close(linear, w.square().sum().expand(5))
    quadratic = losses.zero_centred_penalty(x.square().flatten(1).sum(1), x)
    torch.testing.assert_close(quadratic, 4 * x.square().flatten(1).sum(1))


@pytest.fixture
def critic() -> nn.Module:
    torch.manual_seed(0)
    config = CriticConfig(width=4, feature_dim=6)
    network = build_critic(config, num_categories=3, side=8, channels=1).double()
    assert isinstance(network.trunk, DoodleSmallCritic)
    for block in (*network.trunk.half_side, *network.trunk.quarter_side):
        assert isinstance(block.second, nn.Conv2d)
        nn.init.normal_(block.second.weight, 0.0, 0.3)
    return network


def _penalty(critic: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return losses.zero_centred_penalty(critic(x, y), x)


def test_the_penalty_is_the_squared_slope_by_finite_differences(critic: nn.Module) -> None:
    x, y = torch.randn(2, 1, 8, 8, dtype=torch.float64), torch.tensor([2, 0])
    step = 1e-6
    slopes = torch.zeros(2, 64, dtype=torch.float64)
    with torch.no_grad():
        for pixel in range(64):
            change = torch.zeros(64, dtype=torch.float64)
            change[pixel] = step
            change = change.view(1, 1, 8, 8)
            slopes[:, pixel] = (critic(x + change, y) - critic(x - change, y)) / (2 * step)
    torch.testing.assert_close(_penalty(critic, x, y), slopes.square().sum(1), rtol=1e-6, atol=1e-8)


def test_the_penalty_s_gradient_by_the_critic_s_weights_by_finite_differences(critic: nn.Module) -> None:
    x, y = torch.randn(2, 1, 8, 8, dtype=torch.float64), torch.tensor([2, 0])
    _penalty(critic, x, y).sum().backward()
    step = 1e-6
    for name, parameter in critic.named_parameters():
        if name in ("half_side.0.first.weight", "shrink.weight", "embedding.weight", "features.weight"):
            place = tuple(0 for _ in parameter.shape)
            assert parameter.grad is not None
            analytic = float(parameter.grad[place])
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter[place] += sign * step
                values.append(float(_penalty(critic, x, y).sum().detach()))
                with torch.no_grad():
                    parameter[place] -= sign * step
            assert analytic == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4, abs=1e-7)
