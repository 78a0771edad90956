"""The recipe's numbers in units, its pen and its dither, from a side, a line width and a padding.

Geometry is in *units* of 1/256 pixel along y; along x too, but coarser for sides over 63, where 256 units a pixel
would overflow int16 lanes.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

SUBROWS = 15
SUBCOLUMNS = 16
LANES = 64  # sub-rows in one vector
MIN_SIDE, MAX_SIDE = 8, 1023
CAIRO_TOLERANCE = 0.1  # pixels: cairo's default, which sets the number of the pen's vertices

NOWHERE = 16_383  # a pen's half width outside the pen: its interval becomes empty, and still fits int16
PEN_PHASES = 64  # of a sub-row, at which a pen may begin
BIAS = 16_384  # keeps quantised positions unsigned


class Recipe(NamedTuple):
    """What a side, a line width and a padding come to, in units."""

    side: int
    x_bits: int  # 2**x_bits units of x are a pixel
    reach: int  # from a point to the pen's top
    reach_x: int
    radius: np.float32
    pen_length: int  # sub-rows that a pen may touch
    pitch: int  # lanes of a column of the canvas
    scale_x: np.float32  # units per coordinate
    scale_y: np.float32
    margin: np.float32  # around the drawing, in coordinates


def _pen_polygon(radius: float) -> npt.NDArray[np.float64]:
    """cairo's pen for a circle of this radius: float[vertices, 2], all in pixels. Empty where it draws nothing."""
    if 4 * radius <= CAIRO_TOLERANCE:
        return np.empty((0, 2))
    vertices = 4
    if radius > CAIRO_TOLERANCE:
        vertices = math.ceil(2 * math.pi / math.acos(1 - CAIRO_TOLERANCE / radius))
        vertices = max(vertices + vertices % 2, 4)
    angle = 2 * np.pi * np.arange(vertices) / vertices
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _pen_table(polygon: npt.NDArray[np.int64], reach: int, length: int) -> npt.NDArray[np.int16]:
    """Half widths of a pen in each sub-row, for each phase of a sub-row that its top may have.

    ``polygon``: the pen's vertices in units, by rising angle; it is its own mirror image.
    """
    table = np.full((PEN_PHASES, LANES + length + LANES), -NOWHERE, np.int16)
    for phase in range(PEN_PHASES):
        start = 256 * (phase + 0.5) / PEN_PHASES  # 15 y + 128 of the top, modulo 256
        for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            if y1 <= y0:  # the left side
                continue
            rows = np.arange((15 * (y0 + reach) + start) // 256, (15 * (y1 + reach) + start) // 256)
            y = ((rows + 0.5) * 256 + 128 - start) / 15 - reach
            table[phase, LANES + rows.astype(int)] = np.floor(x0 + (y - y0) * (x1 - x0) / (y1 - y0) + 0.5)
    return table


@lru_cache(maxsize=16)
def tables(
    side: int, line_width: float, padding: float
) -> tuple[Recipe, npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """What the kernels need to know of a recipe: its numbers, the pen's table and the dither's."""
    scale = side / (256 + 2 * padding + line_width)
    radius = line_width / 2 * scale
    x_bits = next(bits for bits in (8, 7, 6, 5, 4) if side << bits < NOWHERE)
    polygon = np.rint(_pen_polygon(radius) * (1 << x_bits, 256)).astype(np.int64)
    reach_x, reach = (int(v) for v in polygon.max(axis=0, initial=0))
    length = 2 * SUBROWS * reach // 256 + 2
    recipe = Recipe(
        side,
        x_bits,
        reach,
        reach_x,
        radius=np.float32(256 * radius if len(polygon) else 0),
        pen_length=length,
        pitch=SUBROWS * side + LANES + 4,
        scale_x=np.float32(scale * (1 << x_bits)),
        scale_y=np.float32(scale * 256),
        margin=np.float32((line_width + 2 * padding) / 2),
    )
    # Steps of 7/15 spread any few neighbours evenly over a sub-column.
    order = np.arange(SUBROWS) * 7 % SUBROWS
    dither = BIAS + np.rint((order + 0.5) * (1 << x_bits) / (SUBCOLUMNS * SUBROWS))
    return (
        recipe,
        _pen_table(polygon, reach, length).ravel(),
        np.resize(dither, SUBROWS + LANES).astype(np.int16),
    )


def check_recipe(side: int, line_width: float, padding: float) -> None:
    if not MIN_SIDE <= side <= MAX_SIDE:
        raise ValueError(f"side = {side}: must be {MIN_SIDE}..{MAX_SIDE}")
    if not (line_width > 0 and math.isfinite(line_width)):
        raise ValueError(f"line_width = {line_width}: must be positive")
    if not (padding >= 0 and math.isfinite(padding)):
        raise ValueError(f"padding = {padding}: must be 0 or more, or ink would fall outside the picture")
