"""What a search went through on its way: who was trained from whom, and the best that there was at any time."""

from typing import NamedTuple

from doodle_dist.config.search_space import Settings
from doodle_dist.tuning.ledger import Result, SearchRecord, TrialRecord, increments


class Stretch(NamedTuple):
    """A part of a model's way: from where to where in drawings seen, in which trial, with which settings."""

    drawings_from: int
    drawings_to: int
    trial: int
    settings: Settings


class Moment(NamedTuple):
    """The best objective of all reports so far, the drawings that all trials were trained on, the time."""

    elapsed_s: float
    drawings_trained: int
    best: float


def lineage(record: SearchRecord, trial: int) -> list[Stretch]:
    """How the model that a trial ended with came to be, from its first drawing on.

    Where it was copied from another trial its way is that one's up to there. Parts of one trial with the same
    settings are one. Begins later than at 0 where the record doesn't hold what came before.
    """
    backwards: list[Stretch] = []
    found = _last(record.trials[trial])
    while found is not None:
        owner, place = found
        result = owner.results[place]
        before = _before(record, owner, place)
        if result.copied_at is not None:
            began = result.copied_at
        else:
            began = before[0].results[before[1]].drawings_seen if before else 0
        backwards.append(Stretch(began, result.drawings_seen, owner.number, result.settings))
        found = before
    return _joined(backwards[::-1])


def _last(trial: TrialRecord) -> tuple[TrialRecord, int] | None:
    return (trial, len(trial.results) - 1) if trial.results else None


def _before(record: SearchRecord, trial: TrialRecord, place: int) -> tuple[TrialRecord, int] | None:
    """The report, as a trial and a place among its results, that another went on from."""
    result = trial.results[place]
    if result.copied_from is not None:
        donor = record.trials.get(result.copied_from)
        copied = [
            k for k, one in enumerate(donor.results if donor else ()) if _is_copied(one, result)
        ]  # a donor that was overwritten has been at the same drawings twice
        return (donor, copied[-1]) if donor and copied else None
    # After a crash a trial reports once more what it had reported.
    earlier = [k for k in range(place) if trial.results[k].drawings_seen < result.drawings_seen]
    return (trial, earlier[-1]) if earlier else None


def _is_copied(donors: Result, result: Result) -> bool:
    return (
        donors.drawings_seen == result.copied_at
        and donors.drawings_seen < result.drawings_seen
        and donors.elapsed_s <= result.elapsed_s
    )


def _joined(stretches: list[Stretch]) -> list[Stretch]:
    joined: list[Stretch] = []
    for one in stretches:
        if joined and (joined[-1].trial, joined[-1].settings) == (one.trial, one.settings):
            joined[-1] = joined[-1]._replace(drawings_to=one.drawings_to)
        else:
            joined.append(one)
    return joined


def copies(record: SearchRecord) -> list[tuple[TrialRecord, int]]:
    """Every report before which a trial went on from another's checkpoint, as a trial and a place, by time."""
    found = [
        (trial, place)
        for trial in record.trials.values()
        for place, result in enumerate(trial.results)
        if result.copied_from is not None
    ]
    return sorted(found, key=lambda one: one[0].results[one[1]].elapsed_s)


def best_so_far(record: SearchRecord) -> list[Moment]:
    """A moment for every report from the first with an objective on. Any report counts, after however few drawings."""
    reports = [
        (result.elapsed_s, trial.number, more, result.objective)
        for trial in record.trials.values()
        for result, more in zip(trial.results, increments(trial), strict=True)
    ]
    moments: list[Moment] = []
    trained, best = 0, None
    for elapsed_s, _, more, objective in sorted(reports, key=lambda report: report[:2]):
        trained += more
        if objective is not None and (best is None or record.sign * (objective - best) > 0):
            best = objective
        if best is not None:
            moments.append(Moment(elapsed_s, trained, best))
    return moments
