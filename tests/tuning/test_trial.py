"""A trial's checkpoints, without a cluster."""

from pathlib import Path

import pytest
import torch

from doodle_dist.data import locations
from doodle_dist.training.checkpoint import save_checkpoint
from doodle_dist.training.checkpoint_store import new_name, store, stored_checkpoints
from doodle_dist.training.cursor import Cursor
from doodle_dist.tuning import trial
from doodle_dist.tuning.trial import Job, Pointer


def stored(run_uri: str, folder: Path, seen: int) -> str:
    """The URI of a checkpoint that was stored."""
    folder.mkdir()
    meta = {"metrics": {"drawings_seen": float(seen)}}
    weights = {"w": torch.zeros(3)}
    save_checkpoint(
        folder, state={}, cursor=Cursor(0, 10, drawings_seen=seen), snapshot=weights, experiment={}, meta=meta
    )
    uri = locations.join(run_uri, new_name(seen, 1))
    store(folder, uri)
    return uri


def test_a_trial_sweeps_what_its_earlier_starts_have_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial.ray, "get_gpu_ids", list)
    run = str(tmp_path / "trial-0003")
    stored(run, tmp_path / "a", 10)
    began_from = stored(run, tmp_path / "b", 20)
    stored(run, tmp_path / "c", 30)  # and never reported
    job = Job({}, str(tmp_path), (), "score", keep_checkpoints=2, starts={})
    context = trial._TrialContext(3, run, job, Pointer(3, 20, began_from))
    first = stored(run, tmp_path / "d", 31)
    context._sweep(first)
    assert [one.uri for one in stored_checkpoints(run)] == [began_from, first]
    second = stored(run, tmp_path / "e", 42)
    context._sweep(second)
    assert [one.uri for one in stored_checkpoints(run)] == [first, second]
