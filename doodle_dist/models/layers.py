"""Layers that more than one network uses. Nothing here knows of devices or of data."""

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from doodle_dist.models.grouped_conv import GroupedConv2d


def fraction_of(side: int, parts: int) -> int:
    """A part of the side, where a network starts or ends. Raises ValueError where it isn't whole."""
    if side < 2 * parts or side % parts:
        raise ValueError(
            f"side: {side} is not allowed; it must be a multiple of {parts}, at least {2 * parts}"
        )
    return side // parts


def quarter_of(side: int) -> int:
    """A quarter of the side, where most generators start and most critics end."""
    return fraction_of(side, 4)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def flat(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C H W]. Its gradient comes back in the memory format of ``x``: what meets the other one, as
    LeakyReLU's gradient does, takes four times as long on a CPU."""
    if x.requires_grad and x.is_contiguous(memory_format=torch.channels_last):
        x.register_hook(_channels_last)
    return x.flatten(1)


class Flatten(nn.Module):
    """`flat` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return flat(x)


class Unflatten(nn.Module):
    """[B, channels side²] -> [B, channels, side, side], in memory channels last, which convolutions do best with."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.shape = (channels, side, side)

    def forward(self, x: Tensor) -> Tensor:
        return _channels_last(self.as_written(x))

    def as_written(self, x: Tensor) -> Tensor:
        """The same in torch's own memory format."""
        return x.unflatten(1, self.shape)


WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def initialise_normal(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, std: float) -> None:
    """Weights N(0, std), bias 0, in place; std 0 makes the layer return 0 until its first update."""
    nn.init.normal_(layer.weight, 0.0, std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def initialise_glorot(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, gain: float = 1.0) -> None:
    """Weights uniform, of variance gain² 2 / (fan in + fan out), bias 0 (Glorot & Bengio 2010, eq. 16)."""
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def initialise_keras(network: nn.Module) -> None:
    """Keras' default start of every convolution and dense layer: Glorot's uniform weights, bias 0."""
    for layer in network.modules():
        if isinstance(layer, WEIGHTED):
            initialise_glorot(layer)


def initialise_all_normal(network: nn.Module, std: float) -> None:
    """N(0, std) weights and bias 0 for every convolution and dense layer; embeddings and norms stay."""
    for layer in network.modules():
        if isinstance(layer, WEIGHTED):
            initialise_normal(layer, std)


def conv(
    channels_in: int,
    channels_out: int,
    kernel: int,
    stride: int = 1,
    gain: float = 1.0,
    *,
    groups: int = 1,
    bias: bool = True,
) -> nn.Conv2d:
    """Convolution with "same" padding (even kernels: half the kernel less one) and weights of std
    gain / sqrt(fan in) (He et al. 2015, eq. 10)."""
    kind = GroupedConv2d if groups > 1 else nn.Conv2d
    layer = kind(channels_in, channels_out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=bias)
    initialise_normal(layer, gain / math.sqrt(channels_in // groups * kernel**2))
    return layer


def dense(features_in: int, features_out: int, gain: float = 1.0, *, bias: bool = True) -> nn.Linear:
    """Fully connected layer with weights of std gain / sqrt(features_in)."""
    layer = nn.Linear(features_in, features_out, bias=bias)
    initialise_normal(layer, gain / math.sqrt(features_in))
    return layer


class SameConv2d(nn.Conv2d):
    """Convolution with Keras' "same" padding: [B, in, H, W] -> [B, out, ceil(H / stride), ceil(W / stride)].

    Where the padding is odd, the row or column more is below or on the right: for an even side, 1 and 2 with
    k5 s2, 0 and 1 with k3 s2 (https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2).
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels_in, channels_out, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        top, bottom = self._padding(x.shape[2])
        left, right = self._padding(x.shape[3])
        if (top, left) == (bottom, right):
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left))
        return F.conv2d(F.pad(x, (left, right, top, bottom)), self.weight, self.bias, self.stride)

    def _padding(self, size: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2


class SameConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution with Keras' "same" padding: [B, in, H, W] -> [B, out, stride H, stride W].

    The transpose of SameConv2d on the larger side: of the kernel - stride rows too many, the smaller half is
    cut above, the rest below.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, (kernel - stride) // 2)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        height, width = x.shape[2] * self.stride[0], x.shape[3] * self.stride[1]
        return super().forward(x)[:, :, :height, :width]


def _over_pairs(weight: Tensor) -> Tensor:
    """[., ., k, k] -> [., ., k + 1, k + 1]: what a kernel comes to that is summed over 2×2 neighbouring places."""
    rows = F.pad(weight, (0, 0, 1, 1))
    rows = rows[:, :, 1:] + rows[:, :, :-1]
    columns = F.pad(rows, (1, 1))
    return columns[..., 1:] + columns[..., :-1]


def doubled(x: Tensor) -> Tensor:
    """Each pixel made 2×2: [B, C, H, W] -> [B, C, 2H, 2W]."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class UpConv2d(SameConv2d):
    """Each pixel made 2×2, then `SameConv2d`: [B, in, H, W] -> [B, out, 2H, 2W].

    The same function, to rounding, and state dict, as one transposed convolution of stride 2, which doesn't make the
    larger picture. Of the k² taps of a pixel there many fall on the same pixel of ``x``: (k + 1)² / 4 are left, 4 of 9
    and 9 of 25, forwards and backwards.
    """

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel_size[0]
        before = (kernel - 1) // 2
        weight = _over_pairs(self.weight.flip(2, 3)).transpose(0, 1)
        padding, more = kernel - 1 - before, kernel - 1 - 2 * before
        return F.conv_transpose2d(x, weight, self.bias, 2, padding, more)

    def as_written(self, x: Tensor) -> Tensor:
        """The same as it is written down: upsampled, then convolved."""
        return super().forward(doubled(x))


class UpConvTranspose2d(SameConvTranspose2d):
    """Each pixel made 2×2, then `SameConvTranspose2d` of stride 1 and an odd kernel, as `UpConv2d` has it."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int) -> None:
        assert kernel % 2
        super().__init__(channels_in, channels_out, kernel)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return F.conv_transpose2d(x, _over_pairs(self.weight), self.bias, 2, self.kernel_size[0] // 2)

    def as_written(self, x: Tensor) -> Tensor:
        """The same as it is written down: upsampled, then convolved."""
        return super().forward(doubled(x))


class ConvMean2d(nn.Conv2d):
    """Convolution with an odd kernel and "same" padding, then 2×2 means: [B, in, H, W] -> [B, out, H/2, W/2].

    The same function, to rounding, and state dict, as one convolution of stride 2: (k + 1)² / 4 taps a pixel of ``x``,
    where k² were.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int) -> None:
        assert kernel % 2
        super().__init__(channels_in, channels_out, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, _over_pairs(self.weight) / 4, self.bias, 2, self.kernel_size[0] // 2)

    def as_written(self, x: Tensor) -> Tensor:
        """The same as it is written down: convolved, then the means."""
        return F.avg_pool2d(super().forward(x), 2)


class OnePixelConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution without bias of pictures of one pixel, [B, in, 1, 1] -> [B, out, k, k]: done as a
    dense layer, which is several times as fast."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int) -> None:
        super().__init__(channels_in, channels_out, kernel, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        weight = self.weight.permute(0, 2, 3, 1)  # [in, k, k, out]: channels last, as what follows likes it
        pixels = x.flatten(1) @ weight.flatten(1)
        return pixels.view(-1, *weight.shape[1:]).permute(0, 3, 1, 2)

    def as_written(self, x: Tensor) -> Tensor:
        """The same as a convolution."""
        return super().forward(x)


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
        return _sum_over_ranks(gradients[0])


def _sum_over_ranks(x: Tensor) -> Tensor:
    return _SumOverRanks.apply(x)  # type: ignore[no-untyped-call]


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
        if alone and self.training and x.numel() == x.shape[1]:
            # One value a channel, as of a last step of one row, has no statistics; torch would raise.
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        if alone or not self.training:
            return super().forward(x)
        self._check_input_dim(x)  # type: ignore[no-untyped-call]
        channels = x.shape[1]
        axes = [0, *range(2, x.dim())]
        shape = [1, channels] + [1] * (x.dim() - 2)
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x  # as torch's own statistics
        count = wide.new_full((1,), x.numel() // channels)  # filled there: new_tensor would copy, and wait
        totals = _sum_over_ranks(torch.cat([wide.sum(axes), count]))  # [C + 1]
        total = totals[-1].detach()
        mean = totals[:-1] / total
        is_one = total <= 1  # value a channel, as above; asked without waiting for the device
        if self.running_mean is not None:
            mean = torch.where(is_one, self.running_mean, mean)
        centred = wide - mean.view(shape)
        # A second reduction rather than a sum of squares: E[x²] - E[x]² cancels in float32.
        variance = _sum_over_ranks(centred.square().sum(axes)) / total  # [C]
        if self.running_var is not None:
            variance = torch.where(is_one, self.running_var, variance)
        self._track(mean.detach(), variance.detach(), total)
        normal = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(x.dtype)

    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(count > 1)
        weight = 1.0 / max(1.0, float(self.num_batches_tracked)) if self.momentum is None else self.momentum
        with torch.no_grad():
            self.running_mean.lerp_(mean, weight)
            # Of one value it is the running one itself; 0 / 0 would stay in the statistics for good.
            self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), weight)


class GlobalBatchNorm1d(_GlobalBatchNorm, nn.BatchNorm1d):
    """``nn.BatchNorm1d`` over the global batch: [B, C] or [B, C, L]."""


class GlobalBatchNorm2d(_GlobalBatchNorm, nn.BatchNorm2d):
    """``nn.BatchNorm2d`` over the global batch: [B, C, H, W]."""


def keras_norm(channels: int, momentum: float = 0.99) -> GlobalBatchNorm2d:
    """BatchNorm as Keras has it: eps 1e-3, ``momentum`` the weight of the old statistics (torch: the new)."""
    return GlobalBatchNorm2d(channels, eps=1e-3, momentum=1 - momentum)


def keras_norm_flat(features: int, momentum: float = 0.99) -> GlobalBatchNorm1d:
    """``keras_norm`` of features [B, F]."""
    return GlobalBatchNorm1d(features, eps=1e-3, momentum=1 - momentum)


def of_label(table: nn.Embedding, y: Tensor) -> Tensor:
    """The table's rows [B, D] of labels int64 [B]; of weights float [B, K] the mixtures of its rows."""
    return y @ table.weight if y.is_floating_point() else table(y)


class ConditionalBatchNorm2d(nn.Module):
    """BatchNorm whose scale and shift, 1 and 0 at the start, are the category's own.

    (Dumoulin et al. 2017; in GANs Miyato & Koyama 2018, section 5.) [B, C, H, W], int64 [B]; or float [B, K],
    weights that mix the categories' scales and shifts.
    """

    def __init__(self, channels: int, num_categories: int, eps: float, momentum: float) -> None:
        super().__init__()
        self.norm = GlobalBatchNorm2d(channels, eps=eps, momentum=momentum, affine=False)
        self.scale = nn.Embedding(num_categories, channels)
        self.shift = nn.Embedding(num_categories, channels)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        scale, shift = of_label(self.scale, y), of_label(self.shift, y)
        return self.norm(x) * scale[:, :, None, None] + shift[:, :, None, None]


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
        weight = self.weight  # read once: under spectral normalisation each read is a power iteration
        pictures = F.conv2d(x, weight[:, : self.channels], None, self.stride, self.padding)
        height, width = pictures.shape[2:]
        rows = self._taps_inside(x.shape[2], height, 0, pictures)
        columns = self._taps_inside(x.shape[3], width, 1, pictures)
        inside = torch.kron(rows, columns)  # [H' W', k k]
        taps = weight.permute(1, 2, 3, 0)[self.channels + y].flatten(1, 2).to(pictures.dtype)  # [B, k k, out]
        # Channels last, as convolutions like it, so that the sum is one product of matrices for each picture.
        places = pictures.permute(0, 2, 3, 1).flatten(1, 2)  # [B, H' W', out]
        places = torch.baddbmm(places, inside.expand(places.shape[0], -1, -1), taps)
        return places.unflatten(1, (height, width)).permute(0, 3, 1, 2)

    def as_written(self, x: Tensor, y: Tensor) -> Tensor:
        """The same with the planes made."""
        planes = F.one_hot(y, self.in_channels - self.channels).to(x.dtype)[:, :, None, None]
        return super().forward(torch.cat([x, planes.expand(-1, -1, *x.shape[2:])], 1))

    def _taps_inside(self, size_in: int, size_out: int, dimension: int, like: Tensor) -> Tensor:
        """[size_out, k]: 1 where tap k of output i reads inside the picture, else 0."""
        stride, padding, kernel = (
            self.stride[dimension],
            int(self.padding[dimension]),
            self.kernel_size[dimension],
        )
        first = torch.arange(size_out, device=like.device)[:, None] * stride - padding
        tap = first + torch.arange(kernel, device=like.device)
        return ((tap >= 0) & (tap < size_in)).to(like.dtype)


# Layers that compute what they say in another way; ``as_written`` is that of the textbook.
REWRITTEN = (UpConv2d, UpConvTranspose2d, ConvMean2d, OnePixelConvTranspose2d, LabelPlaneConv2d, Unflatten)


def initialise_dcgan(network: nn.Module) -> None:
    """Weights N(0, 0.02), BatchNorm scales N(1, 0.02) (DCGAN: Radford et al. 2016, section 4)."""
    for layer in network.modules():
        if isinstance(layer, WEIGHTED):
            initialise_normal(layer, 0.02)
        elif isinstance(layer, GlobalBatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
