"""Folders of this machine for what is on its way to or from a store; those of killed processes are deleted."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "doodle-dist-"
KINDS = ("checkpoint", "lines", "events", "fetch", "resume", "pointer")
# Long past what an upload or a download is retried for.
_ABANDONED_AFTER_S = 6 * 3600.0


def new_folder(kind: str) -> Path:
    """An empty folder, of one of KINDS, that outlives this function: who asked for it deletes it.

    Those that killed processes left behind, which nobody else would ever delete, go first.
    """
    _sweep_abandoned(Path(tempfile.gettempdir()))
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{kind}-{os.getpid()}-"))


@contextmanager
def brief_folder(kind: str) -> Iterator[Path]:
    """A `new_folder` that is deleted at the end of the block."""
    folder = new_folder(kind)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what stays is swept some time


def _sweep_abandoned(parent: Path) -> None:
    """By age and by the process: with several containers on one /tmp, a process may live that can't be seen here."""
    for folder in (found for kind in KINDS for found in parent.glob(f"{_PREFIX}{kind}-*-*")):
        pid = folder.name.removeprefix(_PREFIX).split("-")[1]
        with suppress(OSError):  # another process was first
            is_old = time.time() - _last_change(folder) > _ABANDONED_AFTER_S
            if is_old and pid.isdigit() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(folder)


def _last_change(folder: Path) -> float:
    """A file that grows changes itself and not its folder."""
    return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
