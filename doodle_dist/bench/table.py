"""`doodle-dist bench table`: the bars as a table and, with plots, as a page."""

from pathlib import Path
from typing import get_args

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from doodle_dist.bench.bars import Results, Verdict, bars
from doodle_dist.bench.page import write_page


def main(folder: Path, page: Path | None) -> None:
    """Print the table; write the page of plots."""
    results = Results.read(folder)
    found = bars(results)
    table = Table(
        "what, against what", "verdict", "here", "bar", "measured by", box=SIMPLE, padding=(0, 1, 0, 0)
    )
    for one in found:
        style = {"met": "", "missed": "bold red", "beside": "dim", "not measured here": "dim"}[one.verdict]
        what = f"{one.what}: {one.against}" if one.against else one.what
        by = f"{one.command}\n{one.date}".strip()
        table.add_row(what, one.verdict, one.figure, one.bar, by, style=style)
    # A log or a pipe is as wide as the columns need.
    console = Console()
    Console(width=None if console.is_terminal else 170).print(table)
    counts = {verdict: sum(one.verdict == verdict for one in found) for verdict in get_args(Verdict)}
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if page is not None:
        write_page(page, found, results)
        print(page)
