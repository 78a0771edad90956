"""The classifier in whose features a search's GANs are judged, trained once where there is none."""

import hashlib
import re

from doodle_dist import train as train_driver
from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import load_run
from doodle_dist.data import locations, storage
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.schema import MANIFEST
from doodle_dist.log import say
from doodle_dist.run.checkpoints import complete_checkpoints
from doodle_dist.training.lease import HeldError, holder, wait_while_held
from doodle_dist.training.plan import training_plan

PRESET = "evaluator"
_DIGITS = 12  # of the hash in its name
MOST_DRAWINGS = 2_000_000  # half an hour of two CPU cores; a search of all 50 million is not to wait for days


def evaluator_uri(experiment: Experiment) -> str:
    """Where the evaluator of an experiment's dataset and categories lies: beside its runs, named by both."""
    about = storage.sha256_of(locations.join(experiment.data.uri, MANIFEST)) + ",".join(
        sorted(set(experiment.data.categories))
    )
    name = f"{PRESET}-{hashlib.sha256(about.encode()).hexdigest()[:_DIGITS]}"
    return locations.join(experiment.storage, name)


def is_evaluators_name(name: str) -> bool:
    """Whether a run of this name is some experiment's evaluator: two of one name are of the same drawings."""
    return re.fullmatch(rf"{PRESET}-[0-9a-f]{{{_DIGITS}}}", name) is not None


def is_judged_by_it(experiment: Experiment) -> bool:
    """Whether an experiment's judge is the evaluator that a search trains, and not a run that a person named."""
    return bool(experiment.gan.judge) and experiment.gan.judge == evaluator_uri(experiment)


def train_if_missing(
    uri: str,
    experiment: Experiment,
    *,
    workers: int,
    gpus: float = 0.0,
    quiet: bool,
    debug: bool,
    wait_s: float = 0.0,
) -> bool:
    """Train the evaluator at ``uri`` on an experiment's dataset, or go on with it; False where it was there.

    For as long as its preset says, MOST_DRAWINGS at most, on ``workers`` of ``gpus`` each.
    One that another search trains at this moment is waited for. Raises KeyboardInterrupt where it is told to stop.
    """
    where, _, name = uri.rpartition("/")
    options = {
        "run": name,
        "storage": where,
        "data.uri": experiment.data.uri,
        "data.categories": experiment.data.categories,
        "scaling.workers": workers,
        "scaling.cpus_per_worker": experiment.scaling.cpus_per_worker,
        "scaling.gpus_per_worker": gpus,
    }
    wanted = load_run(PRESET, (), options)
    length = wanted.train.total_drawings(_training_drawings(wanted))
    if length > MOST_DRAWINGS:
        length = MOST_DRAWINGS
        wanted = load_run(PRESET, (), options | {"train.drawings": length})
    if _is_trained(uri, length):
        return False
    if not quiet:
        say(
            f"first the classifier that judges the trials is trained, on {length:,} drawings: "
            f"{locations.public(uri)} (--judge RUN takes one that there is)"
        )
    said = False
    while True:
        try:
            if train_driver.train(wanted, wait_s=wait_s, quiet=quiet, debug=debug).stopped_at is not None:
                raise KeyboardInterrupt  # as if the search itself had been interrupted
        except HeldError:
            if not said:
                say(f"waiting for the evaluator, which another search trains: {holder(uri)}")
                said = True
            wait_while_held(uri)
            if _is_trained(uri, length):
                return False
        else:
            return True


def _is_trained(uri: str, length: int) -> bool:
    return any(meta["metrics"].get("drawings_seen", 0) >= length for _, meta in complete_checkpoints(uri))


def _training_drawings(experiment: Experiment) -> int:
    return training_plan(experiment, load_manifest(experiment.data.uri)).rows
