"""Steps of the compiled kernels: each gives what plain arithmetic does, in whichever way it is written."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from numba.core import types

from doodle_dist.data.kernels import coverage
from doodle_dist.data.kernels.llvm import BYTES, INT16S, bytes_looked_up, llvm, load, pointer, store
from doodle_dist.data.kernels.recipe import LANES, SUBCOLUMNS


@pytest.mark.parametrize(
    "way",
    [
        coverage.from_by_shift,
        pytest.param(
            coverage.from_by_table,
            marks=pytest.mark.skipif(not bytes_looked_up(), reason="only where there is AVX2"),
        ),
    ],
)
def test_sub_columns_from_a_place_on(way: Callable[..., Any]) -> None:
    @llvm(types.void, BYTES, BYTES, types.int64)
    def step(b: Any, places: Any, masks: Any, at: Any) -> None:
        for half in way(b, load(b, places, at, coverage._PLACES_IR)):
            store(b, half, masks, at)
            at = b.add(at, at.type(256))

    @numba.njit
    def run(places: Any, masks: Any) -> None:
        for at in range(0, len(places), LANES):
            step(pointer(places), pointer(masks), at)

    places, masks = np.arange(256, dtype=np.uint8), np.zeros((2, 256), np.uint8)
    run(places, masks.ravel())
    wanted = [(0xFFFF << k) & 0xFFFF if k < SUBCOLUMNS else 0 for k in range(256)]
    assert (masks[0].astype(int) + masks[1].astype(int) * 256).tolist() == wanted


def test_places_are_narrowed_to_the_last_that_a_byte_holds() -> None:
    @llvm(coverage._lanes, INT16S, types.int64)
    def lanes(b: Any, wide: Any, at: Any) -> Any:
        return load(b, wide, at, coverage._LANES_IR)

    @llvm(types.void, coverage._places, BYTES, types.int64)
    def put(b: Any, places: Any, narrow: Any, at: Any) -> None:
        store(b, places, narrow, at)

    @numba.njit
    def run(wide: Any, narrow: Any) -> None:
        for at in range(0, len(wide), LANES):
            put(coverage.narrow(lanes(pointer(wide), at)), pointer(narrow), at)

    wide, narrow = np.arange(1 << 16, dtype=np.uint16), np.zeros(1 << 16, np.uint8)
    run(wide.view(np.int16), narrow)
    assert sorted(coverage._ORDER) == list(range(LANES))
    assert np.array_equal(
        narrow.reshape(-1, LANES), np.minimum(wide, 255).reshape(-1, LANES)[:, coverage._ORDER]
    )
