"""What a run that was begun before has left to do, seen before anything is started for it. Without torch."""

import tempfile
from pathlib import Path

from doodle_dist.data.storage_errors import DamagedError
from doodle_dist.run.files import CURSOR
from doodle_dist.training.checkpoint_store import fetch, read_file, stored_checkpoints
from doodle_dist.training.cursor import Cursor, cursor_from


def is_over(run_uri: str, beginning: Cursor, total_drawings: int) -> bool:
    """Whether the newest checkpoint of a run, which would now begin with ``beginning``, is its end, and whole.

    Raises ValueError where the run is asked to go on with another order, and StorageError.
    """
    newest = next(reversed(stored_checkpoints(run_uri)), None)
    if newest is None:
        return False
    try:
        cursor = cursor_from(read_file(newest, CURSOR), beginning)
        if cursor.drawings_seen < total_drawings:
            return False
        with tempfile.TemporaryDirectory(prefix="doodle-dist-resume-") as folder:
            fetch(newest, Path(folder))
    except DamagedError:
        return False  # workers go on from the newest that is whole
    return True
