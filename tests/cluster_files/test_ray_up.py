"""cluster/aws.yaml and cluster/gcp.yaml against the schema that `ray up` itself checks."""

import json
import re
from pathlib import Path

import pytest
import ray.autoscaler
from jsonschema import Draft7Validator
from ray.autoscaler._private.util import validate_config

from tests.cluster_files.files import BASE, RAY_UP, Object, by_kind, documents, objects, pod_specs

SCHEMA = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
CLOUDS = pytest.mark.parametrize("path", RAY_UP, ids=lambda path: path.stem)


def config(path: Path) -> Object:
    [one] = documents(path)
    return one


@CLOUDS
def test_it_passes_rays_own_schema(path: Path) -> None:
    assert list(Draft7Validator(SCHEMA).iter_errors(config(path))) == []
    validate_config(config(path) | {"cluster_synced_files": []})
    assert list(Draft7Validator(SCHEMA).iter_errors(config(path) | {"max_worker": 1}))


def is_spot(node: Object) -> bool:
    return (
        node.get("InstanceMarketOptions", {}).get("MarketType") == "spot"
        or node.get("scheduling", {}).get("provisioningModel") == "SPOT"
    )


@CLOUDS
def test_the_head_is_on_demand_and_idle_and_workers_are_spot_from_zero(path: Path) -> None:
    types = config(path)["available_node_types"]
    head = types[config(path)["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert not is_spot(head["node_config"])
    workers = [one for one in types.values() if one is not head]
    assert any("GPU" in one["resources"] for one in workers)
    assert any("GPU" not in one["resources"] for one in workers)
    for one in workers:
        assert is_spot(one["node_config"])
        assert one["min_workers"] == 0
    assert sum(one["max_workers"] for one in workers) == config(path)["max_workers"]


@CLOUDS
def test_the_head_may_start_workers_and_workers_may_not(path: Path) -> None:
    """Ray gives the head its rights only where the file names no role for it, or a role has to have them."""
    types = config(path)["available_node_types"]
    roles = {
        name: str(one["node_config"].get("IamInstanceProfile") or one["node_config"].get("serviceAccounts"))
        for name, one in types.items()
    }
    assert roles.pop("head") not in roles.values()
    assert len(set(roles.values())) == 1


@CLOUDS
def test_every_node_has_an_image_of_its_own_choice_with_a_driver_for_torch(path: Path) -> None:
    """Without one Ray's own takes its place, of Ubuntu 18.04; and PyPI's torch has been for CUDA 13 since 2.11."""
    for one in config(path)["available_node_types"].values():
        node = one["node_config"]
        images = [
            node.get("ImageId"),
            *(disk["initializeParams"]["sourceImage"] for disk in node.get("disks", ())),
        ]
        assert any(images)
        for driver in re.findall(r"nvidia-(\d+)", " ".join(filter(None, images))):
            assert int(driver) >= 580


@CLOUDS
def test_every_node_starts_with_the_token_and_the_dashboard_listens_on_loopback(path: Path) -> None:
    one = config(path)
    head = " ".join(one["head_start_ray_commands"])
    worker = " ".join(one["worker_start_ray_commands"])
    assert "RAY_AUTH_MODE=token" in head
    assert "RAY_AUTH_MODE=token" in worker
    assert "--dashboard-host=127.0.0.1" in head
    assert "/home/ray/.ray/auth_token" in one["file_mounts"]
    assert "--num-cpus=0" in head


@CLOUDS
def test_metrics_are_served_at_the_port_of_the_pods(path: Path) -> None:
    """Where none is named Ray takes any, which nobody could be told to scrape."""
    pods = pod_specs(by_kind(objects(BASE), "RayCluster"))
    ports = {
        port["containerPort"]
        for c in pods
        for port in c["containers"][0]["ports"]
        if port["name"] == "metrics"
    }
    for commands in (config(path)["head_start_ray_commands"], config(path)["worker_start_ray_commands"]):
        [start] = [one for one in commands if "ray start" in one]
        assert {int(port) for port in re.findall(r"--metrics-export-port=(\d+)", start)} == ports


def test_ray_down_leaves_nothing_that_costs() -> None:
    """On AWS Ray would stop the head only; on Google Cloud it deletes it unless told otherwise."""
    assert config(RAY_UP[0])["provider"]["cache_stopped_nodes"] is False


def test_both_clouds_start_ray_alike() -> None:
    first, second = (config(path) for path in RAY_UP)
    for key in ("head_start_ray_commands", "worker_start_ray_commands", "file_mounts", "docker"):
        assert first[key] == second[key]
