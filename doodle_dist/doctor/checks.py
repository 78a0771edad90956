"""The doctor's judgement: pure functions from facts (and the experiment that is to run) to findings."""

from collections.abc import Iterator

from doodle_dist.config.experiment import Experiment
from doodle_dist.doctor.facts import ClusterFacts, NodeFacts
from doodle_dist.doctor.findings import Finding

GIB = 1 << 30
MIB = 1 << 20
LEAST_FREE_BYTES = 5 * GIB
LEAST_FREE_SHARE = 0.05  # Ray refuses to spill to a disk that is more than 95 % full
MOST_SKEW_S = 1.0
FATAL_SKEW_S = 15 * 60  # S3 refuses requests that are signed with a clock 15 minutes off
SLOW_STORAGE_BYTES_PER_S = 10 * MIB
SLOW_LINK_BYTES_PER_S = 100 * MIB
_STROKES_BYTES = 128  # about what a drawing's strokes take on their way to a rank (data/stream.py)
_RASTER_BYTES = 28 * 28


def check(facts: ClusterFacts, experiment: Experiment) -> list[Finding]:
    """Every finding about a cluster on which ``experiment`` is to run, in the order in which to mend them."""
    return [
        *check_nodes(facts),
        *check_versions(facts),
        *check_resources(facts),
        *check_gpus(facts, experiment),
        *check_token(facts),
        *check_dashboard(facts),
        *check_storage(facts),
        *check_data(facts),
        *check_interfaces(facts, experiment),
        *check_links(facts),
        *check_clocks(facts),
        *check_shared_memory(facts),
        *check_disks(facts),
        *check_object_store(facts, experiment),
        *check_window(experiment),
    ]


def check_nodes(facts: ClusterFacts) -> Iterator[Finding]:
    cpus = sum(node.ray_cpus for node in facts.nodes)
    gpus = sum(node.ray_gpus for node in facts.nodes)
    where = "a Ray of our own, on this machine" if facts.is_own else facts.address
    count = f"{len(facts.nodes)} node" + "s" * (len(facts.nodes) != 1)
    yield Finding("ok", "cluster", f"{where}: {count}, {cpus:g} CPUs, {gpus:g} GPUs")
    for address, reason in facts.silent_nodes.items():
        yield Finding(
            "error",
            "cluster",
            f"node {address} gives no answer: {reason}",
            "Ray counts it as alive and would put workers on it, which would never start",
            "look at its raylet.log and free memory; `ray stop` there, and start it again",
        )


def check_versions(facts: ClusterFacts) -> Iterator[Finding]:
    """Ray asks for one version of itself and of Python everywhere; pickled code for one of ours and of torch."""
    here = {"python": facts.python, **facts.versions}
    said = ", ".join(f"{name} {here[name]}" for name in ("python", "ray", "torch", "doodle_dist"))
    differing = False
    for node in facts.nodes:
        there = {"python": node.python, **node.versions}
        for name in ("python", "ray", "torch", "doodle_dist"):
            if there.get(name) == here[name]:
                continue
            differing = True
            yield _other_version(node, name, here[name], there.get(name, ""))
    if not differing:
        yield Finding("ok", "versions", f"{said}, here and on every node")


def _other_version(node: NodeFacts, name: str, here: str, there: str) -> Finding:
    said = f"{node.name} has {name} {there or 'not at all'}; here it is {here or 'not installed'}"
    install = "install the same on every node: pip install -c constraints.txt, or one image for all"
    if not there:
        return Finding("error", "versions", said, f"workers there can't import {name}", install)
    if name == "python":
        if here.split(".")[:2] == there.split(".")[:2]:
            return Finding("note", "versions", said, "a patch release apart: harmless")
        return Finding("error", "versions", said, "what one Python pickles the other can't read", install)
    if name == "torch":
        means = "ranks of two torch versions may not talk, and a checkpoint of one may not load in the other"
        return Finding("warning", "versions", said, means, install)
    return Finding("error", "versions", said, "driver and workers would run different code", install)


def check_resources(facts: ClusterFacts) -> Iterator[Finding]:
    if facts.shortage:
        yield Finding(
            "error",
            "resources",
            facts.shortage.partition(";")[0],
            "the run would be refused before it starts",
            "ask for fewer --workers or --cpus per worker, add nodes, or let an autoscaler add them: --wait SECONDS",
        )


