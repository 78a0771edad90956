"""`doodle-dist bench loaders`: our stream against other loaders, on the same drawings and cores, in one run.

Each round runs every loader once, in a process of its own (loader_rows.py), in turns; ratios are taken inside a
round, and their medians are what counts. Rates are to the consumer: with the torch loaders the one process that
iterates, fed by a worker process a core; with ours and bare pyarrow a process a core, which is what training has.
What our stream has of bare pyarrow is a matter of percents, which rounds minutes long can't tell: the same ranks take
both by short turns.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from doodle_dist.bench.loader_data import lay_out
from doodle_dist.bench.loader_rows import BARE, IN_TURNS, OURS, OURS_HERE, READS, ROWS, WARM_UP_S, lasts_s
from doodle_dist.bench.machine import Machine, write_result
from doodle_dist.errors import WorkFailedError

OF_BARE_BAR, FIRST_BATCH_BAR_S = 0.95, 3.0
_TIMEOUT_S = 300  # beside what a loader is measured for


class LoaderResult(BaseModel):
    """Medians over rounds. ``ours_over_it`` is the median of the rounds' ratios. None: it did not run, see ``why``."""

    model_config = ConfigDict(frozen=True)

    name: str
    what: str
    from_strokes: bool
    drawings_per_s: float | None = None
    ours_over_it: float | None = None
    early_per_s: float | None = None  # of the warm-up, starting included
    first_batch_s: float | None = None
    why: str = ""


class LoadersBench(BaseModel):
    model_config = ConfigDict(frozen=True)

    drawings: int
    rounds: int
    workers: int
    results: list[LoaderResult]
    # Ours over bare pyarrow and our rasteriser, the median of turns with it; in an older run of rounds
    of_bare: float
    # The same read by the ranks themselves, and the range of the turns; None: an older run
    here_of_bare: float | None = None
    here_of_bare_range: tuple[float, float] | None = None
    first_batch_s: float
    is_first_from_strokes: bool
    machine: Machine


def _measure(
    name: str, folder: Path, seconds: float, workers: int, warm_up_s: float = WARM_UP_S
) -> dict[str, float] | str:
    """The figures of one loader, or why there are none."""
    command = [sys.executable, "-m", "doodle_dist.bench.loader_rows", name, str(folder), str(seconds)]
    allowed_s = _TIMEOUT_S + lasts_s(name, seconds, warm_up_s)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(
            [*command, str(workers), str(warm_up_s)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=allowed_s,
        )
    except subprocess.TimeoutExpired:
        return f"no end after {allowed_s:.0f} s"
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        return f"failed: {said[-1] if said else f'exit code {done.returncode}'}"
    found: dict[str, float] = orjson.loads(lines[-1])
    return found


def run(
    folder: Path, missing: dict[str, str], seconds: float, rounds: int, workers: int, drawings: int
) -> LoadersBench:
    """Measure what is laid out in ``folder``, in turns.

    Raises WorkFailedError where our stream or bare pyarrow gives no figures: the others are compared with them.
    """
    about = {row.name: (row.what, row.from_strokes) for row in ROWS}
    about |= {BARE: ("bare pyarrow, our rasteriser", True), OURS: ("ours, through Ray", True)}
    about |= {OURS_HERE: ("ours, data.read=worker", True)}
    why = {row.name: f"not installed: pip install {' '.join(row.lacks)}" for row in ROWS if row.lacks}
    why |= {row.name: missing[row.layout] for row in ROWS if row.layout in missing and row.name not in why}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in about}
    for number in range(rounds):
        for name in about:
            if name in why:
                continue
            print(f"round {number + 1} of {rounds}: {about[name][0]}", file=sys.stderr, flush=True)
            figures = _measure(name, folder, seconds, workers)
            if isinstance(figures, str):
                why[name] = figures
            else:
                found[name].append(figures)
    for name in (OURS, OURS_HERE, BARE):
        if name in why:
            raise WorkFailedError(f"{about[name][0]}: {why[name]}")

    def median(name: str, key: str) -> float:
        return statistics.median(one[key] for one in found[name])

    def ours_over(name: str) -> float:
        pairs = zip(found[OURS], found[name], strict=True)
        return statistics.median(mine["drawings_per_s"] / its["drawings_per_s"] for mine, its in pairs)

    results = [
        LoaderResult(name=name, what=what, from_strokes=strokes, why=why[name])
        if name in why
        else LoaderResult(
            name=name,
            what=what,
            from_strokes=strokes,
            drawings_per_s=median(name, "drawings_per_s"),
            ours_over_it=ours_over(name),
            early_per_s=median(name, "early_per_s"),
            first_batch_s=median(name, "first_batch_s"),
        )
        for name, (what, strokes) in about.items()
    ]
    turns = {}
    for name, ours in IN_TURNS.items():
        print(f"{about[ours][0]}, and bare pyarrow in turns", file=sys.stderr, flush=True)
        figures = _measure(name, folder, seconds / 6, workers)
        if isinstance(figures, str):
            raise WorkFailedError(f"{name}: {figures}")
        turns[ours] = figures
    rivals = [r.ours_over_it for r in results if r.from_strokes and r.name not in {*READS, BARE}]
    return LoadersBench(
        drawings=drawings,
        rounds=rounds,
        workers=workers,
        results=results,
        of_bare=turns[OURS]["of_bare"],
        here_of_bare=turns[OURS_HERE]["of_bare"],
        here_of_bare_range=(turns[OURS_HERE]["lowest"], turns[OURS_HERE]["highest"]),
        first_batch_s=median(OURS, "first_batch_s"),
        is_first_from_strokes=all(ratio > 1 for ratio in rivals if ratio is not None),
        machine=Machine.here(),
    )


