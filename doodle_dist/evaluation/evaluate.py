"""`doodle-dist evaluate`: the figures of runs, in their folders and on the screen."""

from collections.abc import Sequence

import orjson

from doodle_dist import log
from doodle_dist.data import locations, storage
from doodle_dist.evaluation.evaluate_classifier import evaluate_classifier
from doodle_dist.evaluation.evaluate_gan import Protocol, Request, check_alike
from doodle_dist.evaluation.results import (
    Evaluation,
    GanEvaluation,
    comparable,
    read_evaluation,
    write_evaluation,
)
from doodle_dist.evaluation.tables import classifier_lines, comparison, gan_lines
from doodle_dist.run.snapshot import Snapshot, load_snapshot

# Where the pictures of an evaluation lie in a run's folder.
PICTURES, NEIGHBOURS = "evaluation", "neighbours.png"
_DEFAULT = Request(evaluator="")
_OF_GANS = {
    "evaluator": "--evaluator",
    "judge": "--judge",
    "samples": "--samples",
    "reference": "--reference",
    "seed": "--seed",
    "per_category": "--no-per-category",
    "cas": "--cas",
}


def evaluate_runs(
    runs: Sequence[str], request: Request, *, data: str = "", which: str = "best"
) -> list[Evaluation]:
    """Evaluate each run, and write what was found to its folder as `evaluation.json`, pictures beside it.

    Several GAN runs are judged against one measurement of the real drawings. Without an evaluator, several runs
    are compared by what was written before. Raises ValueError where the request does not fit a run, or where
    runs can't be compared.
    """
    uris = [locations.absolute(run) for run in runs]
    if len(uris) > 1 and not request.evaluator:
        if request != _DEFAULT or data or which != "best":
            raise ValueError(
                "several runs without --evaluator are compared by what was found before; the other options need one"
            )
        return list(comparable([read_evaluation(uri) for uri in uris]))
    snapshots = [load_snapshot(uri, which=which) for uri in uris]
    if len(snapshots) == 1 and snapshots[0].kind == "classifier":
        return [_evaluate_classifier(uris[0], snapshots[0], request, data)]
    for snapshot in snapshots:
        _ = snapshot.generator  # raises for a run of another kind
    if not request.evaluator:
        raise ValueError(
            "--evaluator is needed to evaluate a GAN: a classifier's run, as `doodle-dist train evaluator` makes"
        )
    wanted = {_data_of(snapshot, data) for snapshot in snapshots}
    if len(wanted) > 1:
        raise ValueError(f"the runs were trained on {' and '.join(sorted(wanted))}: give --data to say which")
    check_alike(snapshots)
    protocol = Protocol(request, wanted.pop(), snapshots[0])
    found: list[Evaluation] = []
    for uri, snapshot in zip(uris, snapshots, strict=True):  # each is kept before the next one may fail
        found.append(protocol.evaluate(snapshot))
        write_evaluation(uri, found[-1])
        where = locations.join(uri, PICTURES, NEIGHBOURS)
        storage.write_atomic(where, protocol.neighbours(snapshot))
        log.say(f"samples over their nearest training drawings: {locations.public(where)}")
    return found


def _evaluate_classifier(run: str, snapshot: Snapshot, request: Request, data: str) -> Evaluation:
    for name, option in _OF_GANS.items():
        if getattr(request, name) != getattr(_DEFAULT, name):
            raise ValueError(f"{option} belongs to GAN runs; {run} is of a classifier")
    found, files = evaluate_classifier(snapshot, _data_of(snapshot, data), request.split, request.spread)
    for name, png in files.items():
        storage.write_atomic(locations.join(run, PICTURES, name), png)
    write_evaluation(run, found)
    return found


def _data_of(snapshot: Snapshot, data: str) -> str:
    return locations.absolute(data) if data else snapshot.experiment.data.uri


def print_evaluations(found: Sequence[Evaluation], *, as_json: bool) -> None:
    """What was found as tables, or as JSON: an object for one run, a list for several."""
    if as_json:
        dumped = [one.model_dump(mode="json") for one in found]
        print(orjson.dumps(dumped[0] if len(dumped) == 1 else dumped).decode())
        return
    if len(found) > 1:
        print("\n".join(comparison([one for one in found if isinstance(one, GanEvaluation)])))
        return
    one = found[0]
    print("\n".join(gan_lines(one) if isinstance(one, GanEvaluation) else classifier_lines(one)))
    if isinstance(one, GanEvaluation) and not one.judge:
        log.say("no conditional accuracy: give --judge, a classifier's run beside the evaluator")
