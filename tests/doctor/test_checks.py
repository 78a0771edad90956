"""The doctor's judgement on made-up clusters: each thing that can be wrong, alone, is found, and nothing else is."""

from dataclasses import replace

import orjson
import pytest

from doodle_dist.config.load import load_experiment
from doodle_dist.doctor.check_network import guess_interface
from doodle_dist.doctor.check_room import ranks_on
from doodle_dist.doctor.checks import check
from doodle_dist.doctor.facts import (
    ClusterFacts,
    DashboardFacts,
    DataFacts,
    Disk,
    LinkFacts,
    NodeFacts,
    StorageFacts,
)
from doodle_dist.doctor.findings import Finding, as_json, as_text, would_fail

GIB = 1 << 30
VERSIONS = {"ray": "2.60.0", "torch": "2.13.0", "doodle_dist": "0.1.0"}
EXPERIMENT = load_experiment(
    "doodle-gan-small", ["scaling.workers=2", "scaling.gpus_per_worker=1", "data.lanes=8"]
)
ON_CPUS = load_experiment("doodle-gan-small", ["scaling.workers=2"])


def node(number: int, **changes: object) -> NodeFacts:
    facts = NodeFacts(
        address=f"10.0.0.{number}",
        hostname=f"node-{number}",
        is_head=number == 1,
        python="3.11.7",
        versions=VERSIONS,
        ray_cpus=8.0,
        ray_gpus=1.0,
        object_store_bytes=8 * GIB,
        torch_error="",
        torch_cuda="12.8",
        torch_gpus=("NVIDIA A10G",),
        interfaces={"lo": "127.0.0.1", "eth0": f"10.0.0.{number}"},
        hostname_address=f"10.0.0.{number}",
        gloo_ifname="",
        nccl_ifname="",
        memory_bytes=64 * GIB,
        shm_bytes=16 * GIB,
        disks={"/tmp/ray": Disk(200 * GIB, 100 * GIB)},
        clock_offset_s=0.01,
        clock_error_s=0.001,
        storage=StorageFacts(write_s=0.1, read_s=0.1, bytes=16 << 20),
        data=DataFacts(read_s=0.1, bytes=16 << 20, rows=1000, shards=4),
    )
    return replace(facts, **changes)  # type: ignore[arg-type]


def cluster(*nodes: NodeFacts, **changes: object) -> ClusterFacts:
    nodes = nodes or (node(1), node(2))
    names = [one.name for one in nodes]
    links = tuple(
        LinkFacts(a, b, connect_s=0.001, bytes_per_s=float(GIB)) for a in names for b in names if a != b
    )
    facts = ClusterFacts(
        address="10.0.0.1:6379",
        is_own=False,
        python="3.11.7",
        versions=VERSIONS,
        auth_mode="token",
        has_token=True,
        dashboard=DashboardFacts("http://10.0.0.1:8265", 200, 401),
        nodes=nodes,
        links=links,
        storage_uri="s3://bucket/runs",
        data_uri="s3://bucket/quickdraw",
    )
    return replace(facts, **changes)  # type: ignore[arg-type]


def wrong(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(one.level, one.about) for one in findings if one.level in ("warning", "error")]


def test_nothing_is_wrong_with_a_healthy_cluster() -> None:
    findings = check(cluster(), EXPERIMENT)
    assert {one.level for one in findings} == {"ok"}
    about = {one.about for one in findings}
    assert about >= {"versions", "GPU", "token", "dashboard", "storage", "data", "network", "clock", "shm"}
    assert about >= {"disk", "object store", "stream"}
    assert not would_fail(findings)


