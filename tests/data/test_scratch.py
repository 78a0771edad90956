"""The folders that are made for what is on its way to a store."""

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from doodle_dist.data.scratch import brief_folder, new_folder

_NOBODY = 2**22 + 1  # above the highest number that Linux gives a process
_LONG_AGO = time.time() - 7 * 3600


def test_folders_that_killed_processes_left_behind_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine = new_folder("checkpoint")
    names = {
        f"doodle-dist-checkpoint-{_NOBODY}-old": _LONG_AGO,
        f"doodle-dist-checkpoint-{_NOBODY}-new": time.time(),
        f"doodle-dist-checkpoint-{os.getpid()}-old": _LONG_AGO,
        f"doodle-dist-lines-{_NOBODY}-old": _LONG_AGO,
        f"doodle-dist-lines-{_NOBODY}-growing": _LONG_AGO,
        f"doodle-dist-resume-{_NOBODY}-old": _LONG_AGO,
        f"somebody-else-{_NOBODY}-old": _LONG_AGO,
    }
    for name, at in names.items():
        (tmp_path / name).mkdir()
        if name.endswith("growing"):
            (tmp_path / name / "events.jsonl").touch()
        os.utime(tmp_path / name, (at, at))
    another = new_folder("events")
    left = {path.name for path in tmp_path.iterdir()}
    gone = {f"doodle-dist-{kind}-{_NOBODY}-old" for kind in ("checkpoint", "lines", "resume")}
    assert left == {mine.name, another.name, *names} - gone


def test_a_brief_folder_is_gone_after_its_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with suppress(RuntimeError), brief_folder("resume") as folder:
        (folder / "state.pt").touch()
        assert folder.name.startswith(f"doodle-dist-resume-{os.getpid()}-")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