def check_gpus(facts: ClusterFacts, experiment: Experiment) -> Iterator[Finding]:
    for node in facts.nodes:
        if node.torch_error and node.versions.get("torch"):
            yield Finding(
                "error",
                "GPU",
                f"{node.name}: torch can't be imported: {node.torch_error}",
                "no worker can start there",
                "install torch again there, for that machine's CUDA or for CPUs",
            )
        elif node.ray_gpus > len(node.torch_gpus):
            built = f"built for CUDA {node.torch_cuda}" if node.torch_cuda else "built for CPUs only"
            yield Finding(
                "error" if experiment.scaling.gpus_per_worker else "warning",
                "GPU",
                f"{node.name}: Ray counts {node.ray_gpus:g} GPUs and torch, {built}, sees {len(node.torch_gpus)}",
                "a worker that is given such a GPU fails at its first tensor",
                "install a torch built for the driver's CUDA (nvidia-smi shows it), or start Ray with the "
                "--num-gpus that there are",
            )
        elif len(node.torch_gpus) > node.ray_gpus:
            yield Finding(
                "warning",
                "GPU",
                f"{node.name}: torch sees {len(node.torch_gpus)} GPUs and Ray counts {node.ray_gpus:g}",
                "workers won't be given the others",
                "start Ray there without --num-gpus and CUDA_VISIBLE_DEVICES, or ask for the GPUs in the pod",
            )
        elif node.torch_gpus:
            kinds = ", ".join(sorted(set(node.torch_gpus)))
            yield Finding("ok", "GPU", f"{node.name}: {len(node.torch_gpus)} × {kinds}")
    if not any(node.ray_gpus or node.torch_gpus for node in facts.nodes):
        yield Finding("note", "GPU", "no node has one", "training runs on CPUs")
    elif not experiment.scaling.gpus_per_worker:
        yield Finding(
            "note", "GPU", "the run asks for none", "it would train on CPUs: --gpus 1 asks for one each"
        )


def check_token(facts: ClusterFacts) -> Iterator[Finding]:
    on = facts.auth_mode == "token"
    if facts.is_own:
        return
    if on and facts.has_token:
        yield Finding("ok", "token", "RAY_AUTH_MODE=token, and there is a token")
    elif on:
        yield Finding(
            "error",
            "token",
            "RAY_AUTH_MODE=token, and there is no token",
            "the cluster lets nobody in without one",
            "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, or `ray get-auth-token --generate` before the cluster starts",
        )
    else:
        yield Finding(
            "warning",
            "token",
            "RAY_AUTH_MODE is not token",
            "whoever reaches the cluster's ports can run code on it",
            "export RAY_AUTH_MODE=token on every machine, and start the cluster again",
        )


def check_dashboard(facts: ClusterFacts) -> Iterator[Finding]:
    seen = facts.dashboard
    if facts.is_own:
        return
    if not seen.url:
        yield Finding(
            "warning",
            "dashboard",
            "the cluster has none",
            "`ray job submit` and the metrics need it, and trials that end early leak their placement groups",
            "pip install 'ray[default]' on the head, and start it without --include-dashboard=false",
        )
        return
    if not seen.status:
        yield Finding(
            "warning",
            "dashboard",
            f"{seen.url} does not answer: {seen.error}",
            "`ray job submit` won't work from here; training started here will",
            "start the head with --dashboard-host, or forward its port: ssh -L 8265:127.0.0.1:8265 head",
        )
        return
    if seen.status in (401, 403):
        yield Finding(
            "error",
            "dashboard",
            f"{seen.url} refuses the token",
            "`ray job submit` won't work from here",
            "use the token that the head was started with (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token)",
        )
        return
    if seen.status_without_token in (401, 403):
        yield Finding("ok", "dashboard", f"{seen.url}, and it asks for the token")
        return
    loopback = "//127." in seen.url or "//localhost" in seen.url
    yield Finding(
        "note" if loopback else "warning",
        "dashboard",
        f"{seen.url} asks nobody for a token",
        "whoever reaches it can run code on the cluster" + (": on this machine only" if loopback else ""),
        "start the cluster with RAY_AUTH_MODE=token, or let it listen on 127.0.0.1 only",
    )


def check_storage(facts: ClusterFacts) -> Iterator[Finding]:
    uri = facts.storage_uri
    if facts.storage_error_here:
        yield Finding(
            "error",
            "storage",
            f"here: {facts.storage_error_here}",
            "the driver could not write the run's folder",
            "name another place with --storage, or mend this one: credentials or role, endpoint, rights, space",
        )
        return
    tried = [(node, node.storage) for node in facts.nodes if node.storage is not None]
    for node, seen in tried:
        if seen.error:
            yield Finding(
                "error",
                "storage",
                f"{node.name}: {seen.error}",
                "a worker there could not save a checkpoint",
                f"make {uri} writable from every node: its credentials or role, endpoint and network",
            )
        elif not seen.sees_marker:
            yield Finding(
                "error",
                "storage",
                f"{node.name} does not see what was written to {uri} here",
                "it is a folder of each machine's own, so a run could not find its checkpoints again",
                "use s3:// or gs://, or a folder that all nodes share (NFS)",
            )
    fine = [(node, seen) for node, seen in tried if not seen.error and seen.sees_marker]
    if fine and len(fine) == len(tried):
        write = min(seen.bytes / max(seen.write_s, 1e-9) for _, seen in fine)
        read = min(seen.bytes / max(seen.read_s, 1e-9) for _, seen in fine)
        said = f"{uri}: every node writes {_rate(write)} and reads {_rate(read)} or more, all at once"
        if "://" in uri and min(write, read) < SLOW_STORAGE_BYTES_PER_S:
            yield Finding(
                "warning",
                "storage",
                said,
                "checkpoints take long to save, and reading from there would starve GPUs",
                "use a bucket in the cluster's region, or a gateway endpoint for it",
            )
        else:
            yield Finding("ok", "storage", said)


