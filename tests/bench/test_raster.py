"""The rasterisers' benchmark: every library draws the recipe's picture, each about as well as it can."""

from pathlib import Path

import numpy as np
import pytest

from doodle_dist.bench import raster
from doodle_dist.bench.raster import official_pairs, raster_error
from doodle_dist.bench.rasterisers import LIBRARIES, Library

# Mean grey levels off on ink that were seen; a picture shifted by a pixel is off by 60 or more.
SEEN = {
    "cairo, Google's script": 0.0,
    "cairo, plain integers": 0.0,
    "skia": 6.1,
    "OpenCV, shrunk from 304": 10.7,
    "Pillow, shrunk from 304": 9.1,
}


@pytest.mark.parametrize("library", [one for one in LIBRARIES if one.is_installed], ids=lambda one: one.name)
def test_libraries_draw_the_recipe(library: Library, shared_data: Path) -> None:
    drawings, bitmaps = official_pairs(shared_data)
    draw = library.make()
    rasters = np.stack([draw(one) for one in drawings[::50]])
    assert rasters.dtype == np.uint8
    again = np.stack([draw(one) for one in drawings[::50]])
    assert np.array_equal(rasters, again), "nothing of one drawing is left for the next"
    error = raster_error(rasters, bitmaps[::50])
    if library.name in SEEN:
        assert error.ink_mean == pytest.approx(SEEN[library.name], abs=2.0)
    else:
        assert error.ink_mean < 80


@pytest.mark.slow
def test_what_is_not_installed_is_a_row_without_figures(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = Library("absent", "no_such_module", "no-such", lambda: lambda _: np.zeros((28, 28), np.uint8))
    pillow = next(one for one in LIBRARIES if one.name == "Pillow, at 28")
    monkeypatch.setattr(raster, "LIBRARIES", (absent, pillow))
    monkeypatch.setattr(raster, "_MOST_OF_A_CATEGORY", 50)
    monkeypatch.setattr(raster, "_ROUND_S", 0.03)
    result = raster.run(shared_data, rounds=1)
    assert result.others[0].drawings_per_s is None
    assert result.others[1].ours_over_it is not None
    assert result.others[1].ours_over_it > 1
    assert result.ours.error is not None
    assert result.ours.error.ink_mean < 1.5
