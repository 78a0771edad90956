"""What a config changes in a built network: its normalisation layers, spectral norm, dropout."""

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from doodle_dist.config.model import Normalization
from doodle_dist.models.layers import WEIGHTED, GlobalBatchNorm1d, GlobalBatchNorm2d

BatchNorm = GlobalBatchNorm1d | GlobalBatchNorm2d


def replace_normalization(network: nn.Module, kind: Normalization) -> int:
    """Put ``kind`` in the place of every BatchNorm of ``network``; returns how many there were.

    ``instance`` normalises each channel of each picture (Ulyanov et al. 2016), ``layer`` all of a picture
    together (Ba et al. 2016); both keep BatchNorm's scale and shift of each channel. Features [B, F] have no
    places to average over: ``instance`` is ``layer`` for them.
    """
    found = 0
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, BatchNorm):
                found += 1
                if kind != "batch":
                    setattr(parent, name, _instead_of(layer, kind))
    return found


def _instead_of(norm: BatchNorm, kind: Normalization) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    channels = norm.num_features
    groups = channels if kind == "instance" and isinstance(norm, GlobalBatchNorm2d) else 1
    instead = nn.GroupNorm(groups, channels, eps=norm.eps, affine=norm.affine)
    if norm.affine:
        instead.load_state_dict({"weight": norm.weight, "bias": norm.bias})
    return instead


def tune_normalization(network: nn.Module, *, momentum: float | None, eps: float | None) -> None:
    """Set BatchNorm's momentum (torch's: the weight of the newest batch), and every norm's eps."""
    for layer in network.modules():
        if momentum is not None and isinstance(layer, BatchNorm):
            layer.momentum = momentum
        if eps is not None and isinstance(layer, BatchNorm | nn.GroupNorm):
            layer.eps = eps


def apply_spectral_norm(network: nn.Module) -> None:
    """Divide the weight of every convolution, dense layer and embedding by its largest singular value.

    One power iteration a forward in training (Miyato et al. 2018, algorithm 1). Embeddings too, as Miyato &
    Koyama's projection critic does. A weight that starts at zero (fix-up) has no direction to keep, and
    0 / 0 in every forward: it starts from a normal distribution, whose size the division takes away.
    """
    for layer in list(network.modules()):
        if isinstance(layer, (*WEIGHTED, nn.Embedding)):
            if not layer.weight.any():
                nn.init.normal_(layer.weight)
            spectral_norm(layer)


def set_dropout(network: nn.Module, probability: float) -> int:
    """Give every dropout layer this probability; returns how many there are."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Dropout)]
    for layer in layers:
        layer.p = probability
    return len(layers)
