"""A run's figures and its fortunes as files for programs, one JSON object a line.

``metrics.jsonl`` is continuous over restarts: each figure once. ``events.jsonl`` is what happened, and when: starts,
checkpoints, warnings, ends. Nothing is taken out of it again, so that it says what was lost and what a run cost.

Where the run lies in an object store, both are put at every checkpoint, before it: so rank 0 has what the checkpoint
counts, wherever it starts next. What a store refuses then is put with the next one, unless rank 0 moves before that.
"""

import threading
import time
from collections.abc import Callable

from doodle_dist.data import locations
from doodle_dist.data.jsonl import LinesFile
from doodle_dist.run.files import EVENTS, METRICS_LOG
from doodle_dist.run.folder import read_events, read_metrics_log
from doodle_dist.training.checkpoint_store import SupersededError
from doodle_dist.training.lease import LeaseLostError

# Between two signs of life: a run that is killed is known to have lived to the last one.
_ALIVE_EVERY_S = 60.0


class MetricsLog:
    """Writes to ``<run>/metrics.jsonl``. Each line has ``drawings_seen`` and the figures of a log or evaluation.

    And to ``<run>/events.jsonl``, from the first event on: each line has ``event``, ``at`` (seconds since 1970) and
    ``drawings_seen``.
    """

    def __init__(
        self, run_uri: str, drawings_seen: int, check_writer: Callable[[], None] = lambda: None
    ) -> None:
        """Go on from a checkpoint: figures past its ``drawings_seen``, and a line cut short, are dropped.

        ``check_writer`` raises LeaseLostError or SupersededError where another one writes the run by now.
        """
        self.run_uri, self.seen, self.check_writer = run_uri, drawings_seen, check_writer
        before = read_metrics_log(run_uri) if drawings_seen else []
        self.figures = LinesFile(
            locations.join(run_uri, METRICS_LOG),
            (line for line in before if line["drawings_seen"] <= drawings_seen),
        )
        self.events: LinesFile | None = None
        self.is_closed, self._lock = False, threading.Lock()
        self.noted = float("-inf")  # by a clock that is never set back

    def add(self, figures: dict[str, float], drawings_seen: int) -> None:
        """Append a line. A figure that is not finite is written as null: JSON has no other name for it."""
        self.seen = drawings_seen
        self.figures.add({"drawings_seen": drawings_seen, **figures})

    def note(self, event: str, **details: str | float) -> None:
        """Append an event, at the drawings of the last figures (or of the checkpoint gone on from).

        From any thread. One that comes after the log was closed is left out.
        """
        with self._lock:
            if self.is_closed:
                return
            if self.events is None:
                self.events = LinesFile(locations.join(self.run_uri, EVENTS), read_events(self.run_uri))
            self.noted = time.monotonic()
            self.events.add({"at": time.time(), "event": event, "drawings_seen": self.seen, **details})

    def alive(self) -> None:
        """Note that the run lives, where nothing was noted for a minute."""
        if time.monotonic() - self.noted >= _ALIVE_EVERY_S:
            self.note("alive")

    def flush(self) -> None:
        """Make what was written durable. Call it before each checkpoint.

        Nothing where another one writes the run by now: a file that is put whole would take the place of theirs.
        """
        if self.figures.is_remote:
            try:
                self.check_writer()
            except (LeaseLostError, SupersededError):
                return
        self.figures.put()
        if self.events:
            self.events.put()

    def close(self) -> None:
        with self._lock:
            self.is_closed = True
        self.flush()
        self.figures.close()
        if self.events:
            self.events.close()
