"""Normalisation, spectral norm and dropout switched from outside."""

import pytest
import torch
from torch import nn

from doodle_dist.models.layers import GlobalBatchNorm1d, GlobalBatchNorm2d
from doodle_dist.models.normalization import apply_spectral_norm, replace_normalization, set_dropout
from tests.models.test_networks import (
    GENERATORS,
    LATENT,
    critic_for,
    generator_for,
    side_of,
    wake,
)

Y = torch.tensor([0, 1, 2, 0])


def batch_norms(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, GlobalBatchNorm1d | GlobalBatchNorm2d)]


def group_norms(network: nn.Module) -> list[nn.GroupNorm]:
    return [m for m in network.modules() if isinstance(m, nn.GroupNorm)]


@pytest.mark.parametrize("kind", ["instance", "layer", "none"])
@pytest.mark.parametrize("name", GENERATORS)
def test_a_swap_replaces_every_layer_and_keeps_shapes(name: str, kind: str) -> None:
    torch.manual_seed(0)
    side = side_of(name)
    pairs = ((generator_for, torch.randn(4, LATENT)), (critic_for, torch.rand(4, 1, side, side)))
    for build, x in pairs:
        published = build(name)
        found = len(batch_norms(published))
        if not found and kind != "none":
            with pytest.raises(ValueError, match=rf"normalization='{kind}': {name} has no normalisation"):
                build(name, normalization=kind)
            continue
        swapped = build(name, normalization=kind)
        assert batch_norms(swapped) == []
        assert len(group_norms(swapped)) == (0 if kind == "none" else found)
        out = swapped(x, Y)
        assert out.shape == published(x, Y).shape
        out.square().sum().backward()
        assert all(p.grad is not None for p in swapped.parameters())
        nobody = swapped(x[:0], Y[:0])  # a rank without rows
        nobody.sum().backward()


def test_each_kind_normalises_over_its_own_axes() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 5, 5) * torch.arange(1.0, 5)[:, None, None] + 7
    for kind, axes in (("instance", (2, 3)), ("layer", (1, 2, 3))):
        network = nn.Sequential(GlobalBatchNorm2d(4))
        assert replace_normalization(network, kind) == 1  # type: ignore[arg-type]
        out = network(x)
        torch.testing.assert_close(out.mean(axes), torch.zeros_like(out.mean(axes)), rtol=0, atol=1e-5)
        torch.testing.assert_close(out.std(axes), torch.ones_like(out.std(axes)), rtol=0, atol=0.03)
    flat = nn.Sequential(GlobalBatchNorm1d(64))
    replace_normalization(flat, "instance")  # of features: over all of a row
    features = torch.randn(3, 64) + 5
    torch.testing.assert_close(flat(features).mean(1), torch.zeros(3), rtol=0, atol=1e-5)


def test_a_swap_keeps_scale_and_shift() -> None:
    norm = GlobalBatchNorm2d(4)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    network = nn.Sequential(norm)
    replace_normalization(network, "layer")
    assert torch.equal(network[0].weight, norm.weight)  # type: ignore[arg-type]
    assert torch.equal(network[0].bias, norm.bias)  # type: ignore[arg-type]


def test_momentum_and_eps_reach_every_layer() -> None:
    norms = batch_norms(generator_for("dcgan", batch_momentum=0.3, batch_eps=1e-4))
    assert len(norms) == 3
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.3, 1e-4)}
    swapped = group_norms(critic_for("bird-dcgan", normalization="instance", batch_eps=1e-2))
    assert [norm.eps for norm in swapped] == [1e-2] * 3
    with pytest.raises(ValueError, match=r"model\.generator\.batch_momentum=0\.3"):
        generator_for("dcgan", normalization="layer", batch_momentum=0.3)
    with pytest.raises(ValueError, match=r"model\.critic\.batch_eps"):
        critic_for("doodle", batch_eps=1e-4)


@pytest.mark.parametrize("name", ["sngan", "cdcgan", "bird-dcgan", "simple-gan", "doodle-small", "doodle"])
@pytest.mark.parametrize("head", ["projection", "auxiliary"])
def test_spectral_norm_bounds_every_weight(name: str, head: str) -> None:
    torch.manual_seed(0)
    critic = critic_for(name, spectral_norm=True, head=head)
    x = torch.rand(4, 1, side_of(name), side_of(name)) * 2 - 1
    with torch.no_grad():
        for _ in range(30):
            critic(x, Y)
    critic.eval()
    layers = [
        m
        for m in critic.modules()
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.Embedding)
    ]
    assert layers
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item()
        assert largest == pytest.approx(1.0, abs=0.05)


def test_spectral_norm_can_be_switched_off_and_has_second_derivatives() -> None:
    torch.manual_seed(0)
    off = critic_for("sngan", spectral_norm=False)
    assert not any("parametrizations" in name for name, _ in off.named_parameters())
    critic = critic_for("sngan")
    assert any("parametrizations" in name for name, _ in critic.named_parameters())
    x = torch.rand(4, 1, 28, 28, requires_grad=True)
    (slope,) = torch.autograd.grad(critic(x, Y).sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert sum(p.grad is not None and bool(p.grad.any()) for p in critic.parameters()) > 10


def test_spectral_norm_divides_by_the_largest_singular_value() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 5)
    raw = layer.weight.detach().clone()
    network = nn.Sequential(layer)
    apply_spectral_norm(network)
    for _ in range(50):
        network(torch.randn(1, 6))
    torch.testing.assert_close(
        network.eval()[0].weight, raw / torch.linalg.matrix_norm(raw, 2), rtol=1e-3, atol=1e-4
    )


def test_dropout_is_set_at_the_published_places_and_refused_elsewhere() -> None:
    def rates(network: nn.Module) -> list[float]:
        return [m.p for m in network.modules() if isinstance(m, nn.Dropout)]

    published = {
        "simple-gan": [0.4] * 3,
        "dcgan": [0.2] * 2,
        "doodle-wgan-gp": [0.25] * 4,
        "face-gan": [0.6] * 4,
    }
    for name, expected in published.items():
        assert rates(critic_for(name)) == expected
        assert rates(critic_for(name, dropout=0.1)) == [0.1] * len(expected)
    assert critic_for("doodle", dropout=0.0) is not None
    with pytest.raises(ValueError, match=r"model\.critic\.dropout=0\.1: doodle has no dropout"):
        critic_for("doodle", dropout=0.1)
    assert set_dropout(wake(nn.Sequential(nn.Dropout(0.5))), 0.2) == 1
