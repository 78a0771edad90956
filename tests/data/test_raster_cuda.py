"""The Triton rasteriser against the CPU's: on a GPU where there is one, else by Triton's interpreter."""

import importlib.util
import os

import numpy as np
import pytest
import torch

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed; torch's CUDA builds bring it along", allow_module_level=True)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported

from doodle_dist.data.raster import rasterize_packed  # noqa: E402
from doodle_dist.data.raster_cuda import rasterize_packed_on  # noqa: E402
from doodle_dist.data.strokes import pack_strokes  # noqa: E402


def packed(drawings: list[list[tuple[list[int], list[int]]]]) -> tuple[np.ndarray, np.ndarray]:
    parts = [pack_strokes(drawing) for drawing in drawings]
    return np.frombuffer(b"".join(parts), np.uint8), np.cumsum([0, *map(len, parts)])


def scribbles(count: int, seed: int = 0) -> list[list[tuple[list[int], list[int]]]]:
    rng = np.random.default_rng(seed)

    def stroke() -> tuple[list[int], list[int]]:
        n = int(rng.integers(1, 7))
        return rng.integers(0, 256, n).tolist(), rng.integers(0, 256, n).tolist()

    return [[stroke() for _ in range(rng.integers(1, 4))] for _ in range(count)]


CORNERS = [
    [([0], [0])],
    [([255], [255]), ([0, 255], [0, 0])],
    [([0, 255, 255, 0, 0], [0, 0, 255, 255, 0])],
    [([10, 10], [0, 255]), ([0, 200], [128, 128]), ([3, 3, 4], [7, 7, 7])],
]


@pytest.mark.slow
@pytest.mark.parametrize(("side", "some"), [(28, scribbles(2)), (28, CORNERS[:2]), (20, CORNERS[2:])])
def test_pictures_are_those_of_the_cpu_within_a_grey_level(
    side: int, some: list[list[tuple[list[int], list[int]]]]
) -> None:
    buffer, offsets = packed(some)
    ours = rasterize_packed_on(buffer, offsets, DEVICE, side=side)
    theirs = rasterize_packed(buffer, offsets, side=side)
    assert ours.shape == (len(theirs), 1, side, side)
    assert theirs.max() > 200
    off = np.abs(ours.cpu().numpy()[:, 0].astype(int) - theirs)
    assert off.max() <= 1


def test_offsets_may_start_anywhere_and_malformed_drawings_are_named() -> None:
    buffer, offsets = packed([CORNERS[3], CORNERS[0]])
    part = rasterize_packed_on(buffer, offsets[1:], DEVICE)
    assert np.abs(part.cpu().numpy()[:, 0].astype(int) - rasterize_packed(buffer, offsets[1:])).max() <= 1
    assert rasterize_packed_on(buffer, offsets[:1], DEVICE).shape == (0, 1, 28, 28)
    with pytest.raises(ValueError, match="drawing 0 is malformed"):
        rasterize_packed_on(buffer, np.array([0, 5]), DEVICE)
    with pytest.raises(ValueError, match=r"side = 64: must be 8\.\.63"):
        rasterize_packed_on(buffer, offsets, DEVICE, side=64)
