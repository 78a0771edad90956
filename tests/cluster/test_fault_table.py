"""The fault table's file: rows of several calls make up one table."""

from pathlib import Path

from doodle_dist.bench.machine import Machine
from tests.cluster.faults.table import FaultRow, keep, read_table


def row(test: str, outcome: str = "holds", recover_s: float | None = 1.25, note: str = "") -> FaultRow:
    return FaultRow(
        test=test,
        fault=f"fault of {test}",
        outcome=outcome,
        recover_s=recover_s,
        note=note,
        machine=Machine.here(),
    )


def test_a_row_takes_the_place_of_its_own_test_and_of_no_other(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    assert read_table(path).rows == ()
    later, sooner = row("test_jobs.py::test_stop"), row("test_workers.py::test_killed", "FAILS", None)
    keep(later, path)
    keep(sooner, path)
    assert read_table(path).rows == (sooner, later), "in the order of the issue's table"
    again = row("test_workers.py::test_killed", recover_s=14.96, note="twice")
    keep(again, path)
    assert read_table(path).rows == (again, later)


def test_the_table_is_markdown(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    keep(row("test_workers.py::test_killed", recover_s=14.96, note="twice"), path)
    keep(row("test_jobs.py::test_stop", "FAILS", None), path)
    assert read_table(path).markdown().splitlines()[2:] == [
        "| fault of test_workers.py::test_killed | yes | 15.0 s | twice |",
        "| fault of test_jobs.py::test_stop | **no** |  |  |",
    ]
