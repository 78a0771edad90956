"""cluster/kuberay and jobs/rayjob: they pass the schemas, and are what they promise to be."""

import copy
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.cluster_files.files import (
    BASE,
    GCS,
    RAY_JOBS,
    ROOT,
    Object,
    built,
    by_kind,
    documents,
    objects,
    pod_specs,
)
from tests.cluster_files.schemas import OBJECTS

MIB, GIB = 1 << 20, 1 << 30
EVERY = [
    *(pytest.param(one, id=f"{folder.name}-{one['kind']}") for folder in (BASE, GCS) for one in objects(folder)),
    *(pytest.param(one, id=path.stem) for path in RAY_JOBS for one in documents(path)),
    *(pytest.param(one, id="pod-monitor") for one in documents(ROOT / "cluster/grafana/pod-monitor.yaml")),
]  # fmt: skip


def problems(one: Object) -> list[str]:
    validator = Draft202012Validator(OBJECTS[one["kind"]])
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(one)]


@pytest.mark.parametrize("name", OBJECTS)
def test_the_schemas_are_schemas(name: str) -> None:
    Draft202012Validator.check_schema(OBJECTS[name])


@pytest.mark.parametrize("one", EVERY)
def test_a_manifest_passes_its_schema(one: Object) -> None:
    assert problems(one) == []


@pytest.mark.slow
@pytest.mark.parametrize("folder", [BASE, GCS], ids=lambda folder: folder.name)
def test_what_kustomize_builds_passes_too(folder: Path) -> None:
    found = built(folder)
    assert [problem for one in found for problem in problems(one)] == []
    assert {one["metadata"]["namespace"] for one in found} == {"doodle"}
    images = {c["image"] for one in found for pod in pod_specs(one) for c in pod["containers"]}
    assert {image for image in images if "doodle-dist" in image} == {
        "registry.example.com/doodle-dist:ray2.60.0"
    }


def test_a_misspelled_field_is_refused() -> None:
    """The schemas can say no: each of these is something the API server would drop, or refuse only later."""
    cluster = by_kind(objects(BASE), "RayCluster")
    for path, key, value in (
        ((), "enableInTreeAutoScaling", True),
        (("headGroupSpec",), "rayStartParam", {}),
        (("headGroupSpec", "template", "spec", "containers", 0), "livenessprobe", {}),
        (("headGroupSpec", "template", "spec", "containers", 0, "resources"), "limit", {}),
        (("headGroupSpec", "rayStartParams"), "num-cpus", 0),
        (("workerGroupSpecs", 0), "minReplicas", -1),
        (("authOptions",), "mode", "tokens"),
    ):
        changed = copy.deepcopy(cluster)
        node = changed["spec"]
        for part in path:
            node = node[part]
        node[key] = value
        assert problems(changed), (path, key)


def groups() -> dict[str, Object]:
    cluster = by_kind(objects(BASE), "RayCluster")
    return {group["groupName"]: group for group in cluster["spec"]["workerGroupSpecs"]}


