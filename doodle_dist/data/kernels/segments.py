"""Segments from one point to the next: prepared many at a time, stamped onto the canvas one by one."""

# Numba infers the kernels' types, and its arithmetic is not Python's: mypy checks only what is annotated here.
# mypy: allow-untyped-defs, no-check-untyped-defs

import numpy as np

from doodle_dist.data.kernels.coverage import (
    FAR_COLUMNS,
    FRONT_LANES,
    cover,
    edge_left,
    edge_right,
    far_columns_on,
    narrow,
    next_column,
    pens_left,
    pens_right,
    quantize,
    ramp_of,
)
from doodle_dist.data.kernels.jit import inline
from doodle_dist.data.kernels.recipe import LANES, PEN_PHASES, SUBROWS

BATCH = 128  # segments prepared at a time
FIELDS = 16  # of a prepared segment

# Fields of a segment from A, its upper end, to B. Sub-rows count from A's pen's top, x from the first column:
# both ends' x; the left and the right edge of the band (first sub-row, number of sub-rows, x at sub-row 0 in 16.16);
# the edges' step per sub-row in 16.16; both pens' places in their table; sub-rows from B's pen's top (never above 0);
# where it lies on the canvas (sub-row, column), and how many columns and sub-rows it touches.
_AX, _BX, _L_FIRST, _L_COUNT, _L_X, _R_FIRST, _R_COUNT, _R_X = range(8)
_STEP, _PEN_A, _PEN_B, _BACK, _ROW, _COLUMN, _COLUMNS, _ROWS = range(8, 16)


@inline
def prepare(recipe, xs, ys, first, n, segments):
    """The n <= BATCH segments from point ``first`` to the next and so on, in units and lanes.

    Strokes are not told apart: what runs from one to the next is prepared too, and never drawn. One plain loop with
    constant strides, which LLVM vectorises: n is rounded up so that no segment is left to a scalar remainder.
    """
    to_y = np.float32(256.0 / (1 << recipe.x_bits))  # units of y per unit of x
    reach, reach_x = np.int32(recipe.reach), np.int32(recipe.reach_x)
    x_bits, last = np.int32(recipe.x_bits), np.int32(recipe.side - 1)
    stride = np.int32(recipe.pen_length + 2 * LANES)
    half, one, limit = np.float32(0.5), np.float32(65536), np.float32(32767)  # one: in 16.16 fixed point
    for k in range((n + 15) & ~15):
        x0, x1, y0, y1 = xs[first + k], xs[first + k + 1], ys[first + k], ys[first + k + 1]
        ay, by = min(y0, y1), max(y0, y1)
        ax = x0 if y0 <= y1 else x1
        dx, dy = np.int32(x0 + x1 - ax - ax), np.int32(by - ay)
        column = max(
            np.int32(0), min(np.int32(np.int32(min(x0, x1) - reach_x - 2) >> x_bits), np.int32(last - 3))
        )
        last_column = min(last, np.int32(np.int32(max(x0, x1) + reach_x + 2) >> x_bits))
        ax = np.int32(ax - (column << x_bits))

        # Sub-row s is sampled in its middle, y = (s + 1/2) 256/15, so the first at or below y is (15 y + 128) >> 8.
        a_top = np.int32(15 * (ay - reach) + 128)
        b_top = np.int32(a_top + 15 * dy)
        row = np.int32(a_top >> 8)

        # The band's edges, parallel to the segment at one radius. A level one has none: its dy leaves them no sub-row.
        run, rise = np.float32(dx), np.float32(max(dy, np.int32(1)))
        along = run * to_y
        inverse = recipe.radius / np.sqrt(along * along + rise * rise)
        nx, ny = np.rint(np.float32(dy) * inverse / to_y), np.int32(np.rint(along * inverse))
        left, right = np.int32(15 * (ay + ny) + 128), np.int32(15 * (ay - ny) + 128)
        left_end, right_end = np.int32(left + 15 * dy), np.int32(right + 15 * dy)
        left_row, right_row = np.int32(left >> 8), np.int32(right >> 8)
        left_first, right_first = np.int32(left_row - row), np.int32(right_row - row)
        # Fixed point modulo 2**32: only the lanes of the edge itself need to come out right.
        slope = run / rise
        step = np.int32(max(min(slope * np.float32(256 / 15), limit), -limit) * one)
        slope *= np.float32(1 / 15)
        left_x = np.float32(ax) - nx + np.float32(np.int32(256 - (left & 255))) * slope
        right_x = np.float32(ax) + nx + np.float32(np.int32(256 - (right & 255))) * slope

        segments[k + BATCH * _AX] = ax
        segments[k + BATCH * _BX] = np.int32(ax + dx)
        segments[k + BATCH * _L_FIRST] = left_first
        segments[k + BATCH * _L_COUNT] = np.int32(np.int32(left_end >> 8) - left_row)
        segments[k + BATCH * _L_X] = np.int32(np.int32((left_x + half) * one) - step * left_first)
        segments[k + BATCH * _R_FIRST] = right_first
        segments[k + BATCH * _R_COUNT] = np.int32(np.int32(right_end >> 8) - right_row)
        segments[k + BATCH * _R_X] = np.int32(np.int32((right_x + half) * one) - step * right_first)
        segments[k + BATCH * _STEP] = step
        segments[k + BATCH * _PEN_A] = np.int32(((a_top & 255) * PEN_PHASES >> 8) * stride + LANES)
        segments[k + BATCH * _PEN_B] = np.int32(((b_top & 255) * PEN_PHASES >> 8) * stride + LANES)
        segments[k + BATCH * _BACK] = np.int32(row - np.int32(b_top >> 8))
        segments[k + BATCH * _ROW] = row
        segments[k + BATCH * _COLUMN] = column
        segments[k + BATCH * _COLUMNS] = np.int32(last_column - column + 1)
        segments[k + BATCH * _ROWS] = np.int32(np.int32(np.int32(b_top + 30 * reach) >> 8) - row)