OTHER_RAY = VERSIONS | {"ray": "2.59.0"}
ONE_NODE_IS_WRONG: list[tuple[dict[str, object], tuple[str, str], str]] = [
    ({"versions": OTHER_RAY}, ("error", "versions"), "ray 2.59.0"),
    ({"versions": VERSIONS | {"doodle_dist": ""}}, ("error", "versions"), "doodle_dist not at all"),
    ({"versions": VERSIONS | {"torch": "2.12.0"}}, ("warning", "versions"), "torch 2.12.0"),
    ({"python": "3.12.1"}, ("error", "versions"), "python 3.12.1"),
    ({"torch_gpus": (), "torch_cuda": ""}, ("error", "GPU"), "built for CPUs only, sees 0"),
    ({"torch_error": "libcudart.so.12: cannot open"}, ("error", "GPU"), "libcudart"),
    ({"torch_gpus": ("NVIDIA A10G",) * 4}, ("warning", "GPU"), "torch sees 4 GPUs and Ray counts 1"),
    ({"storage": StorageFacts(error="the store refused the key")}, ("error", "storage"), "refused the key"),
    (
        {"storage": StorageFacts(write_s=0.1, read_s=0.1, bytes=1 << 24, sees_marker=False)},
        ("error", "storage"),
        "does not see",
    ),
    ({"storage": StorageFacts(write_s=9, read_s=0.1, bytes=1 << 24)}, ("warning", "storage"), "1.8 MiB/s"),
    ({"data": DataFacts(error="s3://bucket/quickdraw not found")}, ("error", "data"), "not found"),
    ({"clock_offset_s": -3.0}, ("warning", "clock"), "-3.0 s"),
    ({"clock_offset_s": 1000.0}, ("error", "clock"), "+1000.0 s"),
    ({"shm_bytes": 64 << 20}, ("warning", "shm"), "64 MiB"),
    ({"disks": {"/tmp/ray": Disk(200 * GIB, GIB)}}, ("warning", "disk"), "1.0 GiB free, 0%"),
    ({"object_store_bytes": 200 << 20}, ("warning", "object store"), "200 MiB"),
    ({"nccl_ifname": "ib0"}, ("error", "network"), "NCCL_SOCKET_IFNAME=ib0"),
]


@pytest.mark.parametrize(("changes", "found", "says"), ONE_NODE_IS_WRONG, ids=lambda value: str(value)[:40])
def test_what_is_wrong_with_one_node_is_found_and_named(
    changes: dict[str, object], found: tuple[str, str], says: str
) -> None:
    findings = check(cluster(node(1), node(2, **changes)), EXPERIMENT)
    assert wrong(findings) == [found]
    finding = next(one for one in findings if one.level == found[0])
    assert says in finding.says
    assert "node-2" in finding.says or "every node" in finding.says
    assert finding.means
    assert finding.mend
    assert would_fail(findings) == (found[0] == "error")


CLUSTER_IS_WRONG: list[tuple[dict[str, object], tuple[str, str]]] = [
    ({"auth_mode": "disabled"}, ("warning", "token")),
    ({"has_token": False}, ("error", "token")),
    ({"dashboard": DashboardFacts()}, ("warning", "dashboard")),
    ({"dashboard": DashboardFacts("http://h:8265", error="refused")}, ("warning", "dashboard")),
    ({"dashboard": DashboardFacts("http://h:8265", 401, 401)}, ("error", "dashboard")),
    ({"dashboard": DashboardFacts("http://10.0.0.1:8265", 200, 200)}, ("warning", "dashboard")),
    ({"shortage": "--workers 9: the cluster has 2"}, ("error", "resources")),
    ({"silent_nodes": {"10.0.0.3": "out of memory"}}, ("error", "cluster")),
    ({"storage_error_here": "no key was found"}, ("error", "storage")),
    ({"data_error_here": "part-3.parquet is missing"}, ("error", "data")),
    ({"data_uri": ""}, ("error", "data")),
    ({"links": (LinkFacts("a", "b", error="timed out"),)}, ("error", "network")),
    ({"links": (LinkFacts("a", "b", connect_s=0.1, bytes_per_s=5e6),)}, ("warning", "network")),
]


@pytest.mark.parametrize(("changes", "found"), CLUSTER_IS_WRONG, ids=lambda value: str(value)[:40])
def test_what_is_wrong_with_the_cluster_is_found(changes: dict[str, object], found: tuple[str, str]) -> None:
    assert wrong(check(cluster(**changes), EXPERIMENT)) == [found]


