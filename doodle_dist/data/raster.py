"""Rasterise Quick, Draw! drawings as Google's own 28x28 bitmaps were made: cairo's picture, forty times its speed.

``shared/data/README.md`` gives the recipe behind Google's bitmaps. What cairo does with it, and so what this does:

- a stroke is the union of one band per segment and one round pen per point; the pen is a polygon (of 12 vertices at
  side 28: as many as keep it within 0.1 pixels of a circle), in 24.8 fixed-point coordinates;
- a pixel is sampled on 15 sub-rows, each covered exactly along x;
- strokes are composited OVER each other in 8-bit arithmetic.

How, and how fast: kernels/coverage.py.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from doodle_dist.data.kernels.coverage import FRONT_LANES
from doodle_dist.data.kernels.draw import draw_all
from doodle_dist.data.kernels.packed import check_packed, in_readable_parts, read_only
from doodle_dist.data.kernels.recipe import Recipe, check_recipe, tables
from doodle_dist.data.kernels.segments import BATCH, FIELDS
from doodle_dist.data.strokes import pack_strokes


def rasterize_packed(
    buffer: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.integer],
    *,
    side: int = 28,
    line_width: float = 16.0,
    padding: float = 16.0,
) -> npt.NDArray[np.uint8]:
    """Rasterise packed drawings (see ``strokes.py``), as they lie in an Arrow binary column.

    Drawing i is ``buffer[offsets[i]:offsets[i + 1]]``; offsets are int32 or int64 [N + 1] and may start anywhere. White
    ink (255) on black. -> uint8[N, side, side]. On one thread, without the GIL.

    Raises ValueError naming the first drawing that is empty or whose lengths don't add up to its extent.
    """
    check_recipe(side, line_width, padding)
    check_packed(buffer, offsets)
    n = len(offsets) - 1
    # Pixels are written two rows at a time: of an odd side a row more, as it was. The last picture's is there too.
    out = np.empty((n * side + 1) * side, np.uint8)[: n * side * side].reshape(n, side, side)
    # Read-only, as Arrow's buffers are: the kernels are compiled for one type of array.
    buffer, places = read_only(buffer, np.uint8), read_only(offsets, np.int64)
    if n:
        recipe, pen, dither = tables(side, float(line_width), float(padding))
        scratch = _scratch(recipe, int(np.diff(places).max()))
        for part, its_buffer, its_offsets in in_readable_parts(buffer, places):
            draw_all(recipe, pen, dither, *scratch, its_buffer, its_offsets, out[part])
    return out


def rasterize(
    strokes: Sequence[Sequence[Sequence[int]]],
    *,
    side: int = 28,
    line_width: float = 16.0,
    padding: float = 16.0,
) -> npt.NDArray[np.uint8]:
    """Rasterise one drawing, ``[(x, y), ...]`` of integers in 0..255 -> uint8[side, side]."""
    packed = np.frombuffer(pack_strokes(strokes), np.uint8)
    offsets = np.array([0, len(packed)])
    picture: npt.NDArray[np.uint8] = rasterize_packed(
        packed, offsets, side=side, line_width=line_width, padding=padding
    )[0]
    return picture


def _scratch(recipe: Recipe, longest_bytes: int) -> tuple[npt.NDArray[np.integer], ...]:
    """What the kernels work on, for drawings of so many bytes: canvas, points, segments, strokes (see draw.py)."""
    n_points = longest_bytes // 2 + 32  # two bytes a point; written 16 and read 16 + 1 at a time
    return (
        np.zeros(FRONT_LANES + recipe.side * recipe.pitch, np.int16),
        np.zeros((2, n_points), np.int32),
        np.empty(FIELDS * BATCH, np.int32),
        np.empty(5 * (longest_bytes // 4 + 1), np.int32),
    )
