"""`doodle-dist bench prepare`: drawings/s of prepare from ndjson, and the memory of everything that Ray runs.

Beside it: what orjson alone makes of the same lines, before and after, in CPU seconds of a process a core that all
parse at once. Two busy cores of a shared machine are often two threads of one, and slower than one beside an idle one.
"""

import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import orjson
import ray

from doodle_dist.bench.machine import Machine, write_result
from doodle_dist.bench.made_up import real_drawings, write_category
from doodle_dist.bench.memory import MemoryWatch
from doodle_dist.bench.results import PrepareBench
from doodle_dist.data.shards import PrepareRequest, Progress, prepare
from doodle_dist.data.sources import categories_of, find_sources
from doodle_dist.ray_cluster import Need, connect

_CATEGORIES = 340
_PARSED = 40_000  # lines that orjson parses, of all files alike, over and over
_PARSE_S = 1.5
BAR = 0.5


def run(drawings: int, folder: Path, real: Path) -> PrepareBench:
    """Make ``drawings`` up in an empty ``folder``, prepare them, and measure. Raises ValueError for another folder."""
    source, to = folder / "raw", folder / "prepared"
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        # A prepare goes on where one was cut off, or is done at once: its seconds would be of a part of the work.
        raise ValueError(
            f"--folder {folder} is not empty, and what was prepared there isn't timed again; name another"
        )
    source.mkdir()
    bounds = np.arange(_CATEGORIES + 1) * drawings // _CATEGORIES
    for one, first, stop in zip(
        real_drawings(real, _CATEGORIES), bounds[:-1].tolist(), bounds[1:].tolist(), strict=True
    ):
        write_category(one, first, stop - first, source / f"{one.category}.ndjson")
    sources = tuple(find_sources([str(source)]))
    request = PrepareRequest(sources, categories_of(sources), str(to))
    connect(Need(workers=0, cpus_per_worker=0, gpus_per_worker=0), local=True)
    session = Path(ray._private.worker.global_worker.node.get_session_dir_path())
    _warm_up()
    files = [Path(one.uri) for one in sources]
    parsed = [orjson_per_s(files, Machine.here().cores)]

    def show(stage: Progress) -> None:
        if sys.stdout.isatty():
            print(f"\r\033[K{stage.stage} {stage.done}/{stage.total}", end="", flush=True)

    with MemoryWatch(spilled=session / "ray_spilled_objects") as watch:
        began = time.perf_counter()
        manifest = prepare(request, show)
        seconds = time.perf_counter() - began
    print("\r" if sys.stdout.isatty() else "", end="")
    parsed.append(orjson_per_s(files, Machine.here().cores))
    alone, machine = statistics.mean(parsed), Machine.here()
    assert manifest.rows + manifest.rejects.rows == drawings
    return PrepareBench(
        drawings=drawings,
        bytes_per_line=sum(s.size for s in sources) / drawings,
        seconds=seconds,
        drawings_per_s=drawings / seconds,
        processes_pss_mb=watch.pss_mb,
        spilled_mb=watch.files_mb["spilled"],
        orjson_per_s=alone,
        of_orjson=drawings / seconds / machine.cores / alone,
        machine=machine,
    )


def orjson_per_s(files: list[Path], cores: int) -> float:
    """Lines that orjson parses in a CPU second of a core, as many of each file, while so many cores do the same."""
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        return statistics.mean(pool.map(_parse, [files] * cores))


def _parse(files: list[Path]) -> float:
    lines = []
    for file in files:
        with file.open("rb") as opened:
            lines += list(islice(opened, _PARSED // len(files)))
    began, times = time.thread_time(), 0
    while time.thread_time() - began < _PARSE_S:
        for line in lines:
            orjson.loads(line)
        times += 1
    return times * len(lines) / (time.thread_time() - began)


def _warm_up() -> None:
    """Start the worker processes, so that seconds are of the work and not of Python's imports."""
    import ray.data

    tasks = max(8, 2 * Machine.here().cores)

    def rest(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        time.sleep(0.2)  # or one process would be done with all of them before the others are there
        return batch

    ray.data.range(tasks, override_num_blocks=tasks).map_batches(rest, batch_size=None).materialize()


def main(drawings: int, folder: Path | None, real: Path, output: Path | None) -> None:
    """Run it and print it."""
    where = folder or Path(tempfile.mkdtemp(prefix="doodle-dist-bench-"))
    try:
        result = run(drawings, where, real)
    finally:
        if folder is None:
            shutil.rmtree(where, ignore_errors=True)
    print(
        f"{result.drawings:,} drawings of {result.bytes_per_line:.0f} bytes a line: {result.seconds:.1f} s, "
        f"{result.drawings_per_s:,.0f} drawings/s on {result.machine.cores} cores; "
        f"all processes {result.processes_pss_mb:,.0f} MB, spilled {result.spilled_mb:,.0f} MB"
    )
    if result.orjson_per_s and result.of_orjson:
        print(
            f"orjson alone parses {result.orjson_per_s:,.0f} a second of a core: prepare does "
            f"{result.of_orjson:.2f} of that, the bar is {BAR}{'' if result.of_orjson >= BAR else ': missed'}"
        )
    write_result(output, result)
