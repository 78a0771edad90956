"""The driver's side of a running search: everything that happens goes into its ledger, and onto the screen."""

import math
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from doodle_dist import log
from doodle_dist.errors import one_line, root_cause
from doodle_dist.progress_line import duration
from doodle_dist.training.lease import LeaseLostError
from doodle_dist.tuning.ledger import Ledger, Status, trial_number
from doodle_dist.tuning.naming import short
from doodle_dist.tuning.outages import is_of_the_place
from doodle_dist.tuning.resources import TrialResources, nodes_now
from doodle_dist.tuning.trial import (
    CHECKPOINT,
    COPIED_AT,
    COPIED_FROM,
    DRAWINGS,
    POINT,
    REASON,
    settings_of,
)

_DRAW_EVERY_S, _PLAIN_EVERY_S = 1.0, 15.0
_SHOWN = 8


class Follower(Callback):
    """Writes a search's ledger from what Ray Tune tells, and shows the best trials while it runs."""

    def __init__(
        self,
        ledger: Ledger,
        concurrent: int,
        resources: TrialResources,
        is_lost: threading.Event,
        *,
        quiet: bool,
    ) -> None:
        """``is_lost`` is set where another driver takes the search over: then Ray Tune's loop ends, with an error."""
        self.ledger, self.concurrent, self.resources, self.is_lost = ledger, concurrent, resources, is_lost
        self.console = Console(file=sys.stderr, quiet=quiet)
        self.is_live = self.console.is_terminal and not log.is_json()
        self.live = Live(console=self.console, auto_refresh=False, transient=True)
        self.began, self.drawn, self.printed = time.monotonic(), 0.0, 0.0
        self.seen_before = ledger.record.drawings_seen
        self.running: set[int] = set()

    def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
        """Ray Tune pickles its callbacks to go on with them. The ledger is what a search goes on from."""
        return Callback, ()

    # --- what Ray Tune tells ----------------------------------------------------------------------------

    def setup(self, **info: object) -> None:
        if self.is_live:
            self.live.start()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        number = _number(trial)
        self.running.add(number)
        known = self.ledger.record.trials.get(number)
        if known is None or known.status in ("waiting", "interrupted"):
            self.ledger.trial_began(number, settings_of(trial.config[POINT]))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: object
    ) -> None:
        number = _number(trial)
        if reason := result.get(REASON):
            self._ended(number, "failed", reason)
            return
        if DRAWINGS not in result or self._is_known(number, result):
            return
        objective = result.get(self.ledger.record.objective)
        self.ledger.result(
            number,
            int(result[DRAWINGS]),
            objective if objective is not None and math.isfinite(objective) else None,
            settings_of(result["config"][POINT]),
            result.get(COPIED_FROM),
            result.get(COPIED_AT),
            result.get(CHECKPOINT, ""),
        )

    def _is_known(self, number: int, result: dict[str, Any]) -> bool:
        """Whether it is a report of the same checkpoint once more, from a trial whose process has started again."""
        seen, where = int(result[DRAWINGS]), result.get(CHECKPOINT, "")
        return any(
            one.drawings_seen == seen and one.objective is not None and one.checkpoint == where
            for one in self.ledger.record.trials[number].results
        )

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        number = _number(trial)
        record = self.ledger.record.trials[number]
        if record.status != "failed":
            whole = record.drawings_seen >= self.ledger.record.request.config.drawings
            self._ended(number, "finished" if whole else "stopped")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        error = _error_of(trial)
        reason = one_line(root_cause(error)) if error else "its process died"
        self._ended(_number(trial), "interrupted" if error and is_of_the_place(error) else "failed", reason)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: object) -> None:
        if self.is_lost.is_set():
            raise LeaseLostError("the search was taken over by another driver")
        self.ledger.flush_if_due()
        self.running = {_number(trial) for trial in trials if trial.status == Trial.RUNNING}
        self.show()

    def _ended(self, number: int, status: Status, reason: str = "") -> None:
        self.running.discard(number)
        self.ledger.trial_ended(number, status, reason)
        if reason:
            what = "was interrupted" if status == "interrupted" else "failed"
            self._say(f"trial {number} {what}: {reason}", "yellow")

    # --- what a person sees -----------------------------------------------------------------------------

    def show(self) -> None:
        """Draw the table again, if a second has passed; without a terminal, a line now and then."""
        now = time.monotonic()
        if self.is_live and now - self.drawn > _DRAW_EVERY_S:
            self.drawn = now
            self.live.update(self.table(), refresh=True)
        elif not self.is_live and now - self.printed > _PLAIN_EVERY_S:
            self.printed = now
            self._say(self.headline())

    def close(self) -> None:
        """Leave the last state on the screen."""
        self.live.stop()
        self._say(self.headline())

    def _say(self, text: str, style: str = "") -> None:
        if log.is_json():
            log.tell(text)
        else:
            self.console.print(Text(text, style), soft_wrap=True)

    def headline(self) -> str:
        """``31/64 trials: 2 run, 3 stopped …  512 drawings/s  ETA 0:12:30  best 34.1 (trial 12)``"""
        record = self.ledger.record
        over = [trial for trial in record.trials.values() if trial.is_over]
        counts = Counter(trial.status for trial in record.trials.values())
        ends: tuple[Status, ...] = ("finished", "stopped", "failed", "interrupted")
        told = [f"{counts[status]} {status}" for status in ends if counts[status]]
        elapsed = time.monotonic() - self.began
        parts = [
            f"{len(over)}/{record.request.trials} trials: " + ", ".join([f"{len(self.running)} run", *told])
        ]
        rate = (record.drawings_seen - self.seen_before) / max(elapsed, 1e-9)
        if rate > 0:
            parts.append(f"{rate:,.0f} drawings/s")
        if len(over) >= 2:
            # Trials differ in length, and those to come will as those before did.
            left = record.request.trials - len(over)
            parts.append(f"ETA {duration(left * record.elapsed_s / len(over))}")
        if record.best:
            trial, result = record.best
            parts.append(
                f"best {result.objective:.4g} (trial {trial.number}, {result.drawings_seen:,} drawings)"
            )
        if waits := self._waits():
            parts.append(waits)
        return "  ".join(parts)

    def _waits(self) -> str:
        """What waits, and for what."""
        record = self.ledger.record
        done = sum(t.is_over or t.status == "interrupted" for t in record.trials.values())
        waiting = record.request.trials - len(self.running) - done
        if waiting <= 0:
            return ""
        if self.running:
            return f"{waiting} wait for one of {self.concurrent} places of {self.resources}"
        if self.resources.concurrent(nodes_now(), 1):
            return f"{waiting} wait while the first starts"
        return f"{waiting} wait for {self.resources}: others on this cluster have all"

    def table(self) -> Table:
        """The best trials so far."""
        record = self.ledger.record
        table = Table(title=self.headline(), title_justify="left", title_style="", box=None, pad_edge=False)
        table.add_column("trial", justify="right")
        table.add_column("state")
        table.add_column("drawings", justify="right")
        table.add_column(record.objective, justify="right")
        table.add_column("settings", no_wrap=True, overflow="ellipsis")
        for trial, result in record.ranked()[:_SHOWN]:
            state = "runs" if trial.number in self.running else trial.status
            table.add_row(
                str(trial.number),
                state,
                f"{result.drawings_seen:,}",
                f"{result.objective:.4g}",
                short(result.settings, record),
            )
        return table


def _error_of(trial: Trial) -> Exception | None:
    """What Ray Tune has noted as a trial's last error, on this machine: a search's store may be what failed."""
    file = trial.pickled_error_file
    if not file or not Path(file).exists():
        return None
    error: Exception = cloudpickle.loads(Path(file).read_bytes())
    return error


def _number(trial: Trial) -> int:
    return trial_number(str(trial))
