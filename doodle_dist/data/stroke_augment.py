"""Random changes of packed drawings before they are rasterised: another hand drawing the same thing.

Strokes are turned, sheared, stretched, bent, nudged one by one, left out or left unfinished, and the result is aligned
and scaled as official simplified drawings are (see simplify.py): top-left at 0, the larger side 255. Changing strokes
instead of pixels keeps every line as thick and as sharp as the rasteriser draws it, and costs a sixth of it.

What happens to a drawing is a pure function of (settings, seed, epoch, its key_id): random number k of a drawing is the
k-th of its own counter-based SplitMix64 sequence, so neither ranks nor windows nor the order of drawings matter, and
switching one change on or off leaves the others as they were.
"""

from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doodle_dist.data.kernels.changes import POINTS_AT_ONCE, STROKE_FIELDS, Settings, augment_all
from doodle_dist.data.kernels.packed import check_packed, in_readable_parts, read_only
from doodle_dist.data.split import splitmix64


@dataclass(frozen=True)
class StrokeAugment:
    """How far drawings are changed; all zero (the default) changes nothing.

    Every change is uniform between minus and plus what is given. Lengths are in halves of the drawing's larger side, so
    0.1 of a drawing of 0..255 is 12.75. Raises ValueError naming the setting, its value and what is allowed.
    """

    probability: float = 1.0  # share of drawings that are changed at all
    rotate_deg: float = 0.0  # either way
    aspect_log: float = 0.0  # |log| of how much wider for its height: 0.2 is 0.82 to 1.22 times
    shear: float = 0.0  # x moves by this share of y
    bend: float = 0.0  # of a smooth warp, quadratic in place, at the drawing's border
    stroke_shift: float = 0.0  # of every stroke by itself, along each axis
    stroke_scale: float = 0.0  # of every stroke by itself about its middle: 0.1 is 0.9 to 1.1 times
    drop_stroke_probability: float = 0.0  # for every stroke, but never the last one left
    drop_stroke_share: float = (
        0.25  # strokes left out have together at most this share of the strokes' extents
    )
    drop_point_probability: float = 0.0  # for every point between a stroke's ends
    unfinished_probability: float = 0.0  # share of drawings whose end is missing
    unfinished_share: float = 0.3  # at most this share of the points is missing then
    flip_probability: float = 0.0  # left for right

    def __post_init__(self) -> None:
        for field, value in zip(fields(self), astuple(self), strict=True):
            highest = _HIGHEST.get(field.name, 1.0)
            if not 0 <= value <= highest:
                raise ValueError(f"{field.name} = {value}: must be 0..{highest:g}")

    @property
    def changes_nothing(self) -> bool:
        """Whether every drawing stays as it is, byte for byte."""
        sizes = [
            self.rotate_deg,
            self.aspect_log,
            self.shear,
            self.bend,
            self.stroke_shift,
            self.stroke_scale,
            self.flip_probability,
            self.drop_stroke_probability * self.drop_stroke_share,
            self.drop_point_probability,
            self.unfinished_probability * self.unfinished_share,
        ]
        return self.probability == 0 or not any(sizes)


# Above these a drawing folds over itself or little of it is left. Config repeats them; a test holds both together.
_HIGHEST = {
    "rotate_deg": 180.0,
    "bend": 0.2,
    "stroke_shift": 0.5,
    "drop_stroke_share": 0.9,
    "unfinished_share": 0.9,
}

_PURPOSE = 4  # split.py's hashes of a key_id have 1, 2 and 3


def augment_packed(
    buffer: NDArray[np.uint8],
    offsets: NDArray[Any],
    key_ids: NDArray[np.uint64],
    config: StrokeAugment,
    seed: int,
    epoch: int,
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Change packed drawings (layout in strokes.py), as they lie in an Arrow binary column.

    Drawing i is ``buffer[offsets[i]:offsets[i + 1]]`` with the key ``key_ids[i]``; offsets [N + 1] may start anywhere.
    -> a new buffer and its int64 offsets [N + 1], or what was given where the config changes nothing. A drawing all of
    whose points left are one place is that place, (0, 0). On one thread, without the GIL.

    Raises ValueError naming the first drawing that is empty or whose lengths don't add up to its extent.
    """
    if len(offsets) != len(key_ids) + 1:
        raise ValueError(f"{len(key_ids)} key_ids, but offsets of {len(offsets) - 1} drawings")
    if config.changes_nothing or not len(key_ids):
        return buffer, offsets
    check_packed(buffer, offsets)
    buffer, offsets, key_ids = (
        read_only(buffer, np.uint8),
        read_only(offsets, np.int64),
        read_only(key_ids, np.uint64),
    )
    longest = int(np.diff(offsets).max())
    xs, ys = np.zeros((2, longest // 2 + 2 * POINTS_AT_ONCE), np.float32)
    strokes = np.empty(STROKE_FIELDS * (longest // 4 + 1), np.int64)
    out = np.empty(int(offsets[-1] - offsets[0]) + POINTS_AT_ONCE, np.uint8)
    out_offsets = np.zeros(len(offsets), np.int64)
    parameters = _settings(config), _stream(seed, epoch)
    for part, its_buffer, its_offsets in in_readable_parts(buffer, offsets):
        to = out_offsets[part.start :]
        augment_all(*parameters, its_buffer, its_offsets, key_ids[part], xs, ys, strokes, out, to)
    return out[: out_offsets[-1]], out_offsets


def _settings(config: StrokeAugment) -> Settings:
    values = dict(zip((field.name for field in fields(config)), astuple(config), strict=True))
    values["rotate"] = np.deg2rad(values.pop("rotate_deg"))
    return Settings(**{name: np.float32(value) for name, value in values.items()})


def _stream(seed: int, epoch: int) -> np.uint64:
    mixed = splitmix64(np.array([_PURPOSE], np.uint64))
    for part in (seed, epoch):
        mixed = splitmix64(mixed ^ np.array([part], np.uint64))
    return np.uint64(mixed[0])
