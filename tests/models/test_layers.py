"""Label layers equal the one-hot versions they replace; BatchNorm is the same on any number of ranks."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from doodle_dist.models import layers
from doodle_dist.models.layers import (
    REWRITTEN,
    ConditionalBatchNorm2d,
    ConvMean2d,
    GlobalBatchNorm1d,
    GlobalBatchNorm2d,
    LabelPlaneConv2d,
    OnePixelConvTranspose2d,
    ResidualBlock,
    SameConv2d,
    SameConvTranspose2d,
    Unflatten,
    UpConv2d,
    UpConvTranspose2d,
    flat,
    fraction_of,
    quarter_of,
)
from tests.ranks import two_ranks


@pytest.mark.parametrize(
    ("side", "channels", "kernel", "stride", "padding"),
    [(28, 1, 4, 2, 1), (32, 3, 4, 2, 1), (28, 1, 5, 2, 2), (9, 1, 3, 1, 1), (8, 2, 3, 2, 0)],
)
def test_label_planes_are_equal_to_concatenated_planes(
    side: int, channels: int, kernel: int, stride: int, padding: int
) -> None:
    torch.manual_seed(0)
    layer = LabelPlaneConv2d(channels, 5, 6, kernel, stride, padding).double()
    x = torch.randn(7, channels, side, side - 1, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0, 4, 1, 1, 2, 3, 0])
    planes = F.one_hot(y, 5).double()[:, :, None, None].expand(-1, -1, side, side - 1)
    naive = F.conv2d(torch.cat([x, planes], 1), layer.weight, None, stride, padding)
    ours = layer(x, y)
    torch.testing.assert_close(ours, naive, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.as_written(x, y), naive, rtol=1e-12, atol=1e-12)
    probe = torch.randn_like(naive)
    gradients, second = [], []
    for result in (naive, ours):
        gradients.append(torch.autograd.grad((result * probe).sum(), [x, layer.weight], retain_graph=True))
        (by_x,) = torch.autograd.grad((result.square() * probe).sum(), x, create_graph=True)
        second.append(torch.autograd.grad(by_x.square().sum(), [x, layer.weight]))  # as penalties do
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)
    for one, two in zip(*second, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize(
    ("kernel", "stride", "side", "before", "after"),
    [
        (5, 2, 28, 1, 2),
        (3, 2, 28, 0, 1),
        (3, 2, 7, 1, 1),
        (5, 2, 7, 2, 2),
        (4, 1, 14, 1, 2),
        (5, 1, 4, 2, 2),
    ],
)
def test_same_convolution_pads_as_keras_does(
    kernel: int, stride: int, side: int, before: int, after: int
) -> None:
    torch.manual_seed(0)
    layer, x = SameConv2d(2, 3, kernel, stride), torch.randn(2, 2, side, side)
    padded = F.pad(x, (before, after, before, after))
    expected = F.conv2d(padded, layer.weight, layer.bias, stride)
    out = layer(x)
    assert out.shape == (2, 3, -(-side // stride), -(-side // stride))
    torch.testing.assert_close(out, expected)


def test_same_convolution_by_hand() -> None:
    """[1, 2, 3, 4] in every row, taps 1, 10, 100: k3 s2 reads from the first column and a zero on the right."""
    layer = SameConv2d(1, 1, 3, 2)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, 0] = torch.tensor([1.0, 10.0, 100.0])  # the upper row of the kernel
        assert layer.bias is not None
        layer.bias.zero_()
    rows = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(1, 1, 4, 4)
    assert layer(rows).tolist() == [[[[321.0, 43.0], [321.0, 43.0]]]]


@pytest.mark.parametrize(("kernel", "stride"), [(5, 2), (5, 1), (4, 2), (3, 2)])
def test_same_transposed_convolution_is_the_transpose_of_the_same_convolution(
    kernel: int, stride: int
) -> None:
    """<conv(x), y> = <x, transposed(y)>, with the same weight: so its padding is Keras' too."""
    torch.manual_seed(0)
    down, up = SameConv2d(2, 3, kernel, stride).double(), SameConvTranspose2d(3, 2, kernel, stride).double()
    assert down.bias is not None
    assert up.bias is not None
    with torch.no_grad():
        up.weight.copy_(down.weight)
        down.bias.zero_()
        up.bias.zero_()
    small = 7
    x = torch.randn(1, 2, small * stride, small * stride, dtype=torch.float64)
    y = torch.randn(1, 3, small, small, dtype=torch.float64)
    assert up(y).shape == x.shape
    torch.testing.assert_close((down(x) * y).sum(), (x * up(y)).sum(), rtol=1e-10, atol=1e-10)