def test_the_head_schedules_nothing_and_asks_for_a_token() -> None:
    spec = by_kind(objects(BASE), "RayCluster")["spec"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert spec["headGroupSpec"]["rayStartParams"]["num-gpus"] == "0"
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert spec["authOptions"] == {"mode": "token", "secretName": "doodle-ray-token"}


def test_workers_come_from_zero_and_only_the_gpu_group_has_gpus() -> None:
    assert by_kind(objects(BASE), "RayCluster")["spec"]["enableInTreeAutoscaling"] is True
    assert set(groups()) == {"gpu", "cpu"}
    for name, group in groups().items():
        assert group["minReplicas"] == group["replicas"] == 0
        assert group["maxReplicas"] > 0
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert ("nvidia.com/gpu" in limits) == (name == "gpu")


def test_pods_ask_for_no_label_that_a_stock_cluster_s_nodes_lack() -> None:
    """They would wait for such a node for ever: what they request, and the taint of GPU nodes, places them."""
    for one in (*objects(BASE), *objects(GCS)):
        for pod in pod_specs(one):
            assert [key for key in pod.get("nodeSelector", {}) if not key.startswith("kubernetes.io/")] == []


def size(text: str) -> int:
    units = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
    return int(text[:-2]) * units[text[-2:]] if text[-2:] in units else int(text)


def test_an_object_store_fits_in_shared_memory_and_that_in_the_pod() -> None:
    spec = by_kind(objects(BASE), "RayCluster")["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        [container] = pod["containers"]
        shm = next(v["emptyDir"] for v in pod["volumes"] if v["name"] == "shm")
        assert shm["medium"] == "Memory"
        assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
        store = int(group["rayStartParams"]["object-store-memory"])
        memory = size(container["resources"]["limits"]["memory"])
        assert store < size(shm["sizeLimit"]) < memory
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]


# What Kubernetes leaves to pods of 32 GiB. EKS on a c7i.4xlarge: Karpenter reckons with 92.5 % of it, the kubelet keeps
# 255 MiB and 11 MiB for each of 234 pods, and evicts at 100 MiB. GKE keeps 25 % of the first 4 GiB, 20 % of the next 4,
# 10 % of the next 8, 6 % of the rest, and evicts alike; half a GiB is the kernel's.
LEFT_BY_EKS = int(0.925 * 32 * GIB) - (255 + 11 * 234 + 100) * MIB
LEFT_BY_GKE = int((31.5 - 1 - 0.8 - 0.8 - 0.06 * 15.5) * GIB) - 100 * MIB
OTHER_PODS = GIB  # those that every node runs, for logs, the network, GPUs


@pytest.mark.parametrize("group", ["gpu", "cpu"])
def test_a_worker_s_pod_fits_a_machine_of_32_gib(group: str) -> None:
    [container] = groups()[group]["template"]["spec"]["containers"]
    asked = size(container["resources"]["requests"]["memory"])
    assert asked + OTHER_PODS <= min(LEFT_BY_EKS, LEFT_BY_GKE)
    assert int(groups()[group]["rayStartParams"]["object-store-memory"]) == asked // 4


def test_the_autoscaler_writes_its_log_where_the_head_reads_it() -> None:
    """KubeRay gives its container the volume of this name, and makes another one where the pod has none."""
    pod = by_kind(objects(BASE), "RayCluster")["spec"]["headGroupSpec"]["template"]["spec"]
    [container] = pod["containers"]
    assert {"name": "ray-logs", "mountPath": "/tmp/ray"} in container["volumeMounts"]


def test_every_container_is_probed_and_unprivileged_and_no_secret_is_written_down() -> None:
    found = [*objects(BASE), *objects(GCS), *(one for path in RAY_JOBS for one in documents(path))]
    for one in found:
        for pod in pod_specs(one):
            assert pod["securityContext"]["runAsNonRoot"] is True
            for container in pod["containers"]:
                assert container["securityContext"]["allowPrivilegeEscalation"] is False
                assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
                if one["kind"] != "RayJob":
                    assert {"readinessProbe", "livenessProbe"} <= set(container)
                for env in container.get("env", ()):
                    if any(sign in env["name"] for sign in ("TOKEN", "PASSWORD", "SECRET")):
                        assert "secretKeyRef" in env["valueFrom"]
            mounted = {mount["name"] for c in pod["containers"] for mount in c.get("volumeMounts", ())}
            own = {volume["name"] for volume in pod.get("volumes", ())}
            claimed = {v["metadata"]["name"] for v in one["spec"].get("volumeClaimTemplates", ())}
            assert mounted == own | claimed


def test_probes_ask_what_needs_no_token() -> None:
    from ray.dashboard import http_server_agent, http_server_head

    head = Path(http_server_head.__file__).read_text()
    paths = re.search(r"public_exact_paths = \{(.*?)\}", head, re.DOTALL)
    assert paths
    without_token = {"52365": http_server_agent.PUBLIC_EXACT_PATHS, "8265": re.findall(r'"(/\S*)"', paths[1])}
    asked = set()
    for pod in pod_specs(by_kind(objects(BASE), "RayCluster")):
        for container in pod["containers"]:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                command = container[probe]["exec"]["command"][-1]
                asked |= set(re.findall(r"localhost:(\d+)(/\S+)", command))
    assert {port for port, _ in asked} == set(without_token)
    assert all(path in without_token[port] for port, path in asked)


def test_services_lead_to_their_pods() -> None:
    found = [*objects(BASE), *objects(GCS)]
    templates = [one["spec"]["template"] for one in found if one["kind"] in ("Deployment", "StatefulSet")]
    for service in (one for one in found if one["kind"] == "Service"):
        [template] = [t for t in templates if t["metadata"]["labels"] == service["spec"]["selector"]]
        ports = {port["name"] for c in template["spec"]["containers"] for port in c["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_tensorboard_reads_the_bucket_that_runs_go_to() -> None:
    [container] = pod_specs(by_kind(objects(BASE), "Deployment"))[0]["containers"]
    settings = dict(line.split("=", 1) for line in (BASE / "settings.env").read_text().split())
    assert "$(DOODLE_STORAGE)" in container["args"]
    assert settings["DOODLE_STORAGE"].startswith("s3://")
    assert {"configMapRef": {"name": "doodle-settings"}} in container["envFrom"]


def test_gcs_fault_tolerance_is_an_option() -> None:
    assert "gcsFaultToleranceOptions" not in by_kind(objects(BASE), "RayCluster")["spec"]
    options = by_kind(built(GCS), "RayCluster")["spec"]["gcsFaultToleranceOptions"]
    host, port = options["redisAddress"].split(":")
    service = next(
        one for one in objects(GCS) if one["kind"] == "Service" and one["metadata"]["name"] == host
    )
    assert int(port) in [one["port"] for one in service["spec"]["ports"]]
    assert "secretKeyRef" in options["redisPassword"]["valueFrom"]


def test_redis_takes_the_shell_s_place_and_so_hears_sigterm(tmp_path: Path) -> None:
    [container] = pod_specs(by_kind(objects(GCS), "StatefulSet"))[0]["containers"]
    [script] = container["args"]
    redis = tmp_path / "redis-server"
    redis.write_text('#!/bin/sh\necho $$; stat -c %a "$1"; cat "${1:--}"\n')
    redis.chmod(0o755)
    settings = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "REDIS_PASSWORD": "it's a %s"}
    command = [*container["command"], script.replace("/tmp/", f"{tmp_path}/")]
    with subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, text=True) as shell:
        said, _ = shell.communicate(timeout=10)
    pid, mode, *lines = said.splitlines()
    assert int(pid) == shell.pid
    assert mode == "600"
    assert lines == ["appendonly yes", "dir /data", "requirepass it's a %s"]


@pytest.mark.parametrize("path", RAY_JOBS, ids=lambda path: path.stem)
def test_a_ray_job_s_head_says_what_to_change_first(path: Path) -> None:
    head, _, body = path.read_text().partition("\napiVersion")
    [line] = re.findall(r"^# Change first: (.*)$", head, re.MULTILINE)
    assert "image: registry.example.com" in body
    assert "image" in line
    assert ("--source" in line) == ("s3://my-bucket" in body)


@pytest.mark.parametrize("path", RAY_JOBS, ids=lambda path: path.stem)
def test_a_ray_job_brings_the_runtime_env_of_the_scripts(path: Path) -> None:
    [job] = documents(path)
    runtime_env = yaml.safe_load((ROOT / "jobs" / "runtime_env.yaml").read_text())
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"]) == runtime_env
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": "doodle"}
