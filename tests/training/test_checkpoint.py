"""A checkpoint on disk: what is written is what is read, and a cursor refuses another run's numbers."""

import pickle
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import torch
from safetensors.torch import load_file

from doodle_dist.training.checkpoint import load_cursor, load_state, save_checkpoint
from doodle_dist.training.cursor import Cursor


def save(folder: Path, cursor: Cursor) -> None:
    save_checkpoint(
        folder,
        state={"net": {"weight": torch.arange(6.0).view(2, 3)}, "step": 3},
        cursor=cursor,
        snapshot={"weight": torch.ones(2, 3).t()},
        experiment={"task": "gan"},
        meta={"metrics": {}},
    )


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    cursor = Cursor(seed=1, global_batch=64).after(epoch=2, consumed=640, rows=64)
    save(tmp_path, cursor)
    assert load_cursor(tmp_path, Cursor(seed=1, global_batch=64)) == cursor
    state = load_state(tmp_path, torch.device("cpu"))
    assert torch.equal(state["net"]["weight"], torch.arange(6.0).view(2, 3))
    assert torch.equal(load_file(tmp_path / "snapshot.safetensors")["weight"], torch.ones(3, 2))


BEGUN = Cursor(seed=1, global_batch=64, lanes=8, categories=("cat", "dog"), data="aa")


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"seed": 2}, r"seed=2.*begun with 1"),
        ({"seed": 0}, r"seed=0.*begun with 1"),
        ({"global_batch": 32}, r"train\.global_batch=32.*64"),
        ({"lanes": 16}, r"data\.lanes=16.*begun with 8"),
        ({"categories": ("cat", "fish")}, r"data\.categories.*begun with dog, without fish"),
        ({"data": "bb"}, r"data\.uri.*another dataset"),
    ],
)
def test_a_run_does_not_go_on_in_another_order(tmp_path: Path, asked: dict[str, object], named: str) -> None:
    save(tmp_path, BEGUN)
    assert load_cursor(tmp_path, BEGUN) == BEGUN
    with pytest.raises(ValueError, match=named):
        load_cursor(tmp_path, replace(BEGUN, **asked))


def test_a_cursor_counts_what_was_consumed() -> None:
    cursor = Cursor(seed=1, global_batch=64, epoch=1, consumed=100, step=7, drawings_seen=420)
    assert cursor.after(epoch=2, consumed=40, rows=40) == Cursor(
        seed=1, global_batch=64, epoch=2, consumed=40, step=8, drawings_seen=460
    )


def test_the_experiment_and_what_it_was_trained_on_lie_beside_the_weights(tmp_path: Path) -> None:
    save(tmp_path, Cursor(seed=1, global_batch=64))
    assert orjson.loads((tmp_path / "experiment.json").read_bytes()) == {"task": "gan"}
    assert orjson.loads((tmp_path / "meta.json").read_bytes()) == {"format_version": 1, "metrics": {}}


def test_a_state_with_code_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({"evil": Path("x")}, tmp_path / "state.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_state(tmp_path, torch.device("cpu"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("file", ["state.pt", "snapshot.safetensors"])
def test_a_full_disk_is_told_as_what_it_is(tmp_path: Path, file: str) -> None:
    (tmp_path / file).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, Cursor(seed=1, global_batch=64))
