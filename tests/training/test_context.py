"""The folder that a checkpoint is made in."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from doodle_dist.training.context import new_checkpoint_folder

_NOBODY = 2**22 + 1  # above the highest number that Linux gives a process
_LONG_AGO = time.time() - 7 * 3600


def test_folders_that_killed_processes_left_behind_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine = new_checkpoint_folder()
    names = {
        f"doodle-dist-checkpoint-{_NOBODY}-old": _LONG_AGO,
        f"doodle-dist-checkpoint-{_NOBODY}-new": time.time(),
        f"doodle-dist-checkpoint-{os.getpid()}-old": _LONG_AGO,
        f"somebody-else-{_NOBODY}-old": _LONG_AGO,
    }
    for name, at in names.items():
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (at, at))
    another = new_checkpoint_folder()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {mine.name, another.name, *names} - {f"doodle-dist-checkpoint-{_NOBODY}-old"}