def check_data(facts: ClusterFacts) -> Iterator[Finding]:
    if not facts.data_uri:
        yield Finding(
            "error",
            "data",
            "no dataset was named",
            "a run would be refused before it starts",
            "--data URI or DOODLE_DATA names one, and `doodle-dist data prepare` makes one",
        )
        return
    if facts.data_error_here:
        yield Finding(
            "error",
            "data",
            f"here: {facts.data_error_here}",
            "a run would be refused before it starts",
            "name another with --data, or mend this one: `doodle-dist data verify` checks all its files",
        )
        return
    tried = [(node, node.data) for node in facts.nodes if node.data is not None]
    for node, seen in tried:
        if seen.error:
            yield Finding(
                "error",
                "data",
                f"{node.name}: {seen.error}",
                "a worker there could not read the drawings",
                f"make {facts.data_uri} readable from every node; `doodle-dist data verify` checks its files",
            )
    fine = [seen for _, seen in tried if not seen.error]
    if fine and len(fine) == len(tried):
        slowest = min(seen.bytes / max(seen.read_s, 1e-9) for seen in fine)
        yield Finding(
            "ok",
            "data",
            f"{facts.data_uri}: {fine[0].rows:,} drawings in {fine[0].shards} shards; every node reads "
            f"{_rate(slowest)} or more, all at once",
        )


def check_interfaces(facts: ClusterFacts, experiment: Experiment) -> Iterator[Finding]:
    """Which interface gloo (CPUs) or NCCL (GPUs) will use, and whether the other nodes can reach it."""
    if len({node.address for node in facts.nodes}) < 2 or experiment.scaling.workers < 2:
        return
    backend = "nccl" if experiment.scaling.gpus_per_worker else "gloo"
    variable = f"{backend.upper()}_SOCKET_IFNAME"
    for node in facts.nodes:
        guess = guess_interface(node)
        chosen = (node.nccl_ifname if backend == "nccl" else node.gloo_ifname).lstrip("=^").split(",")[0]
        mend = f"export {variable}={guess or 'eth0'} there before `ray start`"
        if chosen and node.interfaces and chosen not in node.interfaces:
            # NCCL takes the beginning of a name too.
            if backend == "nccl" and any(name.startswith(chosen) for name in node.interfaces):
                continue
            yield Finding(
                "error",
                "network",
                f"{node.name}: {variable}={chosen}, and it has {', '.join(node.interfaces)}",
                "the ranks would not find each other",
                mend,
            )
        elif chosen or backend == "nccl":
            yield Finding(
                "ok", "network", f"{node.name}: {backend} uses {chosen or guess or 'its own choice'}"
            )
        elif node.hostname_address.startswith("127.") or not node.hostname_address:
            bound = node.hostname_address or "nothing"
            yield Finding(
                "error",
                "network",
                f"{node.name}: its name stands for {bound}, and {variable} is not set",
                "gloo would listen where no other node reaches it, and DDP fails after a long wait",
                mend,
            )
        else:
            yield Finding("ok", "network", f"{node.name}: gloo uses {node.hostname_address} ({guess})")


def guess_interface(node: NodeFacts) -> str:
    """The interface that holds the address by which Ray knows the node; empty where none does."""
    return next((name for name, address in node.interfaces.items() if address == node.address), "")


def check_links(facts: ClusterFacts) -> Iterator[Finding]:
    for link in facts.links:
        if link.error:
            yield Finding(
                "error",
                "network",
                f"{link.source} can't reach {link.target}: {link.error}",
                "ranks on both would wait for each other and fail",
                "let nodes talk to each other on all TCP ports (security group, firewall, network policy)",
            )
    fine = [link for link in facts.links if not link.error]
    if not fine:
        return
    slowest = min(fine, key=lambda link: link.bytes_per_s)
    said = (
        f"{len(fine)} connections between nodes; the slowest, {slowest.source} to {slowest.target}, carries "
        f"{_rate(slowest.bytes_per_s)}; connecting takes {max(link.connect_s for link in fine) * 1e3:.1f} ms at most"
    )
    if slowest.bytes_per_s < SLOW_LINK_BYTES_PER_S:
        yield Finding(
            "warning",
            "network",
            said,
            "every step sends all gradients over it: more workers may not be faster",
            "put nodes in one zone, or give fewer and larger nodes the work",
        )
    else:
        yield Finding("ok", "network", said)


