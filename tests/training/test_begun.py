"""What is seen of a run before anything starts: that it is over, or was begun in another order."""

from collections.abc import Callable
from pathlib import Path

import pytest

from doodle_dist.data import locations, storage
from doodle_dist.run.files import COMMIT, CURSOR, STATE
from doodle_dist.training.begun import is_over
from doodle_dist.training.cursor import Cursor
from tests.runs import stored_checkpoint
from tests.training.test_checkpoint_store import alter, truncate

BEGINNING = Cursor(seed=0, global_batch=10)


@pytest.fixture
def run(tmp_path: Path) -> str:
    return str(tmp_path / "runs" / "mine")


def test_it_is_over_once_its_newest_checkpoint_has_seen_enough(run: str, tmp_path: Path) -> None:
    assert not is_over(run, BEGINNING, 200)
    stored_checkpoint(run, tmp_path, 100)
    assert not is_over(run, BEGINNING, 200)
    stored_checkpoint(run, tmp_path, 200)
    assert is_over(run, BEGINNING, 200)
    assert is_over(run, BEGINNING, 150)
    assert not is_over(run, BEGINNING, 210), "it was asked for more"


@pytest.mark.parametrize("damage", [truncate, alter])
@pytest.mark.parametrize("file", [STATE, CURSOR, COMMIT])
def test_an_end_that_is_damaged_is_none(
    run: str, tmp_path: Path, damage: Callable[[str], None], file: str
) -> None:
    stored_checkpoint(run, tmp_path, 100)
    end = stored_checkpoint(run, tmp_path, 200)
    damage(locations.join(end, file))
    assert not is_over(run, BEGINNING, 200)


def test_an_end_that_lacks_a_file_is_none(run: str, tmp_path: Path) -> None:
    end = stored_checkpoint(run, tmp_path, 200)
    storage.delete_prefix(locations.join(end, STATE))
    assert not is_over(run, BEGINNING, 200)


def test_another_order_is_refused(run: str, tmp_path: Path) -> None:
    stored_checkpoint(run, tmp_path, 100)
    with pytest.raises(ValueError, match=r"train\.global_batch=20: this run was begun with 10"):
        is_over(run, Cursor(seed=0, global_batch=20), 200)
