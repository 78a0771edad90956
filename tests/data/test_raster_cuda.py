"""The Triton rasteriser against the CPU's: on a GPU where there is one, else by Triton's interpreter."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

pytest.importorskip("triton", reason="triton has no wheel for this platform")

from doodle_dist.data.exchange import parquet
from doodle_dist.data.raster import rasterize_packed
from doodle_dist.data.raster_cuda import rasterize_packed_on
from doodle_dist.data.stream import rank_batches
from doodle_dist.data.stream_plan import StreamPlan
from doodle_dist.data.stream_rows import RowGroupsInMemory
from doodle_dist.data.stroke_augment import StrokeAugment
from doodle_dist.data.strokes import pack_strokes
from doodle_dist.pictures import to_images
from doodle_dist.training.reasons import NodeError
from doodle_dist.training.worker import rasteriser_on

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def packed(drawings: list[list[tuple[list[int], list[int]]]]) -> tuple[np.ndarray, np.ndarray]:
    parts = [pack_strokes(drawing) for drawing in drawings]
    return np.frombuffer(b"".join(parts), np.uint8), np.cumsum([0, *map(len, parts)])


def scribbles(*drawings: tuple[int, ...], seed: int) -> list[list[tuple[list[int], list[int]]]]:
    """Random drawings, each given by its strokes' points: few, as the interpreter takes 45 ms a segment and row."""
    rng = np.random.default_rng(seed)

    def stroke(n: int) -> tuple[list[int], list[int]]:
        return rng.integers(0, 256, n).tolist(), rng.integers(0, 256, n).tolist()

    return [[stroke(n) for n in drawing] for drawing in drawings]


CORNERS = [
    [([0], [0])],
    [([255], [255]), ([0, 255], [0, 0])],
    [([0, 255, 255, 0, 0], [0, 0, 255, 255, 0])],
    [([10, 10], [0, 255]), ([0, 200], [128, 128]), ([3, 3, 4], [7, 7, 7])],
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("side", "some"),
    # Strokes with a bend that cross, steep and flat, to the left and to the right.
    [(28, scribbles((3, 3), seed=12)), (28, CORNERS[:2]), (20, CORNERS[2:])],
)
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


def stream_of(
    folder: Path, drawings: list[list[tuple[list[int], list[int]]]], **options: object
) -> StreamPlan:
    """The plan of a dataset of one shard that holds the drawings."""
    table = pa.table(
        {
            "key_id": pa.array(range(len(drawings)), pa.uint64()),
            "label": pa.array([k % 3 for k in range(len(drawings))], pa.uint16()),
            "strokes": pa.array([pack_strokes(drawing) for drawing in drawings], pa.binary()),
        }
    )
    (folder / "part.parquet").write_bytes(parquet(table, len(drawings)))
    fixed = {"uri": str(folder), "kind": "strokes", "side": 20, "channels": 1, "shards": ("part.parquet",)}
    groups = {"group_shard": (0,), "group_index": (0,), "group_rows": (len(drawings),), "labels": None}
    groups["rows_read"] = len(drawings)
    order = {"seed": 3, "lanes": 1, "global_batch": 2, "window_bytes": 1 << 20, "rasterize": "device"}
    return StreamPlan(**(fixed | groups | order | options))


@pytest.mark.slow
def test_a_stream_that_the_device_draws_is_the_cpus(tmp_path: Path) -> None:
    """Changed strokes too: its own pictures above are of strokes as they are."""
    changes = StrokeAugment(rotate_deg=20.0, flip_probability=0.5)
    plan = stream_of(tmp_path, scribbles((3,), (2, 2), (2, 1), seed=7), strokes=changes, side=16)
    memory = RowGroupsInMemory([plan])
    theirs = list(rank_batches(plan, memory=memory))
    ours = list(rank_batches(plan, memory=memory, draw=rasteriser_on(DEVICE, plan)))
    assert [batch.key_ids.tolist() for batch in ours] == [batch.key_ids.tolist() for batch in theirs]
    for mine, its in zip(ours, theirs, strict=True):
        assert isinstance(mine.pixels, torch.Tensor)
        assert mine.pixels.device.type == DEVICE.type
        assert tuple(mine.pixels.shape) == its.pixels.shape
        assert its.pixels.max() > 200
        images, expected = to_images(mine.pixels, DEVICE), to_images(its.pixels, DEVICE)
        assert (images - expected).abs().max() <= 1.01 / 127.5


def test_who_cannot_draw_says_so_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = stream_of(tmp_path, CORNERS)
    monkeypatch.setattr("triton.knobs.runtime.interpret", False)
    with pytest.raises(
        NodeError, match=r"data\.rasterize=device: the worker's device is cpu; allowed there: worker"
    ):
        rasteriser_on(torch.device("cpu"), plan)
    wide = stream_of(tmp_path, CORNERS, side=64)
    with pytest.raises(NodeError, match=r"side = 64: must be 8\.\.63"):
        rasteriser_on(torch.device("cuda"), wide)
    for other in (
        stream_of(tmp_path, CORNERS, rasterize="worker"),
        stream_of(tmp_path, CORNERS, kind="pixels"),
    ):
        assert rasteriser_on(torch.device("cpu"), other) is None
