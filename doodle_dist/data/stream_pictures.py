"""The pictures of a window's rows: strokes changed and rasterised, pixels as they are."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from doodle_dist.data.raster import rasterize_packed
from doodle_dist.data.schema import binary_buffers, fixed_rows
from doodle_dist.data.stream_plan import StreamPlan
from doodle_dist.data.stroke_augment import augment_packed

# uint8 [N, channels, side, side]: a NumPy array, or a tensor on a device, of which this module knows nothing
Pictures: TypeAlias = Any
# (packed drawings, their offsets [N + 1], side) -> pictures of N drawings
Rasteriser = Callable[[NDArray[np.uint8], NDArray[np.int32], int], Pictures]


def pictures(plan: StreamPlan, table: pa.Table, epoch: int = 0) -> NDArray[np.uint8]:
    """uint8 [N, channels, side, side] of the N drawings of a window of ``epoch``, or of a slice of one."""
    if "strokes" in table.column_names:
        rows = rasterize_packed(*_packed(plan, table, epoch), side=plan.side)
    else:
        rows = fixed_rows(table["pixels"].chunk(0), plan.pixels)
    return rows.reshape(-1, plan.channels, plan.side, plan.side)


def _packed(plan: StreamPlan, table: pa.Table, epoch: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """The packed drawings of a table, changed as the plan has it, and their offsets."""
    buffer, offsets = binary_buffers(table["strokes"].chunk(0))
    if plan.strokes is None:
        return buffer, offsets
    return augment_packed(buffer, offsets, table["key_id"].to_numpy(), plan.strokes, plan.seed, epoch)


def pictures_by(draw: Rasteriser | None, plan: StreamPlan, table: pa.Table, epoch: int) -> Pictures:
    """`pictures`, drawn by ``draw`` where they are drawn at all; None: the CPU's rasteriser."""
    if draw is None or "strokes" not in table.column_names:
        return pictures(plan, table, epoch)
    return draw(*_packed(plan, table, epoch), plan.side).reshape(-1, plan.channels, plan.side, plan.side)


def rasterized(plan: StreamPlan, table: pa.Table, epoch: int) -> pa.Table:
    """A window's table with pixels in place of strokes."""
    rasters = pa.py_buffer(pictures(plan, table, epoch))
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(plan.pixels), len(table), [None, rasters])
    return pa.table({"key_id": table["key_id"], "label": table["label"], "pixels": column})
