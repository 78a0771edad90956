"""Losses against closed forms; penalties against closed forms and finite differences."""

import math

import pytest
import torch
from torch import Tensor, nn

from doodle_dist import losses
from doodle_dist.config.model import CriticConfig
from doodle_dist.models.doodle_small import DoodleSmallCritic
from doodle_dist.models.registry import build_critic

# Weights whose gradient is checked: of a block, a strided convolution, a dense layer and the embedding.
WEIGHTS = {
    "trunk.half_side.0.first.weight",
    "trunk.shrink.weight",
    "trunk.features.weight",
    "head.embedding.weight",
}

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
    step, checked = 1e-6, set()
    for name, parameter in critic.named_parameters():
        if name in WEIGHTS:
            checked.add(name)
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
    assert checked == WEIGHTS


def test_least_squares() -> None:
    b, a = (
        torch.tensor([0.9, 1.0, 0.7], dtype=torch.float64),
        torch.tensor([0.1, 0.0, 0.3], dtype=torch.float64),
    )
    expected = each(lambda r, f, t, u: ((r - t) ** 2 + (f - u) ** 2) / 2, REAL, FAKE, b, a)
    torch.testing.assert_close(losses.least_squares_critic(REAL, FAKE, b, a), expected)
    torch.testing.assert_close(losses.least_squares_generator(FAKE, b), (FAKE - b) ** 2 / 2)


def test_wasserstein() -> None:
    torch.testing.assert_close(losses.wasserstein_critic(REAL, FAKE), FAKE - REAL)
    torch.testing.assert_close(losses.wasserstein_generator(FAKE), -FAKE)


def test_the_entropy_of_targets_is_nought_at_and_beyond_both_ends() -> None:
    entropy = losses.target_entropy(torch.tensor([0.0, 0.5, 1.0, 1.2, -0.1]))
    torch.testing.assert_close(entropy, torch.tensor([0.0, math.log(2), 0.0, 0.0, 0.0]))


def test_the_gradient_penalty_of_a_linear_critic_and_of_a_flat_one() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(16, dtype=torch.float64, requires_grad=True)
    steep = losses.gradient_penalty(x.flatten(1) @ w, x)
    torch.testing.assert_close(steep, ((w.norm() - 1) ** 2).expand(5))
    flat = losses.gradient_penalty((x.flatten(1) @ (0 * w)), x)
    torch.testing.assert_close(flat, torch.ones(5, dtype=torch.float64), atol=1e-5, rtol=0)
    flat.sum().backward()
    assert w.grad is not None
    assert torch.isfinite(w.grad).all()


def test_pictures_between_are_on_the_line() -> None:
    real, fake = torch.full((3, 1, 2, 2), 8.0), torch.full((3, 1, 2, 2), -4.0)
    middle = losses.between(real, fake, torch.tensor([0.0, 0.25, 1.0]))
    assert middle[:, 0, 0, 0].tolist() == [-4.0, -1.0, 8.0]


@pytest.mark.parametrize("name", losses.ADVERSARIAL)
def test_the_least_of_a_critic_s_loss_is_reached_and_never_passed(name: str) -> None:
    loss = losses.ADVERSARIAL[name]
    real_t, fake_t = torch.full((2001,), 0.9), torch.full((2001,), 0.2)
    logits = torch.linspace(-8, 8, 2001)
    if loss.least is None:
        assert loss.critic(logits + 1e6, logits, real_t, fake_t).max() < -1e5
        return
    best = {"least-squares": (0.9, 0.2), "non-saturating": (math.log(9), math.log(0.25))}.get(
        name, (50.0, -50.0)
    )
    ones = torch.ones(1)
    reached = loss.critic(best[0] * ones, best[1] * ones, 0.9 * ones, 0.2 * ones)
    least = loss.least(0.9 * ones, 0.2 * ones)
    torch.testing.assert_close(reached, least, atol=1e-5, rtol=0)
    assert (loss.critic(logits, -logits, real_t, fake_t) >= loss.least(real_t, fake_t) - 1e-6).all()


@pytest.mark.parametrize("name", losses.ADVERSARIAL)
def test_a_generator_gains_by_being_taken_for_real(name: str) -> None:
    logits = torch.tensor([0.2], requires_grad=True)
    losses.ADVERSARIAL[name].generator(logits, torch.zeros(1), torch.ones(1)).backward()
    assert logits.grad is not None
    assert logits.grad.item() < 0
