"""Grids, contact sheets and PNG files: where each picture lies, and that nothing is lost on the way."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from doodle_dist.pictures import grid, named_rows, png, to_pixels


def pictures(count: int, channels: int = 1, height: int = 5, width: int = 7) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, channels, height, width), np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_holds_every_picture_row_by_row_with_gaps_of_two(channels: int) -> None:
    drawn = pictures(5, channels)
    sheet = grid(drawn, columns=3)
    assert sheet.shape == (2 * 7 + 2, 3 * 9 + 2) + ((3,) if channels == 3 else ())
    left = np.ones(sheet.shape[:2], bool)
    for k, picture in enumerate(drawn):
        rows, columns = slice(2 + k // 3 * 7, 7 + k // 3 * 7), slice(2 + k % 3 * 9, 9 + k % 3 * 9)
        expected = picture[0] if channels == 1 else picture.transpose(1, 2, 0)
        assert np.array_equal(sheet[rows, columns], expected)
        left[rows, columns] = False
    assert len(np.unique(sheet[left])) == 1, "gaps and empty places are of one grey"


def test_no_pictures_are_an_empty_grid() -> None:
    assert grid(pictures(0), columns=4).shape == (2, 4 * 9 + 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_gives_back_what_was_written(channels: int) -> None:
    sheet = grid(pictures(4, channels), columns=2)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(sheet)))), sheet)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(Image.fromarray(sheet))))), sheet)


def test_pixels_go_to_minus_one_to_one_and_back() -> None:
    drawn = pictures(3)
    assert np.array_equal(to_pixels(torch.from_numpy(drawn).float() / 127.5 - 1), drawn)
    assert to_pixels(torch.tensor([[[[-7.0, 7.0]]]])).ravel().tolist() == [0, 255]


def test_named_rows_are_as_high_as_their_strips_and_as_wide_as_the_widest() -> None:
    rows = [("cat", pictures(2)), ("The Great Wall of China", pictures(4)), ("none", pictures(0))]
    sheet = named_rows(rows, scale=3)
    assert sheet.height == 3 * ((5 + 4) + (5 + 4) + 2)
    short = named_rows([("cat", pictures(2)), ("x", pictures(4))], scale=3)
    assert sheet.width > short.width, "a long name needs room"
    wider = named_rows([("cat", pictures(2)), ("x", pictures(5))], scale=3)
    assert wider.width - short.width == 3 * 9


def test_ink_is_shown_dark_on_paper() -> None:
    blank = np.zeros((1, 1, 28, 28), np.uint8)
    assert np.asarray(named_rows([("", blank)])).mean() > 200


def test_colours_are_shown_as_they_are() -> None:
    red = np.zeros((1, 3, 8, 8), np.uint8)
    red[:, 0] = 255
    sheet = np.asarray(named_rows([("", red)], scale=1))
    assert sheet[5, -5].tolist() == [255, 0, 0]
