"""Python's garbage collector rests for as long as it is told to, and is as it was afterwards."""

import gc

import pytest

from doodle_dist.collector import at_rest


def test_it_rests_meanwhile_and_only_then() -> None:
    assert gc.isenabled()
    with at_rest():
        assert not gc.isenabled()
        with at_rest():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_goes_wrong_meanwhile_wakes_it() -> None:
    with pytest.raises(ZeroDivisionError), at_rest():
        _ = 1 / 0
    assert gc.isenabled()


def test_one_that_somebody_has_turned_off_stays_off() -> None:
    gc.disable()
    try:
        with at_rest():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
