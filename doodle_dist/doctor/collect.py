"""Collecting the facts: one probe on every node of a Ray cluster, pinned there, all asked at once."""

import contextlib
import os
import platform
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from doodle_dist.data import locations, storage
from doodle_dist.data.manifest import check_files, load_manifest
from doodle_dist.data.storage_errors import StorageError
from doodle_dist.doctor import probe
from doodle_dist.doctor.dashboard import find_token, try_dashboard
from doodle_dist.doctor.facts import ClusterFacts, DataFacts, Disk, LinkFacts, NodeFacts, StorageFacts
from doodle_dist.errors import one_line, root_cause
from doodle_dist.ray_cluster import Need, NotEnoughResourcesError, check_resources

PROBE_BYTES = 16 << 20
_ANSWER_S = 180.0  # importing torch from a cold network disk takes a minute
_LINK_S = 0.5
_MOST_FULLY_LINKED = 6
_PINGS, _PING_S = 7, 20.0
_HEAD = "node:__internal_head__"


def collect(need: Need, *, storage_uri: str, data_uri: str, wait_s: float) -> ClusterFacts:
    """Everything about the cluster that this process is connected to.

    ``storage_uri`` is where runs go, ``data_uri`` a prepared dataset or empty; local paths are absolute.
    """
    shortage = ""
    try:
        check_resources(need, wait_s)
    except NotEnoughResourcesError as error:
        shortage = str(error)
    here = ray._private.worker._global_node
    url = f"http://{here.webui_url}" if here.webui_url else ""
    token = find_token()
    silent: dict[str, str] = {}
    with _probes() as probes:
        answers = _ask({node: actor.describe.remote() for node, actor in probes.items()}, silent)
        clocks = _clocks({node: actor for node, actor in probes.items() if node in answers}, silent)
        heard = {node: probes[node] for node in clocks}
        stored, error_here = _try_storage(heard, storage_uri)
        read = _ask(
            {n: a.try_data.remote(data_uri, PROBE_BYTES) for n, a in heard.items()} if data_uri else {}
        )
        rows = {row["NodeID"]: row for row in ray.nodes()}
        nodes = {
            node: _node(rows[node], answers[node], clocks[node], stored.get(node), read.get(node))
            for node in heard
        }
        links = _try_links(heard, nodes)
    return ClusterFacts(
        address=str(here.gcs_address),
        is_own=here.is_head(),
        python=platform.python_version(),
        versions={name: probe.version_of(name) for name in probe.PACKAGES},
        auth_mode=os.environ.get("RAY_AUTH_MODE", ""),
        has_token=bool(token),
        dashboard=try_dashboard(url, token),
        nodes=tuple(nodes.values()),
        links=tuple(links),
        silent_nodes={rows[node]["NodeManagerAddress"]: reason for node, reason in silent.items()},
        shortage=shortage,
        storage_error_here=error_here,
        data_error_here=_data_error(data_uri) if data_uri else "",
        storage_uri=storage_uri,
        data_uri=data_uri,
    )


@contextlib.contextmanager
def _probes() -> Iterator[dict[str, ActorHandle]]:
    """A probe on every live node, by the node's id; killed in the end."""
    ray.cloudpickle.register_pickle_by_value(probe)
    actors = {}
    try:
        for node in (row["NodeID"] for row in ray.nodes() if row["Alive"]):
            pinned = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
            actors[node] = ray.remote(probe.Probe).options(num_cpus=0, scheduling_strategy=pinned).remote()
        yield actors
    finally:
        ray.cloudpickle.unregister_pickle_by_value(probe)
        for actor in actors.values():
            ray.kill(actor)


def _ask(questions: dict[str, ray.ObjectRef], why: dict[str, str] | None = None) -> dict[str, Any]:
    """The answers that come in time, by node. ``why`` is told the reasons of the others."""
    if not questions:
        return {}
    ready, _ = ray.wait(list(questions.values()), num_returns=len(questions), timeout=_ANSWER_S)
    done, answers = set(ready), {}
    for node, reference in questions.items():
        try:
            if reference not in done:
                raise TimeoutError(f"no answer in {_ANSWER_S:.0f} s")
            answers[node] = ray.get(reference)
        except (RayError, TimeoutError) as error:
            if why is not None:
                why[node] = one_line(root_cause(error))
    return answers


