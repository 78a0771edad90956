"""`doodle-dist runs watch`: a run's progress from its folder alone, on a disk or in an object store.

It needs no cluster, so it also shows a run that another machine trains. A run in an object store puts its figures
there at every checkpoint.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson
from rich.console import Console
from rich.live import Live
from rich.text import Text

from doodle_dist import log
from doodle_dist.data import locations
from doodle_dist.errors import WorkFailedError
from doodle_dist.progress_line import line
from doodle_dist.run.folder import RunInfo, read_events, read_metrics_log, read_run
from doodle_dist.run.stopped import noted_reason


@dataclass(frozen=True)
class News:
    """What a look at a run found. ``total`` is 0 while its length is not known; ``stopped`` is why it stopped itself.

    ``is_resting``: it was told to stop, saved, and may go on at any time.
    """

    figures: dict[str, float]
    total: int
    stopped: str
    is_resting: bool
    # Its last checkpoint comes after its last log. Runs without events are of an older release.
    is_through: bool = field(default=True, compare=False)

    @property
    def seen(self) -> int:
        return int(self.figures.get("drawings_seen", 0))

    @property
    def is_over(self) -> bool:
        return bool(self.stopped) or (self.is_through and self.total > 0 and self.seen >= self.total)


def look(uri: str, run: RunInfo) -> News:
    """The newest figure of each name, and whether the run has stopped. ``run`` says how long it is."""
    figures: dict[str, float] = {}
    # A resumed run's file is shorter than it was: all of it counts, each time.
    for one in read_metrics_log(uri):
        figures |= one
    events = read_events(uri)
    if events:  # a checkpoint that is made between two logs is further on than either
        figures["drawings_seen"] = max(events[-1]["drawings_seen"], figures.get("drawings_seen", 0))
    stopped = noted_reason(uri)
    is_resting = bool(events) and events[-1]["event"] == "stopped" and not stopped
    is_through = not events or events[-1]["event"] == "finished"
    return News(figures, run.drawings, stopped, is_resting, is_through)


def follow(uri: str, every_s: float, patience_s: float) -> Iterator[News]:
    """A run's news whenever there are some, until it is over.

    Raises ValueError where there is no run within ``patience_s``, and WorkFailedError where nothing new came for so
    long (0: it waits for ever): a run whose driver died says nothing of that.
    """
    run = _begun(uri, every_s, patience_s)
    last: News | None = None
    heard = time.monotonic()
    while True:
        if not run.drawings:  # its first checkpoint will tell
            run = read_run(uri)
        news = look(uri, run)
        if news != last:
            last, heard = news, time.monotonic()
            yield news
        if news.is_over:
            return
        if patience_s and time.monotonic() - heard > patience_s:
            raise WorkFailedError(
                f"{locations.public(uri)}: nothing new for {patience_s:g} s at drawing {news.seen:,}; "
                "does it still run? The command that started it goes on with it"
            )
        time.sleep(every_s)


def _begun(uri: str, every_s: float, patience_s: float) -> RunInfo:
    """The run, which may begin only after one has begun to watch."""
    deadline, said = time.monotonic() + patience_s, False
    while True:
        try:
            return read_run(uri)
        except ValueError as error:
            if patience_s and time.monotonic() >= deadline:
                raise
            if not said:
                log.say(f"waiting: {error}")
                said = True
        time.sleep(every_s)


def watch_run(run: str, *, every_s: float, patience_s: float, as_json: bool) -> None:
    """Show a run until it is over. Raises WorkFailedError where it stopped itself.

    A live line on a terminal; without one, or ``as_json``, a line (an object) for each piece of news.
    """
    uri = locations.absolute(run)
    console = Console(file=sys.stdout)
    is_live = console.is_terminal and not as_json
    began, began_seen = time.monotonic(), -1
    news = None
    live = Live("", console=console, auto_refresh=False, transient=True)
    with contextlib.ExitStack() as stack:
        if is_live:  # and not else: it would break what is printed at the terminal's width
            stack.enter_context(live)
        for news in follow(uri, every_s, patience_s):
            if began_seen < 0:
                began, began_seen = time.monotonic(), news.seen
            if as_json:
                print(orjson.dumps(news.figures | {"total": news.total}).decode(), flush=True)
                continue
            text = _said(news, began_seen, began)
            if is_live:
                live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)
            else:
                print(text, flush=True)
    assert news is not None
    if news.stopped:
        raise WorkFailedError(
            f"{locations.public(uri)} stopped itself at drawing {news.seen:,}: {news.stopped}"
        )
    if not as_json:
        _print_end(uri, news)


def _said(news: News, began_seen: float, began: float) -> str:
    if not news.figures:
        return "nothing logged yet"
    if news.is_resting:
        length = f" of {news.total:,}" if news.total else ""
        return (
            f"stopped at drawing {news.seen:,}{length}, as it was told to; the same command goes on with it"
        )
    if not news.total:
        return f"{news.seen:,} drawings"
    return line(news.figures | {"total": news.total}, began_seen, began)


def _print_end(uri: str, news: News) -> None:
    best = read_run(uri).best
    score = "" if best is None or best.score is None else f", score {best.score:.4f}"
    print(f"done: {news.seen:,} drawings; best checkpoint {best.uri if best else 'none'}{score}")
