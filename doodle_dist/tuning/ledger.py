"""A search's own record, ``search.jsonl``: one JSON object a line, whatever happened, in the order it did.

All that a search says at its end is drawn from it, and a search that was cut off goes on from it: Ray Tune's own
state is written every few seconds, and is pickled.
"""

import math
import statistics
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

import orjson

from doodle_dist.config.search import SearchConfig
from doodle_dist.config.search_space import Settings
from doodle_dist.data import locations, storage
from doodle_dist.data.jsonl import LinesFile, read_lines
from doodle_dist.data.retry import TRAINING_PATIENCE_S, patience
from doodle_dist.data.storage_errors import StorageError
from doodle_dist.log import say
from doodle_dist.training.lease import Lease, check

LEDGER, REQUEST = "search.jsonl", "search.json"
CONFIRM = "confirm"  # the search, below another, that trains its best again
_PUT_EVERY_S = 10.0
# While a store is away trials wait for the driver that waits for it: seldom, and not for long. At the end it waits.
_PATIENCE_S, _LONGEST_PAUSE_S, _INTERRUPTED_PATIENCE_S = 2.0, 60.0, 15.0

Status = Literal["waiting", "running", "finished", "stopped", "failed", "interrupted"]


@dataclass(frozen=True)
class Result:
    """What a trial had reached at a report. ``objective`` is None where it was not finite or not to be had.

    ``settings`` are those it was trained with up to here; ``copied_from`` is the trial whose checkpoint it
    went on from since its last report (population based training), with ``copied_at`` drawings seen;
    ``checkpoint`` is where its own lies, if it is still there.
    ``elapsed_s`` counts since the search began, the time when it was not running left out.
    """

    drawings_seen: int
    objective: float | None
    elapsed_s: float
    settings: Settings
    copied_from: int | None = None
    copied_at: int | None = None
    checkpoint: str = ""


@dataclass
class TrialRecord:
    """One trial: the settings it began with, what it reported, and how it ended.

    ``finished``: trained to its end; ``stopped``: ended early by the scheduler; ``failed``: with its ``reason``;
    ``interrupted``: by its store, node or cluster, for the ``reason`` that is given.
    """

    number: int
    settings: Settings
    results: list[Result] = field(default_factory=list)
    status: Status = "waiting"
    reason: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left to do."""
        return self.status in ("finished", "stopped", "failed")

    @property
    def drawings_seen(self) -> int:
        """Drawings seen at its last report; 0 before the first."""
        return self.results[-1].drawings_seen if self.results else 0

    @property
    def name(self) -> str:
        """Its folder's name below the search's, which is a run's folder."""
        return trial_name(self.number)


@dataclass(frozen=True)
class Request:
    """What a search was asked for; the same command asks for the same. ``experiment`` is that of the preset with
    the person's overrides, of which a trial's settings are overlays. Where it trains the best of another search
    again, ``confirms`` has the number that each of its own trials had there. ``fixed`` are settings that
    the person gave a value: they are not searched."""

    experiment: dict[str, object]
    search: dict[str, object]
    trials: int
    scheduler: str
    searcher: str
    seed: int
    confirms: list[int] = field(default_factory=list)
    fixed: list[str] = field(default_factory=list)

    @cached_property
    def config(self) -> SearchConfig:
        """The ``[search]`` table."""
        return SearchConfig.model_validate(self.search)


