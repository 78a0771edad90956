"""Curves and animations: what is drawn comes from the run's own files, in order."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from doodle_dist.evaluation.history import Curve, curves_picture, read_curves, write_animation, write_curves
from doodle_dist.pictures import png
from doodle_dist.training.tensorboard import TensorBoard


@pytest.fixture
def run(tmp_path: Path) -> Path:
    board = TensorBoard(str(tmp_path / "run"), 0)
    for seen in (100, 200, 300):
        noise = 0.1 - seen / 5000
        board.scalars({"loss/critic": 1 / seen, "loss/generator": seen / 100, "gan/noise_sigma": noise}, seen)
        board.scalars({"critic/accuracy_on_real": 0.8, "critic/accuracy_on_fake": 0.7}, seen)
    board.close()
    (tmp_path / "run" / "samples").mkdir()
    for seen in (1000, 200, 90):
        grid = np.full((20, 120), seen % 256, np.uint8)
        (tmp_path / "run" / "samples" / f"{seen:012d}.png").write_bytes(png(grid))
    return tmp_path / "run"


def test_curves_are_the_run_s_own(run: Path, tmp_path: Path) -> None:
    curves = read_curves(str(run))
    assert curves["loss/generator"].drawings == [100, 200, 300]
    assert curves["loss/generator"].values == pytest.approx([1, 2, 3])
    picture = Image.open(write_curves(str(run), tmp_path / "curves.png"))
    assert picture.width > 2 * picture.height, "two panels beside each other"
    only_losses = {name: curve for name, curve in curves.items() if name.startswith("loss/")}
    assert Image.open(io.BytesIO(curves_picture(only_losses, "run"))).width < picture.width


def test_a_curve_of_one_point_is_seen() -> None:
    def ink(curves: dict[str, Curve]) -> int:
        """Pixels of the first curve's colour."""
        pixels = np.asarray(Image.open(io.BytesIO(curves_picture(curves, "run"))).convert("RGB"))
        return int((pixels == ImageColor.getrgb("#1f77b4")).all(axis=-1).sum())

    nothing = ink({"loss/critic": Curve([100], [float("nan")])})
    assert nothing, "the legend's"
    assert ink({"loss/critic": Curve([100], [0.5])}) > nothing


def test_an_animation_has_the_grids_in_the_order_of_drawings(run: Path, tmp_path: Path) -> None:
    picture = Image.open(write_animation(str(run), tmp_path / "training.gif"))
    assert picture.n_frames == 3  # type: ignore[attr-defined]
    shades = []
    for frame in range(3):
        picture.seek(frame)
        assert picture.size == (120, 38)
        shades.append(np.asarray(picture.convert("L"))[10, 60])
    assert shades == [90, 200, 1000 % 256]


def test_a_folder_that_is_no_run_is_said_so(tmp_path: Path) -> None:
    for write in (write_curves, write_animation):
        with pytest.raises(ValueError, match="it is no"):
            write(str(tmp_path), tmp_path / "x")


def test_a_picture_of_ones_own_among_the_grids_is_left_out(run: Path, tmp_path: Path) -> None:
    mine = run / "samples" / "mine.png"
    mine.write_bytes(next((run / "samples").glob("0*.png")).read_bytes())
    try:
        assert write_animation(str(run), tmp_path / "t.gif").exists()
    finally:
        mine.unlink()
