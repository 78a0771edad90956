"""Random changes of picture batches on their own device, differentiable by the picture.

Uniform random numbers come in, ``NUMBERS`` for each picture, whoever draws them. A task draws them by lane
(training/task.py), so that the run doesn't depend on the number of ranks.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from doodle_dist.config.model import AugmentConfig

BLANK = -1.0  # the background's value


@dataclass(frozen=True)
class Augmentation:
    """What happens to each of B pictures.

    ``matrices`` [B, 2, 2] turn and scale, ``shifts`` [B, 2] move by (x, y) pixels, ``cutout_centres`` [B, 2]
    are (row, column) of the blanked squares as fractions of the side, ``cutout_on`` bool [B] says which
    pictures have one. ``colors`` [B, 3] are what is added to the brightness and the factors of saturation
    and contrast.
    """

    matrices: Tensor
    shifts: Tensor
    cutout_centres: Tensor
    cutout_on: Tensor
    colors: Tensor


# Uniform random numbers in [0, 1) that one picture's changes take, whatever the config.
NUMBERS = 11


def changes(uniform: Tensor, config: AugmentConfig, probability: Tensor | None = None) -> Augmentation:
    """The changes that uniform random numbers [B, NUMBERS] stand for.

    ``probability``, a scalar, stands for the config's at a moment of its ramp. Without rotation and scale the shifts
    are whole pixels, as in DiffAugment (Zhao et al. 2020, section 3).
    """
    moved = (uniform[:, 0] < (config.probability if probability is None else probability)).to(uniform.dtype)
    signed = (uniform[:, 1:5] * 2 - 1) * moved[:, None]
    angle = signed[:, 0] * math.radians(config.rotate_deg)
    scale = torch.exp(signed[:, 1] * config.scale_log)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    matrices = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    if is_rigid_shift(config):
        whole = math.floor(config.translate_px)
        # Every shift from -whole to whole is equally likely: floor of [-whole, whole + 1).
        shifts = torch.floor((signed[:, 2:4] + 1) / 2 * (2 * whole + 1)).clamp(max=2 * whole) - whole
        shifts = shifts * moved[:, None]
    else:
        shifts = signed[:, 2:4] * config.translate_px
    # Brightness U(-1/2, 1/2) on pictures in [-1, 1], saturation U(0, 2), contrast U(1/2, 3/2).
    brightness, saturation, contrast = ((uniform[:, 8:11] - 0.5) * moved[:, None]).unbind(1)
    colors = torch.stack([brightness, 2 * saturation + 1, contrast + 1], 1)
    return Augmentation(matrices, shifts, uniform[:, 5:7], uniform[:, 7] < config.cutout_probability, colors)


def is_rigid_shift(config: AugmentConfig) -> bool:
    """Whether pictures are only moved, by whole pixels, so that no resampling is needed."""
    return config.rotate_deg == 0 and config.scale_log == 0


def apply(x: Tensor, augmentation: Augmentation, config: AugmentConfig) -> Tensor:
    """Change pictures [B, C, H, W] in [-1, 1]; what comes in from outside is background (-1)."""
    if x.shape[0] == 0:  # a rank's part of a short batch; grid_sample refuses it
        return x
    if config.color:
        x = _color(x, augmentation.colors.to(x))
    if is_rigid_shift(config):
        if config.translate_px >= 1:
            x = _shift(x, augmentation.shifts.to(x.device).long(), math.floor(config.translate_px))
    else:
        x = _affine(x, augmentation.matrices.to(x), augmentation.shifts.to(x))
    if config.cutout_px > 0 and config.cutout_probability > 0:
        x = _cutout(x, augmentation, config.cutout_px)
    return x


def _color(x: Tensor, colors: Tensor) -> Tensor:
    """Brightness, saturation about the pixel's grey, contrast about the picture's mean (DiffAugment: Zhao et
    al. 2020, section 3); a picture of one channel has no saturation to change."""
    brightness, saturation, contrast = (part[:, None, None, None] for part in colors.unbind(1))
    x = x + brightness
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * saturation
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * contrast


def _shift(x: Tensor, shifts: Tensor, most: int) -> Tensor:
    """Move picture b by ``shifts[b]`` = (x, y) whole pixels, right and down."""
    batch, _, height, width = x.shape
    padded = F.pad(x, (most, most, most, most), value=BLANK)
    rows = torch.arange(height, device=x.device) + most - shifts[:, 1:]  # [B, H]
    columns = torch.arange(width, device=x.device) + most - shifts[:, :1]  # [B, W]
    picture = torch.arange(batch, device=x.device)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[picture, rows[:, :, None], columns[:, None, :]]  # [B, H, W, C]
    return moved.permute(0, 3, 1, 2)


def _affine(x: Tensor, matrices: Tensor, shifts: Tensor) -> Tensor:
    """Turn and scale about the centre, then move: output at p is input at M⁻¹ (p - shift), bilinear."""
    with torch.autocast(x.device.type, enabled=False):  # bfloat16's places are hundredths of a pixel apart
        # Not by torch.linalg.inv, which waits for the device, to look for errors.
        a, b, c, d = matrices.flatten(1).unbind(1)
        inverse = torch.stack([d, -b, -c, a], 1).view(-1, 2, 2) / (a * d - b * c)[:, None, None]
        # In affine_grid's units, where a side is 2.
        moved = torch.stack([shifts[:, 0] * 2 / x.shape[3], shifts[:, 1] * 2 / x.shape[2]], 1)
        offset = -inverse @ moved[:, :, None]
        grid = F.affine_grid(torch.cat([inverse, offset], dim=2), list(x.shape), align_corners=False)
        return F.grid_sample(x - BLANK, grid, align_corners=False) + BLANK


def _cutout(x: Tensor, augmentation: Augmentation, side: int) -> Tensor:
    """Blank a square of ``side`` pixels (DeVries & Taylor 2017), partly outside near the border."""
    centres = augmentation.cutout_centres.to(x.device)
    top = torch.floor(centres[:, 0] * x.shape[2]).long() - side // 2
    left = torch.floor(centres[:, 1] * x.shape[3]).long() - side // 2
    rows = torch.arange(x.shape[2], device=x.device) - top[:, None]
    columns = torch.arange(x.shape[3], device=x.device) - left[:, None]
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    hidden = inside & augmentation.cutout_on.to(x.device)[:, None, None]
    return torch.where(hidden[:, None], BLANK, x)