@inline
def _field(segments, k, which):
    return np.int64(segments[k + BATCH * which])


@inline
def stamp(recipe, scratch, k):
    """OR segment k onto the canvas: both ends' pens and the band between them."""
    segments = scratch.segments
    ax, bx, step = _field(segments, k, _AX), _field(segments, k, _BX), _field(segments, k, _STEP)
    left_first, left_count = _field(segments, k, _L_FIRST), _field(segments, k, _L_COUNT)
    right_first, right_count = _field(segments, k, _R_FIRST), _field(segments, k, _R_COUNT)
    left_x, right_x = _field(segments, k, _L_X), _field(segments, k, _R_X)
    pen_a, pen_b, back = _field(segments, k, _PEN_A), _field(segments, k, _PEN_B), _field(segments, k, _BACK)
    row, rows, columns = _field(segments, k, _ROW), _field(segments, k, _ROWS), _field(segments, k, _COLUMNS)
    canvas_at = FRONT_LANES + _field(segments, k, _COLUMN) * recipe.pitch + row

    ramp = ramp_of(step)
    done = np.int64(0)
    while True:
        a, b = pen_a + min(done, recipe.pen_length), pen_b + max(back + done, -LANES)
        left = pens_left(scratch.pen, a, ax, b, bx)
        left = edge_left(ramp, left_x >> 16, left_first - done, left_count, left)
        right = pens_right(scratch.pen, a, ax, b, bx)
        right = edge_right(ramp, right_x >> 16, right_first - done, right_count, right)
        phase = (row + done) % SUBROWS
        left = quantize(left, scratch.dither, phase, recipe.x_bits - 4)
        right = quantize(right, scratch.dither, phase, recipe.x_bits - 4)
        to = canvas_at + done
        begin, end = narrow(left), narrow(right)
        for _ in range(4):  # always, unrolled: most segments cross three or four columns
            cover(scratch.canvas, to, begin, end)
            begin, end = next_column(begin), next_column(end)
            to += recipe.pitch
        for column in range(4, columns):
            if column % FAR_COLUMNS == 0:
                left, right = far_columns_on(left), far_columns_on(right)
                begin, end = narrow(left), narrow(right)
            cover(scratch.canvas, to, begin, end)
            begin, end = next_column(begin), next_column(end)
            to += recipe.pitch
        done += LANES
        if done >= rows:
            break
        left_x += LANES * step
        right_x += LANES * step
