"""What a node has to hold: shared memory, disks, the object store, and the windows of the stream."""

from collections.abc import Iterator

from doodle_dist.config.experiment import Experiment
from doodle_dist.doctor.facts import ClusterFacts, DataFacts, NodeFacts
from doodle_dist.doctor.findings import Finding
from doodle_dist.doctor.sizes import GIB, MIB, as_size
from doodle_dist.reading import bytes_of_drawing

LEAST_FREE_BYTES = 5 * GIB
LEAST_FREE_SHARE = 0.05  # Ray refuses to spill to a disk that is more than 95 % full


def check_shared_memory(facts: ClusterFacts) -> Iterator[Finding]:
    small = False
    for node in facts.nodes:
        if node.object_store_bytes > node.shm_bytes:
            small = True
            yield Finding(
                "warning",
                "shm",
                f"{node.name}: /dev/shm has {as_size(node.shm_bytes)}, the object store "
                f"{as_size(node.object_store_bytes)}",
                "Ray keeps the object store on disk instead, which is many times slower",
                "docker run --shm-size, or an emptyDir of medium Memory at /dev/shm, or a smaller "
                "--object-store-memory",
            )
    if facts.nodes and not small:
        least = min(node.shm_bytes for node in facts.nodes)
        yield Finding("ok", "shm", f"{as_size(least)} or more on every node, and the object store fits in")


def check_disks(facts: ClusterFacts) -> Iterator[Finding]:
    full = False
    for node in facts.nodes:
        for place, disk in node.disks.items():
            if not disk.total_bytes:
                continue
            share = disk.free_bytes / disk.total_bytes
            if disk.free_bytes >= LEAST_FREE_BYTES and share >= LEAST_FREE_SHARE:
                continue
            full = True
            yield Finding(
                "warning",
                "disk",
                f"{node.name}: {place} has {as_size(disk.free_bytes)} free, {share:.0%}",
                "Ray spills, logs and makes checkpoints there, and stops spilling at 95 % full",
                "free some, or start Ray with --temp-dir, and TMPDIR, on a larger disk",
            )
    free = [disk.free_bytes for node in facts.nodes for disk in node.disks.values() if disk.total_bytes]
    if free and not full:
        yield Finding("ok", "disk", f"{as_size(min(free))} or more free on every node")


def ranks_on(node: NodeFacts, experiment: Experiment) -> int:
    """The most workers that Ray could put on a node."""
    return experiment.scaling.workers_on(node.ray_cpus, node.ray_gpus)


def check_object_store(facts: ClusterFacts, experiment: Experiment) -> Iterator[Finding]:
    """Whether the buffers of workers that Ray Data reads for fit."""
    short = False
    for node in facts.nodes:
        ranks = ranks_on(node, experiment)
        wanted = ranks * experiment.data.buffer_bytes
        if wanted <= node.object_store_bytes:
            continue
        short = True
        yield Finding(
            "warning",
            "object store",
            f"{node.name}: {as_size(node.object_store_bytes)}; {ranks} worker{'s' * (ranks != 1)} with "
            f"data.buffer_bytes={experiment.data.buffer_bytes} may hold {as_size(wanted)}",
            "what does not fit is spilled to disk and read back: data wait grows",
            f"--set data.buffer_bytes={_fitting(node, ranks)}, or start Ray with a larger --object-store-memory",
        )
    if facts.nodes and not short:
        least = min(node.object_store_bytes for node in facts.nodes)
        yield Finding(
            "ok", "object store", f"{as_size(least)} or more on every node: the workers' buffers fit"
        )


def _fitting(node: NodeFacts, ranks: int) -> int:
    """A buffer that fits ``ranks`` times, in whole MiB and one at least."""
    return max(1, node.object_store_bytes // max(ranks, 1) // MIB) * MIB


def check_window(experiment: Experiment, seen: DataFacts) -> Iterator[Finding]:
    """Where Ray Data reads, a window of the stream holds whole steps, and a rank's buffer should hold some windows.

    ``seen`` says how large the dataset's drawings are.
    """
    data, scaling = experiment.data, experiment.scaling
    each = bytes_of_drawing(is_strokes=seen.is_strokes, rasterize=data.rasterize, pixels=seen.pixels)
    share = -(-experiment.train.global_batch // scaling.workers)
    window = max(data.window_bytes, share * each)
    if window > data.buffer_bytes // 2:
        yield Finding(
            "warning",
            "stream",
            f"a window of {as_size(window)} and data.buffer_bytes={data.buffer_bytes}",
            "less than two windows fit: workers wait while the next one is read",
            f"--set data.buffer_bytes={4 * window} or a smaller data.window_bytes",
        )
    elif share * each > data.window_bytes:
        yield Finding(
            "note",
            "stream",
            f"a step of {share:,} drawings a worker is more than data.window_bytes={data.window_bytes}",
            "each window is one step: more Ray calls than need be",
            f"--set data.window_bytes={min(100 * MIB, 4 * share * each)}",
        )
    else:
        steps = data.window_bytes // max(share * each, 1)
        yield Finding("ok", "stream", f"a window holds {steps:,} steps of {share:,} drawings a worker")