def _clocks(probes: dict[str, ActorHandle], why: dict[str, str]) -> dict[str, tuple[float, float]]:
    """`_clock` of each node, one after another. ``why`` is told the reasons of those that don't answer any more."""
    found = {}
    for node, actor in probes.items():
        try:
            found[node] = _clock(actor)
        except RayError as error:
            why[node] = one_line(root_cause(error))
    return found


def _clock(actor: ActorHandle) -> tuple[float, float]:
    """(offset, error) of a node's clock in seconds, from the quickest of some questions, as NTP does."""
    best = (float("inf"), 0.0)
    for _ in range(_PINGS):
        asked = time.time()
        there = ray.get(actor.now.remote(), timeout=_PING_S)
        heard = time.time()
        best = min(best, (heard - asked, there - (asked + heard) / 2))
    round_trip, offset = best
    return offset, round_trip / 2


def _try_storage(probes: dict[str, ActorHandle], uri: str) -> tuple[dict[str, Any], str]:
    """What each node says of storage at ``uri``; and what went wrong here, where something did."""
    folder = locations.join(uri, f".doodle-doctor-{uuid.uuid4().hex[:12]}")
    marker = locations.join(folder, "marker")
    was_there = "://" in uri or Path(uri).exists()
    try:
        storage.write_atomic(marker, b"doodle-dist doctor\n")
        try:
            return _ask({n: a.try_storage.remote(uri, marker, PROBE_BYTES) for n, a in probes.items()}), ""
        finally:
            storage.delete_prefix(folder)
            if not was_there:
                with contextlib.suppress(OSError):
                    os.rmdir(uri)
    except (StorageError, ValueError, OSError) as error:
        return {}, " ".join(str(error).split())


def _data_error(uri: str) -> str:
    """What `train` would refuse a dataset for; empty where there is nothing."""
    try:
        check_files(uri, load_manifest(uri))
    except (StorageError, ValueError) as error:
        return " ".join(str(error).split())
    return ""


def _try_links(probes: dict[str, ActorHandle], nodes: Mapping[str, NodeFacts]) -> list[LinkFacts]:
    """Connections between all nodes; in a large cluster from each node to the next one only."""
    if len(probes) < 2:
        return []
    ids = list(probes)
    pairs = [(a, b) for a in ids for b in ids if a != b]
    if len(ids) > _MOST_FULLY_LINKED:
        pairs = list(zip(ids, [*ids[1:], ids[0]], strict=True))
    ports = _ask({node: probes[node].listen.remote(nodes[node].address) for node in ids})
    links = []
    for source, target in pairs:  # one after another: together they would share what is measured
        names = (nodes[source].name, nodes[target].name)
        if target not in ports:
            links.append(LinkFacts(*names, error=f"it can't listen on {nodes[target].address}"))
            continue
        question = probes[source].try_link.remote(nodes[target].address, ports[target], _LINK_S)
        answer = _ask({source: question}).get(source, {"error": "no answer"})
        links.append(LinkFacts(*names, **answer))
    return links


def _node(
    row: Mapping[str, Any],
    said: Mapping[str, Any],
    clock: tuple[float, float],
    stored: Mapping[str, Any] | None,
    read: Mapping[str, Any] | None,
) -> NodeFacts:
    resources = row["Resources"]
    return NodeFacts(
        address=row["NodeManagerAddress"],
        hostname=said["hostname"],
        is_head=_HEAD in resources,
        python=said["python"],
        versions=said["versions"],
        ray_cpus=resources.get("CPU", 0.0),
        ray_gpus=resources.get("GPU", 0.0),
        object_store_bytes=int(resources.get("object_store_memory", 0)),
        torch_error=said["torch"].get("error", ""),
        torch_cuda=said["torch"].get("cuda", ""),
        torch_gpus=tuple(said["torch"].get("gpus", ())),
        interfaces=said["interfaces"],
        hostname_address=said["hostname_address"],
        gloo_ifname=said["gloo_ifname"],
        nccl_ifname=said["nccl_ifname"],
        memory_bytes=said["memory_bytes"],
        shm_bytes=said["shm_bytes"],
        disks={place: Disk(**disk) for place, disk in said["disks"].items()},
        clock_offset_s=clock[0],
        clock_error_s=clock[1],
        storage=None if stored is None else StorageFacts(**stored),
        data=None if read is None else DataFacts(**read),
    )
