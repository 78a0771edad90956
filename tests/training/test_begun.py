"""What is seen of a run before anything starts: that it is over, or was begun in another order or with other nets."""

from collections.abc import Callable
from pathlib import Path

import pytest

from doodle_dist.config.load import load_experiment
from doodle_dist.data import locations, storage
from doodle_dist.run.files import COMMIT, CURSOR, EXPERIMENT, STATE
from doodle_dist.training.begun import is_over, refuse_other_nets
from doodle_dist.training.checkpoint_store import new_name, store
from doodle_dist.training.cursor import Cursor
from tests.runs import local_checkpoint, stored_checkpoint
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


@pytest.fixture
def begun(run: str, tmp_path: Path) -> str:
    """The newest checkpoint of a run of doodle-gan-small."""
    folder = local_checkpoint(tmp_path / "begun", 100)
    (folder / EXPERIMENT).write_text(load_experiment("doodle-gan-small").model_dump_json())
    uri = locations.join(run, new_name(100, 1))
    store(folder, uri)
    return uri


@pytest.mark.parametrize(
    ("preset", "settings", "said"),
    [
        (
            "classifier-small",
            [],
            r"task=classifier: this run was begun with gan; give this one another --run",
        ),
        ("sngan-proj-small", [], r"model\.generator\.name=sngan: this run was begun with doodle-small"),
        ("doodle-gan-small", ["model.critic.name=doodle"], r"model\.critic\.name=doodle: .* doodle-small"),
    ],
)
@pytest.mark.usefixtures("begun")
def test_other_nets_are_refused(run: str, preset: str, settings: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        refuse_other_nets(load_experiment(preset, settings), run)


def test_the_same_nets_with_other_settings_are_not(run: str, begun: str) -> None:
    refuse_other_nets(load_experiment("doodle-gan-small", ["optim.critic.lr=1e-5"]), run)
    refuse_other_nets(load_experiment("doodle-gan-small", ["model.generator.name=mine.moved:Gen"]), run)
    other = load_experiment("classifier-small")
    refuse_other_nets(other, run + "-not-begun")
    truncate(locations.join(begun, EXPERIMENT))
    refuse_other_nets(other, run)