def test_same_transposed_convolution_by_hand() -> None:
    """One pixel of 1 at (0, 0) spreads the kernel; one row and column are cut above and on the left."""
    layer = SameConvTranspose2d(1, 1, 5, 2)
    kernel = torch.arange(25.0).view(5, 5)
    x = torch.zeros(1, 1, 2, 2)
    x[0, 0, 0, 0] = 1
    with torch.no_grad():
        layer.weight.copy_(kernel)
        assert layer.bias is not None
        layer.bias.zero_()
    assert torch.equal(layer(x)[0, 0], kernel[1:, 1:])


REWRITES = [
    *(UpConv2d(3, 5, kernel) for kernel in (1, 2, 3, 4, 5)),
    *(UpConvTranspose2d(3, 5, kernel) for kernel in (1, 3, 5)),
    *(ConvMean2d(3, 5, kernel) for kernel in (1, 3, 5)),
    *(OnePixelConvTranspose2d(3, 5, kernel) for kernel in (1, 4, 7)),
]


@pytest.mark.parametrize(
    "layer", REWRITES, ids=[f"{type(layer).__name__} k{layer.kernel_size[0]}" for layer in REWRITES]
)
def test_a_layer_that_computes_in_another_way_is_the_one_that_is_written(layer: nn.Module) -> None:
    layer = layer.double()
    size = (1, 1) if isinstance(layer, OnePixelConvTranspose2d) else (6, 4)
    x = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    outcomes = []
    for do in (layer, layer.as_written):
        y = do(x)
        (by_x,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)  # and again, as penalties do
        again = torch.autograd.grad(by_x.square().sum() + y.sum(), [*layer.parameters()])
        outcomes.append([y, by_x, *again])
    for one, two in zip(*outcomes, strict=True):
        assert one.shape == two.shape
        torch.testing.assert_close(one, two)
    assert {type(each) for each in REWRITES} | {LabelPlaneConv2d, Unflatten} == set(REWRITTEN)


def test_pictures_stay_channels_last_from_a_dense_layer_to_a_dense_layer_and_back() -> None:
    numbers = torch.randn(2, 3 * 16, requires_grad=True)
    pictures = Unflatten(3, 4)(numbers)
    assert torch.equal(pictures, numbers.view(2, 3, 4, 4))
    assert pictures.is_contiguous(memory_format=torch.channels_last)
    seen: list[Tensor] = []
    pictures.register_hook(seen.append)
    again = flat(pictures.square())
    assert torch.equal(again, numbers.square())
    again.backward(torch.arange(96.0).view(2, 48))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(numbers.grad, 2 * numbers * torch.arange(96.0).view(2, 48))


