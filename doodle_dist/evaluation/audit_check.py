"""`doodle-dist audit`: did a run consume every training drawing exactly once per epoch?"""

import numpy as np

from doodle_dist.data import locations
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.stream_plan import plan_stream
from doodle_dist.data.stream_rows import split_key_ids
from doodle_dist.run.checkpoints import complete_checkpoints, saved_experiment
from doodle_dist.training.audit import AuditResult, check_audit


def check_run(run: str, data: str = "") -> AuditResult:
    """Compare a run's audit with its dataset. Raises ValueError where either is missing."""
    run = locations.absolute(run)
    experiment = saved_experiment(complete_checkpoints(run))
    if experiment is None:
        raise ValueError(
            f"{locations.public(run)} has no checkpoint whose settings say what it should have consumed"
        )
    uri = locations.absolute(data) if data else experiment.data.uri
    plan = plan_stream(
        load_manifest(uri),
        uri,
        "train",
        categories=experiment.data.categories,
        lanes=experiment.data.lanes,
        global_batch=experiment.train.global_batch,
    )
    return check_audit(run, np.concatenate(list(split_key_ids(plan))))


def print_result(run: str, result: AuditResult) -> None:
    """The audit's answer in a few lines."""
    for problem in result.problems:
        print(problem)
    verdict = "every drawing exactly once per epoch" if not result.problems else "NOT exactly once"
    print(
        f"{locations.public(run)}: {result.steps:,} steps, {result.rows:,} drawings, "
        f"{result.complete_epochs} complete epochs and {result.partial_rows:,} drawings of the next: {verdict}"
    )