@dataclass
class SearchRecord:
    """A search as its folder describes it: what was asked for, and every trial by number. ``confirmed`` are the
    ends of those of the best that were trained again with fresh seeds, by the number of the trial."""

    uri: str
    request: Request
    trials: dict[int, TrialRecord] = field(default_factory=dict)
    elapsed_s: float = 0.0
    confirmed: dict[int, list[Result]] = field(default_factory=dict)
    was_stopped: bool = False  # in this process, before it was through
    cut_off: str = ""  # why some trials of it are not over, though nobody stopped it

    @property
    def objective(self) -> str:
        """The figure that is searched by."""
        return self.request.config.objective

    @property
    def sign(self) -> float:
        """1 where a high objective is good, -1 where a low one is."""
        return 1.0 if self.request.config.mode == "max" else -1.0

    @property
    def is_over(self) -> bool:
        """Whether every trial is over."""
        return sum(trial.is_over for trial in self.trials.values()) >= self.request.trials

    @property
    def interruptions(self) -> str:
        """How many trials were interrupted, and by what; "" where none was."""
        reasons = [trial.reason for trial in self.trials.values() if trial.status == "interrupted"]
        return (
            f"{len(reasons)} of its trials were interrupted: {'; '.join(sorted(set(reasons)))}"
            if reasons
            else ""
        )

    def by_objective(self) -> list[tuple[TrialRecord, Result]]:
        """Every trial with a result, best first: by the rung it got to, then by the objective there.

        A trial that was stopped early was worse, at that point, than one that went on; its figure there says
        nothing against a longer one's. Rungs and not drawings seen: batches of other sizes end a little further on.
        """
        rungs = self.request.config.rungs()
        rows = [
            (trial, [result for result in trial.results if result.objective is not None][-1])
            for trial in self.trials.values()
            if any(result.objective is not None for result in trial.results)
        ]
        sign = self.sign
        return sorted(
            rows,
            key=lambda row: (-bisect_right(rungs, row[1].drawings_seen), -sign * (row[1].objective or 0.0)),
        )

    def ranked(self) -> list[tuple[TrialRecord, Result]]:
        """As `by_objective`, but that those which were confirmed come first, by their fresh seeds' mean, and those
        of them that failed with one come last."""
        means = {number: -self.sign * mean for number, (mean, _) in self.confirmations().items()}

        def place(row: tuple[TrialRecord, Result]) -> tuple[int, float]:
            mean = means.get(row[0].number)
            if mean is None:
                return 1, 0.0
            return (0, mean) if math.isfinite(mean) else (2, 0.0)

        return sorted(self.by_objective(), key=place)

    @property
    def best(self) -> tuple[TrialRecord, Result] | None:
        """The first of `ranked`."""
        return next(iter(self.ranked()), None)

    def confirmations(self) -> dict[int, tuple[float, float]]:
        """Mean and standard deviation of the objective over fresh seeds, of each trial that was confirmed.

        A seed whose run failed makes its trial's infinitely bad.
        """
        found = {}
        for number, results in self.confirmed.items():
            values = [-self.sign * math.inf if r.objective is None else r.objective for r in results]
            mean = sum(values) / len(values)
            spread = statistics.stdev(values) if len(values) > 1 and math.isfinite(mean) else math.nan
            found[number] = (mean, spread)
        return found

    @property
    def drawings_seen(self) -> int:
        """Drawings that all trials together were trained on, what was copied counted once."""
        return sum(sum(increments(trial)) for trial in self.trials.values())


def increments(trial: TrialRecord) -> list[int]:
    """Drawings that a trial was trained on before each of its results, since the one before or since its copy."""
    found, at = [], 0
    for result in trial.results:
        if result.copied_at is not None:
            at = result.copied_at
        found.append(max(0, result.drawings_seen - at))
        at = result.drawings_seen
    return found


def trial_name(number: int) -> str:
    """``trial-00012``"""
    return f"trial-{number:05d}"


def trial_number(name: str) -> int:
    """The number of a trial's name."""
    return int(name.rpartition("-")[2])