def test_conditional_norm_scales_and_shifts_by_the_label() -> None:
    torch.manual_seed(0)
    norm, x, y = ConditionalBatchNorm2d(4, 3, 1e-5, 0.1), torch.randn(6, 4, 5, 5), torch.arange(6) % 3
    plain = norm(x, y)
    torch.testing.assert_close(plain.mean((0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(plain.var((0, 2, 3), unbiased=False), torch.ones(4), rtol=0, atol=1e-3)
    with torch.no_grad():
        norm.scale.weight[1] = 2.0
        norm.shift.weight[2] = 5.0
    expected = torch.stack([plain[k] * (2 if y[k] == 1 else 1) + (5 if y[k] == 2 else 0) for k in range(6)])
    torch.testing.assert_close(norm(x, y), expected, rtol=1e-4, atol=1e-5)


def test_a_residual_block_starts_as_the_identity_and_its_modulation_acts() -> None:
    torch.manual_seed(0)
    block, x = ResidualBlock(8, modulation_dim=3), torch.randn(2, 8, 7, 7)
    style = torch.randn(2, 3)
    assert torch.equal(block(x, style), x)
    nn.init.normal_(block.second.weight)
    assert block.modulation is not None
    nn.init.normal_(block.modulation.weight)
    assert not torch.allclose(block(x, style), block(x, -style))


def test_side_must_halve_twice() -> None:
    assert quarter_of(28) == 7
    assert fraction_of(64, 16) == 4
    with pytest.raises(ValueError, match="side: 30"):
        quarter_of(30)
    with pytest.raises(ValueError, match="side: 28 is not allowed; it must be a multiple of 16"):
        fraction_of(28, 16)


def _norm(dimensions: int) -> nn.Module:
    torch.manual_seed(1)
    norm = GlobalBatchNorm2d(4) if dimensions == 4 else GlobalBatchNorm1d(4)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm.train()


def _batch(dimensions: int) -> Tensor:
    shape = (8, 4, 5, 5) if dimensions == 4 else (8, 4)
    # A mean far from 0: where E[x²] - E[x]² would lose the variance.
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)) * 0.5 + 30.0


def _outcome(dimensions: int, rows: slice, dtype: torch.dtype) -> dict[str, Tensor]:
    """Two updates of the statistics; output, first gradients, and those of a gradient penalty."""
    norm, x = _norm(dimensions).to(dtype), _batch(dimensions)[rows].to(dtype).requires_grad_()
    norm(x)
    out = norm(x)
    (slope,) = torch.autograd.grad((out**3).sum(), x, create_graph=True)
    (slope.square().sum() + (out.tanh() * (out + 1)).sum()).backward()
    parameters = {f"grad_{name}": p.grad for name, p in norm.named_parameters() if p.grad is not None}
    assert len(parameters) == 2
    assert x.grad is not None
    return {"out": out.detach(), "slope": slope.detach(), "grad_x": x.grad, **parameters, **norm.state_dict()}


# Rows of the first of two ranks: unequal parts, and a second rank without rows.
CASES = [(4, 3, torch.float64), (4, 3, torch.float32), (2, 8, torch.float64)]


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    for index, (dimensions, cut, dtype) in enumerate(CASES):
        rows = slice(0, cut) if rank == 0 else slice(cut, 8)
        torch.save(_outcome(dimensions, rows, dtype), f"{folder}/{index}-{rank}.pt")


@pytest.mark.slow
def test_batch_norm_is_the_same_on_two_ranks_as_on_one(tmp_path: Path) -> None:
    """Outputs, first and second gradients and running statistics."""
    two_ranks(_rank, str(tmp_path))
    for index, (dimensions, _, dtype) in enumerate(CASES):
        ranks = [torch.load(tmp_path / f"{index}-{rank}.pt") for rank in range(2)]
        alone = _outcome(dimensions, slice(0, 8), dtype)
        close = {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-5}
        torch.testing.assert_close(torch.cat([r["out"] for r in ranks]), alone["out"], **close)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            assert torch.equal(ranks[0][name], ranks[1][name])
            torch.testing.assert_close(ranks[0][name], alone[name], **close)
        if dtype == torch.float64:  # in float32 one process alone is off by more, at this mean
            for name in ("slope", "grad_x"):
                torch.testing.assert_close(torch.cat([r[name] for r in ranks]), alone[name], **close)
            for name in ("grad_weight", "grad_bias"):
                torch.testing.assert_close(ranks[0][name] + ranks[1][name], alone[name], **close)


def test_batch_norm_alone_is_torch_s_and_shares_its_state_dict() -> None:
    ours, theirs = _norm(4), nn.BatchNorm2d(4)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    theirs.load_state_dict(ours.state_dict())
    x = _batch(4)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_a_last_step_of_one_row_trains() -> None:
    norm = GlobalBatchNorm1d(3).train()
    before = norm.running_mean.clone()
    x = torch.randn(1, 3, requires_grad=True)
    norm(x).sum().backward()
    assert norm.running_mean.equal(before)
    assert x.grad.isfinite().all()


def test_a_last_step_of_one_row_trains_on_several_ranks_as_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a rank without rows: statistics that are taken from one value would be no numbers, for good."""

    def outcome() -> dict[str, Tensor]:
        norm, x = _norm(2), torch.randn(1, 4, generator=torch.Generator().manual_seed(3)).requires_grad_()
        out = norm(x)
        out.square().sum().backward()
        assert x.grad is not None
        return {"out": out.detach(), "grad_x": x.grad, **norm.state_dict()}

    alone = outcome()
    monkeypatch.setattr(layers.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(layers.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(layers, "_sum_over_ranks", lambda x: x)  # the other rank has nothing to add
    torch.testing.assert_close(outcome(), alone)
