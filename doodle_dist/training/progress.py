"""What the driver and rank 0 tell each other, through a tiny Ray actor: one live line on the terminal, and stop."""

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorUnavailableError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console
from rich.live import Live
from rich.text import Text

from doodle_dist import log
from doodle_dist.progress_line import line

_POLL_S = 0.5
_PLAIN_EVERY_S = 15.0


class _Board:
    """Holds the newest figures; later ones are laid over earlier ones."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.warnings: list[str] = []
        self.is_stopping = False

    def update(self, figures: dict[str, float]) -> None:
        self.figures |= figures

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def stop(self) -> None:
        """Ask the run to save and end."""
        self.is_stopping = True

    def asked_to_stop(self) -> bool:
        return self.is_stopping

    def read(self, heard: int) -> tuple[dict[str, float], list[str]]:
        """The figures, and the warnings after the first ``heard``: an answer that is lost takes none with it."""
        return self.figures, self.warnings[heard:]


def new_board() -> ActorHandle:
    """The actor that rank 0 writes to and the driver reads; it takes no CPU.

    It lives on the driver's node: with another node that died, all wishes to stop would be lost.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(_Board).remote()


class StopQuestion:
    """Whether a board was told to stop, asked without waiting: each call takes the answer to the one before."""

    def __init__(self, board: ActorHandle | None) -> None:
        self.board = board
        self.pending: ray.ObjectRef[bool] | None = None
        self.is_asked = False

    def __call__(self) -> bool:
        if self.board is None or self.is_asked:
            return self.is_asked
        if self.pending is not None and ray.wait([self.pending], timeout=0)[0]:
            try:
                self.is_asked = ray.get(self.pending)
            except ActorUnavailableError:
                pass  # for a moment: it is asked again
            except RayError:
                self.board = None  # the driver is gone, and its actors with it
            self.pending = None
        if self.pending is None and self.board is not None:
            self.pending = self.board.asked_to_stop.remote()
        return self.is_asked


@contextmanager
def shown(board: ActorHandle, quiet: bool = False) -> Iterator[None]:
    """Show the board's figures until the block ends: live on a terminal, a line now and then in a log.

    Its warnings are said as they come; where ``quiet``, nothing else is.
    """
    over = threading.Event()
    follower = threading.Thread(target=_follow, args=(board, over, quiet), daemon=True)
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join()


def _read(board: ActorHandle, heard: int) -> tuple[dict[str, float], list[str]]:
    """What the board holds; nothing where its node is busy or gone, which is no reason to stop a run."""
    try:
        held: tuple[dict[str, float], list[str]] = ray.get(board.read.remote(heard), timeout=5)
        return held
    except RayError:
        return {}, []


def drawings_seen(board: ActorHandle) -> int:
    """The drawings that the run has seen, as far as the board was told."""
    figures, _ = _read(board, 0)
    return int(figures.get("drawings_seen", 0))


def _follow(board: ActorHandle, over: threading.Event, quiet: bool) -> None:
    if log.is_json():
        _tell(board, over)
        return
    console, heard = Console(file=sys.stderr, quiet=quiet), 0
    # Above the live line, where there is one. Who asked for quiet is warned all the same.
    warned = Console(file=sys.stderr) if quiet else console
    began, began_seen, printed = 0.0, 0.0, 0.0
    last, told, seen, since = "", "", -1.0, 0.0
    said: dict[str, float] = {}
    is_news = False
    with Live("starting the workers …", console=console, auto_refresh=False, transient=True) as live:
        while True:
            ending = over.wait(_POLL_S)
            figures, warnings = _read(board, heard)
            heard += len(warnings)
            for text in warnings:
                # As Text: a path in brackets, as gloo begins its errors with, is no markup of rich's.
                warned.print(Text(f"warning: {text}", "yellow"), soft_wrap=True)
            if "total" in figures:
                if not began:
                    began, began_seen = time.monotonic(), figures["drawings_seen"]
                if figures["drawings_seen"] != seen:
                    seen, since = figures["drawings_seen"], time.monotonic()
                last = line(figures, began_seen, began, since)
                live.update(Text(last, no_wrap=True, overflow="ellipsis"), refresh=console.is_terminal)
                is_news = figures != said and last != told  # of some figures the line tells nothing
                is_due = is_news and time.monotonic() - printed > _PLAIN_EVERY_S
                if is_due and not console.is_terminal:
                    printed, said, told, is_news = time.monotonic(), figures, last, False
                    console.print(last, highlight=False, soft_wrap=True)
            if ending:
                break
    if is_news:
        console.print(last, highlight=False, soft_wrap=True)


def _tell(board: ActorHandle, over: threading.Event) -> None:
    """The same as structured log lines: one for each change of the figures, and for each warning."""
    last: dict[str, float] = {}
    heard = 0
    while True:
        ending = over.wait(_POLL_S)
        figures, warnings = _read(board, heard)
        heard += len(warnings)
        for text in warnings:
            log.tell(text, level=logging.WARNING)
        if figures and figures != last:
            last = dict(figures)
            log.tell("progress", figures)
        if ending:
            break
