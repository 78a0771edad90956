"""Layers that more than one network uses. Nothing here knows of devices or of data."""

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx


def quarter_of(side: int) -> int:
    """A quarter of the side, where generators start and critics end."""
    if side < 8 or side % 4:
        raise ValueError(f"side: {side} is not allowed; it must be a multiple of 4, at least 8")
    return side // 4


def initialise_normal(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, std: float) -> None:
    """Weights N(0, std), bias 0, in place; std 0 makes the layer return 0 until its first update."""
    nn.init.normal_(layer.weight, 0.0, std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1, gain: float = 1.0) -> nn.Conv2d:
    """Convolution with "same" padding (even kernels: half the kernel less one) and weights of std
    gain / sqrt(fan in) (He et al. 2015, eq. 10)."""
    layer = nn.Conv2d(channels_in, channels_out, kernel, stride, (kernel - 1) // 2)
    initialise_normal(layer, gain / math.sqrt(channels_in * kernel**2))
    return layer


def dense(features_in: int, features_out: int, gain: float = 1.0) -> nn.Linear:
    """Fully connected layer with weights of std gain / sqrt(features_in)."""
    layer = nn.Linear(features_in, features_out)
    initialise_normal(layer, gain / math.sqrt(features_in))
    return layer


SLOPE = 0.2
LEAKY_GAIN = math.sqrt(2 / (1 + SLOPE**2))  # keeps the variance through a LeakyReLU (He et al. 2015, eq. 15)


def leaky(x: Tensor) -> Tensor:
    """LeakyReLU with slope 0.2: its second derivative is 0, so penalties differentiate cheaply."""
    return F.leaky_relu(x, SLOPE)


class ResidualBlock(nn.Module):
    """x + conv(leaky(modulate(conv(leaky(x))))), [B, C, H, W] to the same.

    The second convolution starts at zero, so a deep stack starts as the identity and needs no normalisation
    (fix-up: Zhang et al. 2019, section 3). With ``modulation_dim`` a vector [B, modulation_dim] scales and
    shifts every channel between the two, from 1 and 0 at the start (FiLM: Perez et al. 2018, eq. 2).
    """

    def __init__(self, channels: int, modulation_dim: int = 0) -> None:
        super().__init__()
        self.first = conv(channels, channels, 3, gain=LEAKY_GAIN)
        self.second = conv(channels, channels, 3, gain=0.0)
        self.modulation = dense(modulation_dim, 2 * channels, gain=0.0) if modulation_dim else None

    def forward(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        h = self.first(leaky(x))
        if self.modulation is not None:
            scale, shift = self.modulation(style)[:, :, None, None].chunk(2, dim=1)  # each [B, C, 1, 1]
            h = h * (1 + scale) + shift
        return x + self.second(leaky(h))


class _SumOverRanks(torch.autograd.Function):
    """Sum of a tensor over the processes of the default group; its derivative is that sum of gradients."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:
        return _SumOverRanks.apply(gradients[0])


class _GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the global batch, whatever the number of processes that share it.

    Parameters, buffers and state dict are those of torch's BatchNorm (Ioffe & Szegedy 2015, algorithm 1).
    In training under ``torch.distributed`` with more than one process, count, sum and centred sum of squares
    are added over the processes, which may hold different numbers of rows (none too); the reduction is
    differentiable, twice as well. Each process must run its forward, and its backward, equally often. As
    with DDP, the loss meant is the sum over processes. ``nn.SyncBatchNorm`` refuses CPU tensors.
    """

    def forward(self, x: Tensor) -> Tensor:
        alone = not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)
        if alone or not self.training:
            return super().forward(x)
        self._check_input_dim(x)
        channels = x.shape[1]
        axes = [0, *range(2, x.dim())]
        shape = [1, channels] + [1] * (x.dim() - 2)
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x  # as torch's own statistics
        count = wide.new_tensor([x.numel() // channels])
        totals = _SumOverRanks.apply(torch.cat([wide.sum(axes), count]))  # [C + 1]
        total = totals[-1].detach()
        mean = totals[:-1] / total
        centred = wide - mean.view(shape)
        # A second reduction rather than a sum of squares: E[x²] - E[x]² cancels in float32.
        variance = _SumOverRanks.apply(centred.square().sum(axes)) / total  # [C]
        self._track(mean.detach(), variance.detach(), total)
        normal = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(x.dtype)

    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        weight = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        with torch.no_grad():
            self.running_mean.lerp_(mean, weight)
            self.running_var.lerp_(variance * count / (count - 1), weight)


class GlobalBatchNorm1d(_GlobalBatchNorm, nn.BatchNorm1d):
    """``nn.BatchNorm1d`` over the global batch: [B, C] or [B, C, L]."""


class GlobalBatchNorm2d(_GlobalBatchNorm, nn.BatchNorm2d):
    """``nn.BatchNorm2d`` over the global batch: [B, C, H, W]."""


class LabelPlaneConv2d(nn.Conv2d):
    """Convolution of a picture and one-hot label planes, without making the planes.

    The same function and the same weight [out, channels + K, k, k] as a convolution without bias of
    [B, channels + K, H, W], where plane ``channels + y`` is 1 everywhere and the other K - 1 are 0. A plane
    of ones adds, at each place, the sum of the weights whose taps lie inside the picture; at the borders
    padding hides some. With 340 categories this spares 340 planes a picture.
    """

    def __init__(
        self, channels: int, num_categories: int, channels_out: int, kernel: int, stride: int, padding: int
    ) -> None:
        super().__init__(channels + num_categories, channels_out, kernel, stride, padding, bias=False)
        self.channels = channels

    def forward(self, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        """[B, channels, H, W], int64 [B] -> [B, out, H', W']."""
        pictures = F.conv2d(x, self.weight[:, : self.channels], None, self.stride, self.padding)
        taps = self.weight.transpose(0, 1)[self.channels + y]  # [B, out, k, k]
        rows = self._taps_inside(x.shape[2], pictures.shape[2], dimension=0)
        columns = self._taps_inside(x.shape[3], pictures.shape[3], dimension=1)
        return pictures + torch.einsum("bckl,ik,jl->bcij", taps, rows, columns)

    def _taps_inside(self, size_in: int, size_out: int, dimension: int) -> Tensor:
        """[size_out, k]: 1 where tap k of output i reads inside the picture, else 0."""
        stride, padding, kernel = (
            self.stride[dimension],
            int(self.padding[dimension]),
            self.kernel_size[dimension],
        )
        device = self.weight.device
        first = torch.arange(size_out, device=device)[:, None] * stride - padding
        tap = first + torch.arange(kernel, device=device)
        return ((tap >= 0) & (tap < size_in)).to(self.weight.dtype)


class LabelConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution of [z, one-hot label] at 1×1, without making the one-hot vector.

    The same function and weight [latent_dim + K, out, k, k] as without bias, stride 1, no padding.
    """

    def __init__(self, latent_dim: int, num_categories: int, channels_out: int, kernel: int) -> None:
        super().__init__(latent_dim + num_categories, channels_out, kernel, bias=False)
        self.latent_dim = latent_dim

    def forward(self, z: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        """[B, latent_dim], int64 [B] -> [B, out, k, k]."""
        from_latent = torch.einsum("bz,zckl->bckl", z, self.weight[: self.latent_dim])
        return from_latent + self.weight[self.latent_dim + y]


def initialise_dcgan(network: nn.Module) -> None:
    """Weights N(0, 0.02), BatchNorm scales N(1, 0.02) (DCGAN: Radford et al. 2016, section 4)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            initialise_normal(layer, 0.02)
        elif isinstance(layer, GlobalBatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
