"""The kernels draw what a slow description of the same picture draws, but for rounding."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from doodle_dist.data.raster import rasterize

Stroke = tuple[list[int], list[int]]
SUBROWS, SUBCOLUMNS = 15, 16
TOLERANCE = 0.1  # cairo's, in pixels


def pen(radius: float) -> NDArray[np.float64]:
    """The corners of cairo's round pen, in pixels."""
    corners = math.ceil(2 * math.pi / math.acos(1 - TOLERANCE / radius))
    angles = 2 * math.pi * np.arange(corners + corners % 2) / (corners + corners % 2)
    return np.rint(256 * radius * np.stack([np.cos(angles), np.sin(angles)], 1)) / 256


def crossed(corners: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where a convex polygon begins and ends in each row [2, rows]; infinities where it is not."""
    ends = np.stack([np.full(len(y), np.inf), np.full(len(y), -np.inf)])
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 != y1:
            inside = (y >= min(y0, y1)) & (y < max(y0, y1))
            x = np.where(inside, x0 + (y - y0) * (x1 - x0) / (y1 - y0), np.nan)
            ends = np.stack([np.fmin(ends[0], x), np.fmax(ends[1], x)])
    return ends


def slow(
    strokes: list[Stroke], side: int, line_width: float = 16.0, padding: float = 16.0
) -> NDArray[np.int64]:
    """Each stroke the union of pens and bands, 15 x 16 samples a pixel, composited over what is there."""
    scale = side / (256 + 2 * padding + line_width)
    radius = line_width / 2 * scale
    rows = np.arange(side * SUBROWS)
    y = (rows + 0.5) / SUBROWS
    samples = np.arange(side * SUBCOLUMNS)
    # Every sub-row's samples lie a little further to the left than the last's, in steps that spread them evenly.
    shift = (rows % SUBROWS * 7 % SUBROWS + 0.5) / SUBROWS
    far = [max(max(stroke[axis]) for stroke in strokes) for axis in (0, 1)]
    picture = np.zeros((side, side), np.int64)
    for stroke in strokes:
        places = [
            np.rint(256 * scale * (np.array(stroke[axis]) + (256 - far[axis]) / 2 + line_width / 2 + padding))
            / 256
            for axis in (0, 1)
        ]
        points = np.stack(places, 1)
        covered = np.zeros((len(rows), len(samples)), bool)
        for a, b in zip(points[: max(len(points) - 1, 1)], points[min(1, len(points) - 1) :], strict=True):
            shapes = [a + pen(radius), b + pen(radius)]
            if math.dist(a, b):
                across = np.rint(256 * radius / math.dist(a, b) * np.array([b[1] - a[1], a[0] - b[0]])) / 256
                shapes.append(np.stack([a + across, b + across, b - across, a - across]))
            ends = np.stack([crossed(shape, y) for shape in shapes])
            first, last = ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)
            reach = (np.floor(edge * SUBCOLUMNS + shift) for edge in (first, last))
            begin, end = (np.nan_to_num(edge, posinf=side * SUBCOLUMNS, neginf=0)[:, None] for edge in reach)
            covered |= (samples >= begin) & (samples < end)
        count = covered.reshape(side, SUBROWS, side, SUBCOLUMNS).sum(axis=(1, 3))
        alpha = (count * 17 + 8) >> 4  # 240 samples are 255
        rest = picture * (255 - alpha) + 127
        picture = alpha + ((rest + (rest >> 8)) >> 8)
    return picture


def drawing(rng: np.random.Generator) -> list[Stroke]:
    strokes = []
    for n in rng.choice([1, 2, 3, 5, 12], rng.integers(1, 4)):
        x, y = rng.integers(0, 256, (2, n))
        strokes.append((x.tolist(), y.tolist()))
    return strokes


@pytest.mark.parametrize(
    ("side", "line_width", "padding", "drawings"),
    [
        (28, 16, 16, 40),
        (28, 5, 0, 20),
        (28, 40, 3, 20),
        (8, 16, 16, 20),
        (63, 16, 16, 10),
        (64, 16, 16, 10),
        (130, 40, 0, 4),
        (224, 16, 16, 4),
    ],
)
def test_the_picture_is_the_slow_one_s(side: int, line_width: float, padding: float, drawings: int) -> None:
    rng = np.random.default_rng(side)
    off = []
    for _ in range(drawings):
        strokes = drawing(rng)
        ours = rasterize(strokes, side=side, line_width=line_width, padding=padding).astype(int)
        theirs = slow(strokes, side, line_width, padding)
        off.append((ours - theirs)[(ours > 0) | (theirs > 0)])
    grey_levels = np.concatenate(off)
    # A pen of 18 corners (side 63) has none at its top, where a level band, which is as wide as the circle, would be a
    # sub-row wider than it: 17 grey levels for each stroke.
    most = 8 if side == 28 else 36
    assert np.abs(grey_levels).mean() < 0.4
    assert abs(grey_levels.mean()) < 0.2, "neither bolder nor thinner"
    assert np.abs(grey_levels).max() <= most


def test_long_strokes_are_drawn_to_their_end() -> None:
    """Segments are prepared 128 at a time, coordinates placed 16 at a time."""
    rng = np.random.default_rng(0)
    for n in (16, 17, 128, 129, 130, 300):
        walk = np.clip(np.cumsum(rng.integers(-9, 10, (2, n)), axis=1) + 128, 0, 255)
        strokes = [(walk[0].tolist(), walk[1].tolist()), ([3, 250], [n % 255, 9])]
        ours, theirs = rasterize(strokes).astype(int), slow(strokes, 28)
        ink = (ours > 0) | (theirs > 0)
        assert np.abs(ours - theirs)[ink].mean() < 0.8