def check_clocks(facts: ClusterFacts) -> Iterator[Finding]:
    off = []
    for node in facts.nodes:
        surely = max(0.0, abs(node.clock_offset_s) - node.clock_error_s)
        if surely <= MOST_SKEW_S:
            continue
        off.append(node)
        fatal = surely > FATAL_SKEW_S and facts.storage_uri.startswith("s3")
        yield Finding(
            "error" if fatal else "warning",
            "clock",
            f"{node.name}: {node.clock_offset_s:+.1f} s against this machine",
            "S3 refuses what is signed with such a clock"
            if fatal
            else "leases that expire and logs that are read side by side go by the clock",
            "run chrony or systemd-timesyncd there",
        )
    if facts.nodes and not off:
        most = max(abs(node.clock_offset_s) for node in facts.nodes)
        yield Finding("ok", "clock", f"no node is off by more than {max(most, 1e-3):.3f} s")


def check_shared_memory(facts: ClusterFacts) -> Iterator[Finding]:
    small = False
    for node in facts.nodes:
        if node.object_store_bytes > node.shm_bytes:
            small = True
            yield Finding(
                "warning",
                "shm",
                f"{node.name}: /dev/shm has {_size(node.shm_bytes)}, the object store "
                f"{_size(node.object_store_bytes)}",
                "Ray keeps the object store on disk instead, which is many times slower",
                "docker run --shm-size, or an emptyDir of medium Memory at /dev/shm, or a smaller "
                "--object-store-memory",
            )
    if facts.nodes and not small:
        least = min(node.shm_bytes for node in facts.nodes)
        yield Finding("ok", "shm", f"{_size(least)} or more on every node, and the object store fits in")


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
                f"{node.name}: {place} has {_size(disk.free_bytes)} free, {share:.0%}",
                "Ray spills, logs and makes checkpoints there, and stops spilling at 95 % full",
                "free some, or start Ray with --temp-dir, and TMPDIR, on a larger disk",
            )
    free = [disk.free_bytes for node in facts.nodes for disk in node.disks.values() if disk.total_bytes]
    if free and not full:
        yield Finding("ok", "disk", f"{_size(min(free))} or more free on every node")


def ranks_on(node: NodeFacts, experiment: Experiment) -> int:
    """The most workers that Ray could put on a node."""
    scaling = experiment.scaling
    fit = node.ray_cpus / scaling.cpus_per_worker
    if scaling.gpus_per_worker:
        fit = min(fit, node.ray_gpus / scaling.gpus_per_worker)
    return min(int(fit), scaling.workers)


def check_object_store(facts: ClusterFacts, experiment: Experiment) -> Iterator[Finding]:
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
            f"{node.name}: {_size(node.object_store_bytes)}; {ranks} worker{'s' * (ranks != 1)} with "
            f"data.buffer_bytes={experiment.data.buffer_bytes} may hold {_size(wanted)}",
            "what does not fit is spilled to disk and read back: data wait grows",
            f"--set data.buffer_bytes={_fitting(node, ranks)}, or start Ray with a larger --object-store-memory",
        )
    if facts.nodes and not short:
        least = min(node.object_store_bytes for node in facts.nodes)
        yield Finding("ok", "object store", f"{_size(least)} or more on every node: the workers' buffers fit")


def _fitting(node: NodeFacts, ranks: int) -> int:
    """A buffer that fits ``ranks`` times, in whole MiB and one at least."""
    return max(1, node.object_store_bytes // max(ranks, 1) // MIB) * MIB


def check_window(experiment: Experiment) -> Iterator[Finding]:
    """A window of the stream holds whole steps, and a rank's buffer should hold some windows."""
    data, scaling = experiment.data, experiment.scaling
    each = _STROKES_BYTES if data.rasterize == "worker" else _RASTER_BYTES
    share = -(-experiment.train.global_batch // scaling.workers)
    window = max(data.window_bytes, share * each)
    if window > data.buffer_bytes // 2:
        yield Finding(
            "warning",
            "stream",
            f"a window of {_size(window)} and data.buffer_bytes={data.buffer_bytes}",
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


def _size(count: float) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"


def _rate(bytes_per_s: float) -> str:
    return f"{bytes_per_s / MIB:,.0f} MiB/s" if bytes_per_s >= 10 * MIB else f"{bytes_per_s / MIB:.1f} MiB/s"
