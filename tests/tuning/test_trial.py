"""A trial's checkpoints, without a cluster."""

import os
from pathlib import Path

import pytest

from doodle_dist.training.checkpoint_store import stored_checkpoints
from doodle_dist.tuning import trial
from doodle_dist.tuning.trial import Job, Pointer
from tests.runs import stored_checkpoint


def test_a_trial_sweeps_what_its_earlier_starts_have_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial.ray, "get_gpu_ids", list)
    run = str(tmp_path / "trial-0003")
    stored_checkpoint(run, tmp_path, 10)
    began_from = stored_checkpoint(run, tmp_path, 20)
    stored_checkpoint(run, tmp_path, 30)  # and never reported
    job = Job({}, str(tmp_path), (), "score", keep_checkpoints=2, starts={})
    context = trial._TrialContext(3, run, job, Pointer(3, 20, began_from))
    first = stored_checkpoint(run, tmp_path, 31)
    context._sweep(first)
    assert [one.uri for one in stored_checkpoints(run)] == [began_from, first]
    second = stored_checkpoint(run, tmp_path, 42)
    context._sweep(second)
    assert [one.uri for one in stored_checkpoints(run)] == [first, second]


def test_a_trial_goes_on_from_a_folder_that_is_swept_where_it_is_killed(tmp_path: Path) -> None:
    start = Pointer(3, 20, stored_checkpoint(str(tmp_path / "trial-0003"), tmp_path, 20))
    with trial._fetched(start) as folder:
        assert folder is not None
        assert folder.name.startswith(f"doodle-dist-resume-{os.getpid()}-")
    assert not folder.exists()