def main(
    drawings: int,
    categories: int,
    real: Path,
    folder: Path | None,
    seconds: float,
    rounds: int,
    workers: int,
    output: Path | None,
) -> None:
    """Lay the drawings out, measure, and print a table."""
    with tempfile.TemporaryDirectory(prefix="doodle-dist-bench-") as place:
        where = folder or Path(place)
        missing = _lay_out(where, drawings, categories, real, workers)
        if rounds:
            result = run(where, missing, seconds, rounds, workers, drawings)
            _print(result)
            write_result(output, result)


def _lay_out(folder: Path, drawings: int, categories: int, real: Path, workers: int) -> dict[str, str]:
    import ray

    from doodle_dist.ray_cluster import quiet_ray_data, start_ray

    start_ray(workers)
    quiet_ray_data()
    try:
        return lay_out(folder, drawings, categories, real)
    finally:
        ray.shutdown()


def _here(of_bare: float | None) -> list[tuple[str, str, bool]]:
    if of_bare is None:
        return []
    return [("the same with data.read=worker", f" {of_bare:.2f}", of_bare >= OF_BARE_BAR)]


def _print(result: LoadersBench) -> None:
    table = Table(
        *("loader", "drawings/s", "ours is", f"in the first {WARM_UP_S:.0f} s", "first batch, s"),
        title=f"{result.drawings:,} drawings, {result.workers} cores, medians of {result.rounds} rounds in turns",
    )
    for row in result.results:
        if row.why:
            table.add_row(row.what, row.why)
            continue
        table.add_row(
            row.what,
            f"{row.drawings_per_s:,.0f}",
            f"{row.ours_over_it:.2f} ×",
            f"{row.early_per_s:,.0f}",
            f"{row.first_batch_s:.2f}",
        )
    Console().print(table)
    for what, value, fine in (
        ("first of those that start from strokes", "", result.is_first_from_strokes),
        ("of bare pyarrow and our rasteriser", f" {result.of_bare:.2f}", result.of_bare >= OF_BARE_BAR),
        *_here(result.here_of_bare),
        (
            "seconds to the first batch",
            f" {result.first_batch_s:.1f}",
            result.first_batch_s <= FIRST_BATCH_BAR_S,
        ),
    ):
        print(
            f"{what}:{value} {'' if fine else 'missed'}".rstrip()
            if value
            else f"{what}: {'yes' if fine else 'no'}"
        )
