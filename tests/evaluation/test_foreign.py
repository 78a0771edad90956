"""Pictures from elsewhere: whatever their size, ink and light, they become what the training drawings are."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from doodle_dist.data.raster import rasterize
from doodle_dist.evaluation.foreign import as_training_picture, line_width, thin

# A house with a door and a dot, as a simplified drawing has its coordinates.
HOUSE = [
    [[0, 0, 128, 255, 255, 0], [255, 110, 0, 110, 255, 255]],
    [[100, 100, 150, 150], [255, 170, 170, 255]],
    [[0, 255], [110, 110]],
]


def drawn(
    strokes: list,
    *,
    size: tuple[int, int] = (500, 400),
    extent: int = 300,
    width: int = 6,
    at: tuple = (90, 60),
) -> np.ndarray:
    """Ink float [H, W] from 0 to 1: lines by Pillow, four times as large and averaged."""
    big = Image.new("L", (4 * size[0], 4 * size[1]))
    pen, half = ImageDraw.Draw(big), 2 * width
    for xs, ys in strokes:
        way = [
            (4 * (at[0] + x * extent / 255), 4 * (at[1] + y * extent / 255))
            for x, y in zip(xs, ys, strict=True)
        ]
        pen.line(way, fill=255, width=4 * width)
        for x, y in way:
            pen.ellipse((x - half, y - half, x + half, y + half), fill=255)
    return np.asarray(big.resize(size, Image.Resampling.BOX), np.float32) / 255


def file_of(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).round().astype(np.uint8)).save(sink, kind)
    return sink.getvalue()


def error_on_ink(got: np.ndarray, strokes: list, side: int = 28) -> float:
    want = rasterize(strokes, side=side)
    inked = (want > 0) | (got > 0)
    return float(np.abs(got.astype(int) - want)[inked].mean())


@pytest.mark.parametrize(
    ("size", "extent", "width", "at"),
    [((500, 400), 300, 6, (90, 60)), ((1800, 1700), 1500, 3, (200, 100)), ((90, 110), 70, 3, (10, 30))],
    ids=["middle", "hairline", "small"],
)
@pytest.mark.parametrize("dark", [True, False], ids=["dark on light", "light on dark"])
def test_lines_of_any_size_and_width_become_the_recipes(
    size: tuple, extent: int, width: int, at: tuple, dark: bool
) -> None:
    ink = drawn(HOUSE, size=size, extent=extent, width=width, at=at)
    got = as_training_picture(file_of(255 * (1 - ink) if dark else 255 * ink), 28)
    assert got.shape == (28, 28)
    # A pixel's difference of place costs about 100 grey levels on lines of 1.5 pixels.
    assert error_on_ink(got, HOUSE) < 40
    assert abs(got.sum() / rasterize(HOUSE).sum() - 1) < 0.08, "lines of the training drawings' width"


def test_a_photo_with_uneven_light_and_noise(rng: np.random.Generator) -> None:
    ink = drawn(HOUSE)
    y, x = np.mgrid[-1 : 1 : ink.shape[0] * 1j, -1 : 1 : ink.shape[1] * 1j]
    paper = 150 + 50 * x - 40 * y**2
    for shown in (paper * (1 - 0.7 * ink), 0.3 * paper + 120 * ink):
        got = as_training_picture(file_of(shown + rng.normal(0, 5, ink.shape), "JPEG"), 28)
        assert error_on_ink(got, HOUSE) < 40


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_another_side_has_the_same_recipe() -> None:
    got = as_training_picture(file_of(255 * drawn(HOUSE, width=14)), 64)
    assert error_on_ink(got, HOUSE, side=64) < 40


def test_a_picture_of_the_right_size_stays_as_it_is_but_for_its_ink() -> None:
    raster = rasterize(HOUSE)
    assert np.array_equal(as_training_picture(file_of(raster), 28), raster)
    assert np.array_equal(as_training_picture(file_of(255 - raster), 28), raster)


@pytest.mark.parametrize("ink", [0, 255], ids=["black", "white"])
def test_ink_on_a_transparent_ground(ink: int) -> None:
    alpha = (255 * drawn(HOUSE)).astype(np.uint8)
    pixels = np.stack([np.full_like(alpha, ink)] * 3 + [alpha], axis=-1)
    assert error_on_ink(as_training_picture(file_of(pixels), 28), HOUSE) < 40


def test_a_filled_shape_is_drawn_as_its_outline() -> None:
    filled = np.zeros((300, 300), np.float32)
    filled[50:250, 60:260] = 255
    got = as_training_picture(file_of(filled), 28)
    assert error_on_ink(got, [[[0, 255, 255, 0, 0], [0, 0, 255, 255, 0]]]) < 40


def test_what_is_no_drawing_is_said() -> None:
    noise = np.random.default_rng(0).normal(200, 6, (120, 160))
    for blank in (np.full((100, 100), 255.0), np.zeros((28, 28)), noise):
        with pytest.raises(ValueError, match="nothing is drawn in it"):
            as_training_picture(file_of(blank), 28)
    with pytest.raises(ValueError, match="not a PNG or JPEG picture"):
        as_training_picture(b"GIF89a and so on", 28)
    with pytest.raises(ValueError, match="damaged picture"):
        as_training_picture(file_of(noise)[:500], 28)


@pytest.mark.parametrize("width", [3, 8, 15])
def test_the_width_of_lines_is_measured_in_any_direction(width: int) -> None:
    for strokes in ([[[0, 255], [128, 128]]], [[[0, 255], [0, 255]]], HOUSE):
        assert abs(line_width(drawn(strokes, width=width)) / width - 1) < 0.15


def test_a_skeleton_is_thin_connected_and_keeps_every_part() -> None:
    mask = drawn(HOUSE, width=12) > 0.5
    mask[5:7, 5:7] = True  # a square of four, of which the published rules leave nothing
    lines = thin(mask)
    assert not (lines & ~mask).any()
    square = lines[1:, 1:] & lines[:-1, 1:] & lines[1:, :-1] & lines[:-1, :-1]
    assert square.sum() == 0, "nowhere two wide"
    assert lines[5:7, 5:7].sum() == 1
    length = sum(np.hypot(np.diff(xs), np.diff(ys)).sum() for xs, ys in HOUSE) * 300 / 255
    assert 0.75 < lines.sum() / length < 1.1, "diagonals have fewer pixels than length"


@pytest.mark.slow
def test_real_drawings_come_out_as_googles_bitmaps(shared_data: Path) -> None:
    errors = []
    for name in ("cat", "tree", "bicycle"):
        bitmaps = np.load(shared_data / "google_bitmaps" / f"full_numpy_bitmap_{name}.npy", mmap_mode="r")
        lines = (shared_data / "simplified" / f"{name}.ndjson").read_bytes().splitlines()[:4]
        for line, bitmap in zip(lines, bitmaps, strict=False):
            got = as_training_picture(file_of(255 * (1 - drawn(json.loads(line)["drawing"], width=4))), 28)
            want = bitmap.reshape(28, 28)
            errors.append(np.abs(got.astype(int) - want)[(want > 0) | (got > 0)].mean())
    assert np.mean(errors) < 30
