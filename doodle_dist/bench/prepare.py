"""`doodle-dist bench prepare`: drawings/s of prepare from ndjson, and the memory of everything that Ray runs."""

import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import ray

from doodle_dist.bench.machine import Machine, write_result
from doodle_dist.bench.results import PrepareBench
from doodle_dist.data.shards import PrepareRequest, Progress, prepare
from doodle_dist.data.sources import categories_of, find_sources
from doodle_dist.data.synthetic import synthesize
from doodle_dist.ray_cluster import Need, connect

_CATEGORIES = 12
_SAMPLE_S = 1.0


class MemoryWatch(threading.Thread):
    """Samples the proportional set size of this process and all of Ray's, and what Ray has spilled.

    PSS counts the object store's pages once, since the raylet maps them all.
    """

    def __init__(self, spill_folder: Path) -> None:
        super().__init__(daemon=True)
        self.spill_folder = spill_folder
        self.over = threading.Event()
        self.pss_mb = self.spilled_mb = 0.0

    def run(self) -> None:
        while not self.over.wait(_SAMPLE_S):
            self.pss_mb = max(self.pss_mb, sum(map(_pss_mb, _ray_processes())))
            spilled = sum(f.stat().st_size for f in self.spill_folder.rglob("*") if f.is_file())
            self.spilled_mb = max(self.spilled_mb, spilled / 1e6)


def _ray_processes() -> list[int]:
    """This process and every descendant of it: a Ray of our own is among them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it ended meanwhile
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [os.getpid()]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def _pss_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def run(drawings: int, folder: Path) -> PrepareBench:
    """Make ``drawings`` up, unless ``folder/raw`` holds them already; prepare them, and measure."""
    source, to = folder / "raw", folder / "prepared"
    if not source.exists():
        synthesize(drawings, _CATEGORIES, 0, str(source))
    sources = tuple(find_sources([str(source)]))
    request = PrepareRequest(sources, categories_of(sources), str(to))
    connect(Need(workers=0, cpus_per_worker=0, gpus_per_worker=0), local=True)
    session = Path(ray._private.worker.global_worker.node.get_session_dir_path())
    _warm_up()
    watch = MemoryWatch(session / "ray_spilled_objects")
    watch.start()
    began = time.perf_counter()

    def show(stage: Progress) -> None:
        print(f"\r{stage.stage} {stage.done}/{stage.total}", end="", flush=True)

    manifest = prepare(request, show)
    seconds = time.perf_counter() - began
    watch.over.set()
    watch.join()
    print()
    assert manifest.rows + manifest.rejects.rows == drawings
    return PrepareBench(
        drawings=drawings,
        bytes_per_line=sum(s.size for s in sources) / drawings,
        seconds=seconds,
        drawings_per_s=drawings / seconds,
        processes_pss_mb=watch.pss_mb,
        spilled_mb=watch.spilled_mb,
        machine=Machine.here(),
    )


def _warm_up() -> None:
    """Start the worker processes, so that seconds are of the work and not of Python's imports."""
    import ray.data

    ray.data.range(8, override_num_blocks=8).map_batches(lambda batch: batch, batch_size=None).materialize()


def main(drawings: int, folder: Path | None, output: Path | None) -> None:
    """Run it and print it."""
    where = folder or Path(tempfile.mkdtemp(prefix="doodle-dist-bench-"))
    try:
        result = run(drawings, where)
    finally:
        if folder is None:
            shutil.rmtree(where, ignore_errors=True)
    print(
        f"{result.drawings:,} drawings of {result.bytes_per_line:.0f} bytes a line: {result.seconds:.1f} s, "
        f"{result.drawings_per_s:,.0f} drawings/s on {result.machine.cores} cores; "
        f"all processes {result.processes_pss_mb:,.0f} MB, spilled {result.spilled_mb:,.0f} MB"
    )
    write_result(output, result)
