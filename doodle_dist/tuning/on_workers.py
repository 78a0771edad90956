"""A trial on several workers: Ray Train, started inside a trial of Ray Tune, with the trial's folder as its run."""

from typing import Any

import ray.tune
from ray.tune.integration.ray_train import TuneReportCallback

from doodle_dist.config.load import build
from doodle_dist.config.search import experiment_with
from doodle_dist.data import locations
from doodle_dist.data.retry import TRAINING_PATIENCE_S, be_patient
from doodle_dist.data.storage_errors import DamagedError
from doodle_dist.run.stopped import noted_reason
from doodle_dist.training.checkpoint_store import stored_checkpoints
from doodle_dist.training.ray_trainer import trainer
from doodle_dist.tuning.ledger import trial_name
from doodle_dist.tuning.outages import is_of_the_place, own_reason
from doodle_dist.tuning.trial import POINT, REASON, Job, settings_of, this_trial


def run_trial_on_workers(config: dict[str, Any], job: Job) -> None:
    """As trial.run_trial, with Ray Train's workers; Ray Train itself goes on from the run's last checkpoint.

    Raises what `is_of_the_place`, after which Ray Tune starts the trial again.
    """
    be_patient(TRAINING_PATIENCE_S)
    number = this_trial()
    try:
        experiment = experiment_with(build(job.experiment), settings_of(config[POINT]))
        experiment = experiment.model_copy(update={"storage": job.search_uri, "run": trial_name(number)})
        run_uri = locations.join(job.search_uri, trial_name(number))
        assert experiment.train.drawings is not None  # the search's own
        if end := _end_of(run_uri, experiment.train.drawings):
            ray.tune.report(end)
            return
        trainer(
            experiment,
            run_uri,
            None,
            report_at=job.report_at,
            callbacks=[TuneReportCallback()],
            lease=job.lease,
        ).fit()
    except Exception as error:
        if is_of_the_place(error):
            raise
        ray.tune.report({REASON: own_reason(error)})
        return
    if reason := noted_reason(run_uri):
        ray.tune.report({REASON: reason})


def _end_of(run_uri: str, drawings: int) -> dict[str, float]:
    """The metrics of a run that has come to its end, those that are finite; nothing of one that has not.

    Their report may have been lost with the driver, or with the trial's process, and Ray Train doesn't repeat it. The
    ledger passes over one that it knows (follow.py).
    """
    newest = next(reversed(stored_checkpoints(run_uri)), None)
    if newest is None or newest.drawings_seen < drawings:
        return {}
    try:
        return {name: value for name, value in newest.metrics().items() if value is not None}
    except DamagedError:  # the workers find that out too, and go on from the one before it
        return {}
