"""The fault table: its rows as they are kept in a file, and as Markdown.

    python -m tests.cluster.faults.table      # the table of benchmarks/results/faults.json, for the README

A row that is run again takes the place of what it was before; rows of several calls make up one table.
"""

import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from doodle_dist.bench.machine import Machine

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "faults.json"

_FILES = ("workers", "network", "storage", "resources", "jobs", "soak")


class FaultRow(BaseModel):
    """A row of the table. ``recover_s`` is from the fault, or its end, to the next checkpoint or to the stop."""

    model_config = ConfigDict(frozen=True)

    test: str
    fault: str
    outcome: Literal["holds", "FAILS"]
    recover_s: float | None
    note: str
    machine: Machine


class FaultTable(BaseModel):
    model_config = ConfigDict(frozen=True)

    rows: tuple[FaultRow, ...] = ()

    def with_row(self, row: FaultRow) -> "FaultTable":
        """The table with a new row, in the place of what its test gave before."""
        rows = {old.test: old for old in self.rows} | {row.test: row}
        return FaultTable(rows=tuple(sorted(rows.values(), key=_file_of)))

    def markdown(self) -> str:
        lines = ["| fault | holds | recovered after | |", "|---|---|---|---|"]
        for row in self.rows:
            seconds = "" if row.recover_s is None else f"{row.recover_s:.1f} s"
            said = "yes" if row.outcome == "holds" else "**no**"
            lines.append(f"| {row.fault} | {said} | {seconds} | {row.note} |")
        return "\n".join(lines)


def _file_of(row: FaultRow) -> int:
    """Where a row stands in the table: with those of its file, in the order in which they were first run."""
    return _FILES.index(row.test.split("::")[0].removeprefix("test_").removesuffix(".py"))


def read_table(path: Path = RESULTS) -> FaultTable:
    """The table so far; an empty one where there is none."""
    return FaultTable.model_validate_json(path.read_bytes()) if path.exists() else FaultTable()


def keep(row: FaultRow, path: Path = RESULTS) -> None:
    """Put a row into the file."""
    path.write_text(read_table(path).with_row(row).model_dump_json(indent=2) + "\n")


if __name__ == "__main__":
    sys.stdout.write(read_table().markdown() + "\n")