def read_search(uri: str) -> SearchRecord | None:
    """The search at ``uri``; None where there is none. Raises ValueError where it is damaged."""
    where = locations.join(uri, REQUEST)
    if not storage.exists(where):
        return None
    try:
        request = Request(**orjson.loads(storage.read_bytes(where)))
    except (orjson.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{where} is damaged, or of another release: {error}") from None
    record = SearchRecord(uri, request)
    lines = locations.join(uri, LEDGER)
    try:
        for entry in read_lines(lines):
            _apply(record, entry)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{lines} is damaged, or of another release: {error}") from None
    if (again := read_search(locations.join(uri, CONFIRM))) is not None:
        record.confirmed = confirmed_by(again)
    return record


def confirmed_by(again: SearchRecord) -> dict[int, list[Result]]:
    """What a search that confirms another's best has found, by that one's trials; those that are not through with
    all their seeds are left out."""
    found: dict[int, list[Result]] = {}
    for number in dict.fromkeys(again.request.confirms):
        mine = [
            again.trials.get(k) for k, confirms in enumerate(again.request.confirms) if confirms == number
        ]
        if all(trial is not None and trial.is_over for trial in mine):
            found[number] = [_end(trial) for trial in mine if trial is not None]
    return found


def _end(trial: TrialRecord) -> Result:
    """A trial's last report; one without an objective where it failed."""
    if trial.status == "finished" and trial.results:
        return trial.results[-1]
    return Result(trial.drawings_seen, None, 0.0, trial.settings)


def _apply(record: SearchRecord, entry: dict[str, Any]) -> None:
    number = entry["trial"]
    record.elapsed_s = max(record.elapsed_s, entry["elapsed_s"])
    trial = record.trials.setdefault(number, TrialRecord(number, entry.get("settings", {})))
    match entry["event"]:
        case "began":
            trial.status, trial.reason = "running", ""
        case "result":
            trial.results.append(Result(**{name: entry[name] for name in Result.__dataclass_fields__}))
        case "ended":
            trial.status, trial.reason = entry["status"], entry["reason"]


class Ledger:
    """Writes a search's record as it goes, and holds it: the driver's alone.

    An object store that is away for a while is told of once, and what was written meanwhile is kept on this machine.
    """

    def __init__(
        self,
        uri: str,
        request: Request,
        lease: Lease | None = None,
        warn: Callable[[str], object] = say,
    ) -> None:
        """Go on with the search at ``uri``, or begin it. Nothing is written to a store once ``lease`` is lost.

        Raises LeaseLostError, and StorageError where the store is away from the beginning.
        """
        self.lease, self.warn = lease, warn
        if lease is not None:
            check(lease)
        self.record = read_search(uri) or SearchRecord(uri, request)
        self.record.request = request  # more trials than before are the same search
        for trial in self.record.trials.values():
            if trial.status == "interrupted":  # by an earlier attempt: it waits for its turn in this one
                trial.status, trial.reason = "waiting", ""
        storage.write_atomic(
            locations.join(uri, REQUEST),
            orjson.dumps(asdict(request), option=orjson.OPT_INDENT_2),
        )
        where = locations.join(uri, LEDGER)
        self.lines = LinesFile(where, read_lines(where))
        self.began = time.monotonic() - self.record.elapsed_s
        self.next_put = time.monotonic() + _PUT_EVERY_S
        self.pause_s = _PUT_EVERY_S
        self.is_away = False

    def trial_began(self, number: int, settings: Settings) -> None:
        self._add({"event": "began", "trial": number, "settings": settings})

    def result(
        self,
        number: int,
        drawings_seen: int,
        objective: float | None,
        settings: Settings,
        copied_from: int | None = None,
        copied_at: int | None = None,
        checkpoint: str = "",
    ) -> None:
        self._add(
            {
                "event": "result",
                "trial": number,
                "drawings_seen": drawings_seen,
                "objective": objective,
                "settings": settings,
                "copied_from": copied_from,
                "copied_at": copied_at,
                "checkpoint": checkpoint,
            }
        )

    def trial_ended(self, number: int, status: Status, reason: str = "") -> None:
        self._add({"event": "ended", "trial": number, "status": status, "reason": reason})
        if not self.is_away:
            self.flush()

    def _add(self, entry: dict[str, Any]) -> None:
        entry["elapsed_s"] = round(time.monotonic() - self.began, 3)
        # As it will be read, so that what is held is what a later reader will find.
        _apply(self.record, orjson.loads(orjson.dumps(entry)))
        self.lines.add(entry)
        self.flush_if_due()

    def flush_if_due(self) -> None:
        """`flush`, where some time has passed since the last."""
        if time.monotonic() > self.next_put:
            self.flush()

    def flush(self) -> None:
        """Make what was written durable, where the search lies in an object store.

        A store that is away is told of, and tried again later. Raises LeaseLostError.
        """
        try:
            with patience(_PATIENCE_S):
                self._put()
        except StorageError as error:
            if not self.is_away:
                self.warn(
                    f"{error}; the search goes on, and its record is kept in {self.lines.path} meanwhile"
                )
                self.is_away = True
            self.pause_s = min(2 * self.pause_s, _LONGEST_PAUSE_S)
        else:
            if self.is_away:
                self.warn(f"{locations.public(self.lines.uri)} is written again")
            self.is_away, self.pause_s = False, _PUT_EVERY_S
        self.next_put = time.monotonic() + self.pause_s

    def _put(self) -> None:
        if self.lines.is_remote and self.lease is not None:
            check(self.lease)
        self.lines.put()

    def close(self) -> None:
        """Write what is left, with patience. Raises StorageError, naming where it is kept, and LeaseLostError."""
        try:
            with patience(TRAINING_PATIENCE_S if self.record.is_over else _INTERRUPTED_PATIENCE_S):
                self._put()
        except StorageError as error:
            raise StorageError(
                f"{error}; the search's record is in {self.lines.path}: copy it to "
                f"{locations.public(self.lines.uri)}, and the same command goes on"
            ) from error
        finally:
            self.lines.close()
