"""Between the nodes: which interfaces ranks use, how fast links are, and whether clocks agree."""

from collections.abc import Iterator

from doodle_dist.config.experiment import Experiment
from doodle_dist.doctor.facts import ClusterFacts, NodeFacts
from doodle_dist.doctor.findings import Finding
from doodle_dist.doctor.sizes import MIB, as_rate

MOST_SKEW_S = 1.0
FATAL_SKEW_S = 15 * 60  # S3 refuses requests that are signed with a clock 15 minutes off
SLOW_LINK_BYTES_PER_S = 100 * MIB


def check_interfaces(facts: ClusterFacts, experiment: Experiment) -> Iterator[Finding]:
    """Which interface gloo or NCCL will use where ranks may be, and whether the other nodes can reach it."""
    scaling = experiment.scaling
    nodes = [node for node in facts.nodes if scaling.workers_on(node.ray_cpus, node.ray_gpus)]
    if len({node.address for node in nodes}) < 2 or scaling.workers < 2:
        return
    backend = scaling.backend
    variable = f"{backend.upper()}_SOCKET_IFNAME"
    for node in nodes:
        guess = guess_interface(node)
        named = node.nccl_ifname if backend == "nccl" else node.gloo_ifname
        chosen = nccl_choice(node) if backend == "nccl" else gloo_choice(node)
        mend = f"export {variable}={guess or 'eth0'} there before `ray start`"
        if named and node.interfaces and node.interfaces.get(chosen, "127.").startswith("127."):
            yield Finding(
                "error",
                "network",
                f"{node.name}: {variable}={named} chooses {chosen or 'none'} of {', '.join(node.interfaces)}",
                "the ranks would not find each other",
                mend,
            )
        elif named or backend == "nccl":
            uses = chosen or named or guess or "its own choice"
            yield Finding("ok", "network", f"{node.name}: {backend} uses {uses}")
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


def gloo_choice(node: NodeFacts) -> str:
    """The first interface of those that GLOO_SOCKET_IFNAME names; empty where the node lacks it."""
    first = node.gloo_ifname.split(",")[0]
    return first if first in node.interfaces else ""


def nccl_choice(node: NodeFacts) -> str:
    """The first of the node's interfaces that NCCL_SOCKET_IFNAME allows, loopback too; empty where it allows none.

    It lists what names begin with, or, after ``=``, names; after ``^`` those not to take. Each may have a ``:port``.
    """
    listed = node.nccl_ifname.removeprefix("^")
    is_exact, is_excluding = listed.startswith("="), listed != node.nccl_ifname
    parts = tuple(part.split(":")[0] for part in listed.removeprefix("=").split(",") if part)

    def is_listed(name: str) -> bool:
        return name in parts if is_exact else name.startswith(parts)

    return next((name for name in node.interfaces if is_listed(name) != is_excluding), "")


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
        f"{as_rate(slowest.bytes_per_s)}; connecting takes {max(link.connect_s for link in fine) * 1e3:.1f} ms at most"
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
            else "logs that are read side by side go by the clock",
            "run chrony or systemd-timesyncd there",
        )
    if facts.nodes and not off:
        most = max(abs(node.clock_offset_s) for node in facts.nodes)
        yield Finding("ok", "clock", f"no node is off by more than {max(most, 1e-3):.3f} s")
