"""Any picture of a drawing, made into what the training drawings are: a photo, a scan, a screenshot.

Training drawings are lines of one width, white on black, centred, their larger side as long in every picture
(the recipe is in data/raster.py). So of a picture only where its lines run is taken: paper and light are told from
ink, lines are thinned to their middles, and the middles are drawn anew by the recipe.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from doodle_dist.data.decode import load_picture

Grey = NDArray[np.float32]

# The recipe, in units of which a drawing's larger side has 255: 28 pixels are 304 units.
_UNITS, _EXTENT, _LINE_WIDTH = 304, 255, 16
_WORK_PX = 1600  # larger pictures are made smaller first
_THIN_PX = 300  # the larger side of what is thinned
_LEAST_CONTRAST = 12.0  # grey levels between ink and paper
_FILLED = 0.2  # lines as wide as this share of the drawing are no lines: a filled shape


def as_training_picture(data: bytes, side: int) -> NDArray[np.uint8]:
    """uint8 [side, side], white ink on black, of a PNG or JPEG file's bytes.

    Whether ink is dark on light or light on dark is found out. A picture of side × side pixels is taken to be
    framed already and only turned white on black; of any other the drawing is cropped, centred and scaled, and
    its lines get the training drawings' width. A filled shape is drawn as its outline. Raises ValueError with a
    short reason for what is no picture, or one with nothing drawn in it.
    """
    grey = _grey(data, "white")
    if float(np.ptp(grey)) < _LEAST_CONTRAST:
        grey = _grey(data, "black")  # light ink on a transparent ground
    if float(np.ptp(grey)) < _LEAST_CONTRAST:
        raise ValueError("nothing is drawn in it")
    if grey.shape == (side, side):
        _, sign, _ = _above_ground(grey)
        return (grey if sign > 0 else 255 - grey).astype(np.uint8)
    lines = _middle_lines(_cropped(*_ink(grey)))
    return _redrawn(lines, side)


def _grey(data: bytes, ground: str) -> Grey:
    """[H, W] in 0..255, at most _WORK_PX on the larger side."""
    image = load_picture(data, ground=ground).convert("L")
    if max(image.size) > _WORK_PX:
        image = image.reduce(max(1, max(image.size) // _WORK_PX))
        image.thumbnail((_WORK_PX, _WORK_PX), Image.Resampling.BOX)
    return np.asarray(image, np.float32)


def _above_ground(grey: Grey) -> tuple[Grey, int, float]:
    """(what differs from the ground [H, W], ink being positive; 1 for light ink, -1 for dark; the ground's noise).

    The ground is a surface of second order, for light that falls unevenly, fitted by least trimmed squares to
    the half of the pixels that lie nearest to it (Rousseeuw & Van Driessen 2006, section 2): ink covers less.
    What isn't ground lies on the ink's side, which the sign of its third moment tells.
    """
    small = np.asarray(
        Image.fromarray(grey).resize(_fitting(grey.shape, 160), Image.Resampling.BOX), np.float64
    )
    terms, values = _surface_terms(small.shape), small.ravel()
    fits = []
    # From all pixels, and from those at the border, where there is hardly ever ink: the better fit is taken.
    for start in (np.ones(len(values), bool), np.abs(terms[:, 1:3]).max(axis=1) > 0.8):
        kept = start
        for _ in range(12):
            weights, *_ = np.linalg.lstsq(terms[kept], values[kept], rcond=None)
            away = np.abs(values - terms @ weights)
            kept = away <= np.median(away)
        fits.append((float(away[kept].sum()), weights))
    _, weights = min(fits, key=lambda fit: fit[0])
    rest = grey - (_surface_terms(grey.shape) @ weights).reshape(grey.shape)
    sign = 1 if float((rest**3).sum()) > 0 else -1
    return (rest * sign).astype(np.float32), sign, 1.4826 * float(np.median(np.abs(rest)))


def _surface_terms(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """[H W, 6]: 1, x, y, x², xy, y² of every pixel, x and y in [-1, 1]."""
    y, x = (axis.ravel() for axis in np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def _fitting(shape: tuple[int, ...], largest: int) -> tuple[int, int]:
    """(width, height) of [H, W] made no larger than ``largest``."""
    share = min(1.0, largest / max(shape))
    return max(1, round(shape[1] * share)), max(1, round(shape[0] * share))


def _ink(grey: Grey) -> tuple[Grey, float]:
    """(ink [H, W] from 0 to 1, the share of it that may be specks). Raises ValueError where there is none."""
    above, _, noise = _above_ground(grey)
    strongest = float(np.percentile(above, 99.9))
    if strongest < max(_LEAST_CONTRAST, 6 * noise):
        # One dot in a large picture is less than a thousandth of it.
        strongest = float(above.max())
        if strongest < max(_LEAST_CONTRAST, 12 * noise):
            raise ValueError("nothing is drawn in it")
    full = float(np.median(above[above > strongest / 2]))
    return np.clip(above / full, 0, 1).astype(np.float32), (0.0 if noise < 1 else 0.002)


def _cropped(ink: Grey, specks: float) -> Grey:
    """The part that holds all ink but a share ``specks`` at each side, which noise and dust may be."""
    mask = ink > 0.5
    box = []
    for axis in (1, 0):
        mass = np.cumsum(mask.sum(axis=axis), dtype=np.float64)
        first = int(np.searchsorted(mass, specks * mass[-1], side="right"))
        last = int(np.searchsorted(mass, (1 - specks) * mass[-1], side="left"))
        box.append(slice(first, last + 1))
    return ink[box[0], box[1]]


def line_width(ink: Grey) -> float:
    """Mean width, pixels, of the lines in ink [H, W] from 0 to 1: twice their area over their outline's length.

    The length is the total variation, of gradients over squares of four pixels, which is right in any direction
    and for soft edges too.
    """
    padded = np.pad(ink, 1)
    down, right = np.diff(padded, axis=0), np.diff(padded, axis=1)
    outline = np.hypot(down[:, 1:] + down[:, :-1], right[1:] + right[:-1]).sum() / 2
    return float(2 * ink.sum() / max(float(outline), 1e-9))


def _middle_lines(ink: Grey) -> NDArray[np.bool_]:
    """One-pixel lines [h, w] along the middles of the ink's, of a drawing about _THIN_PX large."""
    share = _THIN_PX / max(ink.shape)
    width = line_width(ink)
    if width * share < 2:  # lines that would be too faint to be found once it is smaller
        grown = 2 * math.ceil((2 / share - width) / 2) + 1
        ink = np.pad(ink, grown)
        pool = torch.from_numpy(np.ascontiguousarray(ink))[None, None]
        for kernel in ((grown, 1), (1, grown)):
            pool = F.max_pool2d(pool, kernel, 1, (kernel[0] // 2, kernel[1] // 2))
        ink = pool[0, 0].numpy()
    size = max(1, round(ink.shape[1] * share)), max(1, round(ink.shape[0] * share))
    method = Image.Resampling.BOX if share < 1 else Image.Resampling.BICUBIC
    mask = np.pad(np.asarray(Image.fromarray(ink).resize(size, method)) > 0.5, 1)
    if line_width(mask.astype(np.float32)) > _FILLED * max(mask.shape):
        inner = mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
        mask[1:-1, 1:-1] &= ~inner
    return thin(mask)


def thin(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The skeleton of a mask [H, W], one pixel wide and connected as the mask is (Zhang & Suen 1984, section 2).

    One pixel of a square of four is kept, which the published rules take away whole: a dot stays a dot.
    """
    m = np.pad(mask, 1).astype(np.uint8)
    middle = m[1:-1, 1:-1]
    # Neighbours from above, clockwise: P2 to P9 in the paper.
    ring = (
        m[:-2, 1:-1],
        m[:-2, 2:],
        m[1:-1, 2:],
        m[2:, 2:],
        m[2:, 1:-1],
        m[2:, :-2],
        m[1:-1, :-2],
        m[:-2, :-2],
    )
    above, _, right, below_right, below, _, left, _ = ring
    changed = True
    while changed:
        changed = False
        for first in (True, False):
            count = np.sum(ring, axis=0, dtype=np.uint8)
            starts = np.sum([(ring[k] < ring[(k + 1) % 8]) for k in range(8)], axis=0, dtype=np.uint8)
            if first:
                edge = (above & right & below) | (right & below & left)
            else:
                edge = (above & right & left) | (above & below & left)
            dot = (count == 3) & (right & below_right & below).astype(bool)
            gone = (middle == 1) & (count >= 2) & (count <= 6) & (starts == 1) & (edge == 0) & ~dot
            if gone.any():
                middle[gone] = 0
                changed = True
    return middle.astype(bool)


def _redrawn(lines: NDArray[np.bool_], side: int) -> NDArray[np.uint8]:
    """uint8 [side, side]: the lines drawn by the recipe, their larger extent 255 units, centred."""
    y, x = np.nonzero(lines)
    extent = max(int(np.ptp(x)), int(np.ptp(y)), 1)
    scale = _EXTENT / extent
    canvas = torch.zeros(1, 1, _UNITS, _UNITS)
    column, row = (
        np.floor((at - (at.min() + at.max()) / 2) * scale + _UNITS / 2).astype(np.int64) for at in (x, y)
    )
    canvas[0, 0, torch.from_numpy(row), torch.from_numpy(column)] = 1
    reach = torch.arange(-_LINE_WIDTH // 2, _LINE_WIDTH // 2 + 1).float()
    pen = (reach[:, None] ** 2 + reach**2 <= _PEN_RADIUS**2).float()[None, None]
    drawn = F.conv2d(canvas, pen, padding=_LINE_WIDTH // 2)[0, 0] > 0.5
    picture = Image.fromarray(drawn.byte().numpy() * 255).resize((side, side), Image.Resampling.BOX)
    return np.asarray(picture, np.uint8)


# The pen's disc of whole units that covers what one of diameter 16 does.
_PEN_RADIUS = 7.9
