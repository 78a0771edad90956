"""What a run has left to do, and lacks, seen before anything is started for it. Without torch."""

import tempfile
from pathlib import Path

from doodle_dist.config.experiment import Experiment
from doodle_dist.data import locations, storage
from doodle_dist.data.storage_errors import DamagedError
from doodle_dist.run.files import CURSOR, META
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


def refuse_missing_runs(experiment: Experiment, run_uri: str) -> None:
    """Raise ValueError where there is no run that this one needs: its workers would say so, once Ray has started."""
    gan = experiment.gan
    if experiment.task != "gan":
        return
    needed = {"gan.judge": gan.judge}
    if gan.critic_from and not stored_checkpoints(run_uri):  # later its critic is the run's own
        needed["gan.critic_from"] = gan.critic_from
    for key, run in needed.items():
        if run and not storage.list_files(run, (META,), recursive=True, missing_ok=True):
            raise ValueError(f"{key}={locations.public(run)}: there is no run with a checkpoint")