def test_a_dashboard_on_loopback_without_a_token_is_only_noted() -> None:
    facts = cluster(dashboard=DashboardFacts("http://127.0.0.1:8265", 200, 200))
    assert wrong(check(facts, EXPERIMENT)) == []
    assert ("note", "dashboard") in [(one.level, one.about) for one in check(facts, EXPERIMENT)]


def test_gloo_on_loopback_fails_on_several_nodes_and_only_there() -> None:
    lost = node(2, hostname_address="127.0.1.1")
    findings = check(cluster(node(1), lost), ON_CPUS)
    assert wrong(findings) == [("error", "network")]
    assert any("export GLOO_SOCKET_IFNAME=eth0" in one.mend for one in findings)
    assert wrong(check(cluster(node(1), replace(lost, gloo_ifname="eth0")), ON_CPUS)) == []
    assert wrong(check(cluster(lost), ON_CPUS)) == []
    assert wrong(check(cluster(node(1), lost), load_experiment("doodle-gan-small"))) == []


@pytest.mark.parametrize(
    ("setting", "level", "says"),
    [
        ("eth0", "ok", "nccl uses eth0"),
        ("eth", "ok", "nccl uses eth0"),
        ("=eth0:1234", "ok", "nccl uses eth0"),
        ("ib0,eth", "ok", "nccl uses eth0"),
        ("^lo,docker0", "ok", "nccl uses eth0"),
        ("^=lo,docker0", "ok", "nccl uses eth0"),
        ("^docker0", "error", "NCCL_SOCKET_IFNAME=^docker0 chooses lo of lo, eth0, docker0"),
        ("lo", "error", "NCCL_SOCKET_IFNAME=lo chooses lo of"),
        ("=eth", "error", "NCCL_SOCKET_IFNAME==eth chooses none of"),
        ("^lo,eth,docker", "error", "chooses none of"),
    ],
)
def test_an_interface_is_chosen_by_nccl_s_rules(setting: str, level: str, says: str) -> None:
    """It takes the first that fits, and loopback where only others are excluded."""
    interfaces = {"lo": "127.0.0.1", "eth0": "10.0.0.2", "docker0": "172.17.0.1"}
    findings = check(cluster(node(1), node(2, nccl_ifname=setting, interfaces=interfaces)), EXPERIMENT)
    found = [one for one in findings if one.about == "network" and one.says.startswith("node-2 ")]
    assert [one.level for one in found] == [level]
    assert says in found[0].says


def test_gloo_takes_whole_names_only() -> None:
    for setting in ("eth", "^lo", "lo"):
        findings = check(cluster(node(1), node(2, gloo_ifname=setting)), ON_CPUS)
        assert wrong(findings) == [("error", "network")], setting


def test_ranks_with_shares_of_a_gpu_talk_through_gloo() -> None:
    lost = node(2, hostname_address="127.0.1.1", nccl_ifname="eth0")
    shares = load_experiment("doodle-gan-small", ["scaling.workers=2", "scaling.gpus_per_worker=0.5"])
    findings = check(cluster(node(1), lost), shares)
    assert wrong(findings) == [("error", "network")]
    assert any("export GLOO_SOCKET_IFNAME=eth0" in one.mend for one in findings)


def test_a_node_without_ranks_may_have_its_name_on_loopback() -> None:
    head, lost = node(1, ray_cpus=0.0, hostname_address="127.0.1.1"), node(2, hostname_address="127.0.1.1")
    assert wrong(check(cluster(head, node(2), node(3)), ON_CPUS)) == []
    assert wrong(check(cluster(head, lost), ON_CPUS)) == [], "all ranks are on one node"
    assert wrong(check(cluster(head, lost, node(3)), ON_CPUS)) == [("error", "network")]


def test_the_interface_is_the_one_with_the_nodes_address() -> None:
    assert guess_interface(node(1)) == "eth0"
    assert guess_interface(node(1, address="192.168.0.9")) == ""


