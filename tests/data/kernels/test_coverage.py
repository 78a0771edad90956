"""Steps of the compiled kernels that are written in two ways: either gives what plain arithmetic does."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from numba.core import types

from doodle_dist.data.kernels import coverage
from doodle_dist.data.kernels.llvm import INT16S, llvm, load, pointer, shifts_by_table, store
from doodle_dist.data.kernels.recipe import LANES, SUBCOLUMNS


@pytest.mark.parametrize(
    "way",
    [
        coverage.from_by_shift,
        pytest.param(
            coverage.from_by_table,
            marks=pytest.mark.skipif(not shifts_by_table(), reason="only where there is AVX2 and no AVX-512"),
        ),
    ],
)
def test_sub_columns_from_a_place_on(way: Callable[..., Any]) -> None:
    @llvm(types.void, INT16S, INT16S, types.int64)
    def step(b: Any, places: Any, masks: Any, at: Any) -> None:
        store(b, way(b, load(b, places, at, coverage._LANES_IR)), masks, at)

    @numba.njit
    def run(places: Any, masks: Any) -> None:
        for at in range(0, len(places), LANES):
            step(pointer(places), pointer(masks), at)

    places = np.arange(1 << 16, dtype=np.uint16)
    masks = np.zeros(len(places), np.int16)
    run(places.view(np.int16), masks)
    wanted = [(0xFFFF << k) & 0xFFFF if k < SUBCOLUMNS else 0 for k in range(len(places))]
    assert masks.view(np.uint16).tolist() == wanted
