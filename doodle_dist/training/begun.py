"""What a run has left to do, and lacks, seen before anything is started for it. Without torch."""

import orjson

from doodle_dist.config.experiment import PARTS, Experiment
from doodle_dist.config.load import flattened
from doodle_dist.data import locations, storage
from doodle_dist.data.schema import Manifest
from doodle_dist.data.scratch import brief_folder
from doodle_dist.data.storage_errors import DamagedError
from doodle_dist.data.stream_plan import stream_categories
from doodle_dist.run.checkpoints import complete_checkpoints
from doodle_dist.run.files import CURSOR, EXPERIMENT, META
from doodle_dist.training.checkpoint_store import fetch, read_file, stored_checkpoints
from doodle_dist.training.cursor import Cursor, cursor_from
from doodle_dist.training.suitable import check_judge, positives


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
        with brief_folder("resume") as folder:
            fetch(newest, folder)
    except DamagedError:
        return False  # workers go on from the newest that is whole
    return True


def refuse_other_nets(experiment: Experiment, run_uri: str) -> None:
    """Raise ValueError where the newest checkpoint of a run is of another task, or of nets of other names.

    Of nets that differ in anything else, a width say, the workers find that the weights don't fit; and of nets of one's
    own, whose module may have moved.
    """
    newest = next(reversed(stored_checkpoints(run_uri)), None)
    if newest is None:
        return
    try:
        had = flattened(orjson.loads(read_file(newest, EXPERIMENT)))
    except DamagedError:
        return  # workers go on from the newest that is whole
    asked = flattened(experiment.model_dump(mode="json"))
    for key in ("task", *(f"model.{part}.name" for part in PARTS[experiment.task])):
        if had[key] != asked[key] and ":" not in f"{had[key]}{asked[key]}":
            raise ValueError(
                f"{key}={asked[key]}: this run was begun with {had[key]}; give this one another --run"
            )


def refuse_other_categories(experiment: Experiment, manifest: Manifest) -> None:
    """Raise ValueError where what is named or needed is of other categories than the data's: as refuse_missing_runs,
    which comes first."""
    categories = stream_categories(manifest, experiment.data.categories)
    if experiment.task == "critic":
        positives(experiment.pretraining, categories)
    if experiment.task == "gan" and experiment.gan.judge:
        for _, meta in complete_checkpoints(experiment.gan.judge):
            judges = meta["side"], meta["channels"]
            check_judge(tuple(meta["categories"]), judges, categories, (manifest.side, manifest.channels))


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