def test_clock_doubt_is_no_skew() -> None:
    assert wrong(check(cluster(node(1, clock_offset_s=3.0, clock_error_s=2.5)), EXPERIMENT)) == []


def test_workers_of_a_node_are_bounded_by_its_cpus_gpus_and_the_run() -> None:
    assert ranks_on(node(1), EXPERIMENT) == 1
    assert ranks_on(node(1, ray_gpus=8.0), EXPERIMENT) == 2
    assert ranks_on(node(1, ray_cpus=0.0), ON_CPUS) == 0
    assert ranks_on(node(1), ON_CPUS) == 2


def test_a_buffer_that_the_doctor_proposes_fits() -> None:
    tight = node(1, object_store_bytes=300 << 20, ray_gpus=2.0, torch_gpus=("A", "A"))
    assert [found for found in check(cluster(tight), EXPERIMENT) if found.about == "object store"] == []
    small = cluster(tight, node(2))
    mend = next(one.mend for one in check(small, EXPERIMENT) if one.about == "object store")
    setting = mend.split()[1].rstrip(",")
    mended = load_experiment("doodle-gan-small", ["scaling.workers=2", "scaling.gpus_per_worker=1", setting])
    assert wrong([one for one in check(small, mended) if one.about == "object store"]) == []
    read_here = load_experiment("doodle-gan-small", ["data.read=worker"])
    assert [one for one in check(small, read_here) if one.about == "object store"] == []


def test_a_window_too_large_for_the_buffer_is_found() -> None:
    tight = load_experiment("doodle-gan-small", ["data.buffer_bytes=67108864", "data.window_bytes=52428800"])
    assert ("warning", "stream") in wrong(check(cluster(), tight))
    long_steps = load_experiment("doodle-gan-small", ["train.global_batch=4096", "data.window_bytes=65536"])
    stream = [one for one in check(cluster(), long_steps) if one.about == "stream"]
    assert [one.level for one in stream] == ["note"]
    read_here = load_experiment("doodle-gan-small", ["data.read=worker", "data.buffer_bytes=67108864"])
    assert [one for one in check(cluster(), read_here) if one.about == "stream"] == [], (
        "it has no such buffer"
    )


def test_pictures_are_reckoned_with_as_large_as_they_are() -> None:
    large = DataFacts(read_s=0.1, bytes=16 << 20, rows=1000, shards=4, is_strokes=False, pixels=512 * 512 * 3)
    unread = node(1, data=DataFacts(error="s3://bucket/quickdraw not found"))
    batches = load_experiment("doodle-gan-small", ["scaling.workers=2", "train.global_batch=1024"])
    assert wrong(check(cluster(), batches)) == [], "of strokes"
    for nodes in ((node(1, data=large), node(2, data=large)), (unread, node(2, data=large))):
        assert ("warning", "stream") in wrong(check(cluster(*nodes), batches))


def test_a_ray_of_our_own_needs_no_token_and_no_dashboard() -> None:
    own = cluster(node(1), is_own=True, auth_mode="", has_token=False, dashboard=DashboardFacts())
    assert wrong(check(own, EXPERIMENT)) == []


def test_the_answer_is_text_for_people_and_json_for_programs() -> None:
    facts = cluster(shortage="--workers 9: the cluster has 2", data_uri="")
    findings = check(facts, EXPERIMENT)
    lines = as_text(findings).splitlines()
    assert lines[-1].endswith("2 error: training would fail")
    at = next(k for k, line in enumerate(lines) if line.startswith("error"))
    assert "--wait SECONDS" in lines[at + 2]
    answer = orjson.loads(as_json(findings, facts))
    assert answer["would_fail"] is True
    assert [Finding(**one) for one in answer["findings"]] == findings
    assert answer["facts"]["nodes"][1]["address"] == "10.0.0.2"
    assert orjson.loads(as_json(findings, None))["facts"] is None


def test_a_finding_that_is_wrong_says_what_it_means_and_how_to_mend_it() -> None:
    with pytest.raises(AssertionError):
        Finding("error", "disk", "full")
