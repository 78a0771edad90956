"""A run's progress in one line, for a terminal or a log."""

import shutil
import sys
import textwrap
import time


def duration(seconds: float) -> str:
    """``1:02:03``"""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def line(figures: dict[str, float], began_seen: float, began: float, since: float | None = None) -> str:
    """``320,000/1,000,000  32 %  412 drawings/s  ETA 27:30  loss/critic 0.69 …`` for a terminal.

    ``began`` is when (time.monotonic) ``began_seen`` drawings had been seen: the time left is reckoned from there.
    ``since`` is when these figures came (None: now); from then on the time left counts down.
    """
    now = time.monotonic()
    since = now if since is None else since
    seen, total = figures["drawings_seen"], figures["total"]
    average = (seen - began_seen) / max(since - began, 1e-9)
    parts = [f"{int(seen):,}/{int(total):,} drawings", f"{min(seen / total, 1):4.0%}"]
    if rate := figures.get("speed/drawings_per_s"):
        parts.append(f"{rate:,.0f}/s")
    if average > 0:
        parts.append(f"ETA {duration(max((total - seen) / average - (now - since), 0))}")
    parts += [
        f"{name} {value:.3f}"
        for name, value in figures.items()
        if name.startswith(("loss/", "val/top1")) and value is not None
    ]
    return "  ".join(parts)


def hanging(line: str, *, indent: int) -> str:
    """In a terminal a line that is too wide for it goes on indented; in a file or a pipe it stays one line."""
    if not sys.stdout.isatty():
        return line
    width = max(shutil.get_terminal_size().columns, 2 * indent)
    wrapped = textwrap.wrap(line, width, subsequent_indent=indent * " ", break_on_hyphens=False)
    return "\n".join(wrapped)
