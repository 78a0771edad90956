"""Where the cluster's files lie, and how they are read: by kustomize where it is installed, else as they are."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BASE = ROOT / "cluster" / "kuberay" / "base"
GCS = ROOT / "cluster" / "kuberay" / "gcs-fault-tolerance"
RAY_UP = [ROOT / "cluster" / "aws.yaml", ROOT / "cluster" / "gcp.yaml"]
RAY_JOBS = sorted((ROOT / "jobs" / "rayjob").glob("*.yaml"))
SCRIPTS = sorted(path for path in (ROOT / "jobs").glob("*.sh") if path.name != "submit.sh")

Object = dict[str, Any]


def documents(path: Path) -> list[Object]:
    """The YAML documents of a file."""
    return [one for one in yaml.safe_load_all(path.read_text()) if one is not None]


def objects(folder: Path) -> list[Object]:
    """The Kubernetes objects that the files of a kustomization hold, before kustomize touches them."""
    kustomization = documents(folder / "kustomization.yaml")[0]
    files = [name for name in kustomization["resources"] if name.endswith(".yaml")]
    return [one for name in files for one in documents(folder / name)]


def built(folder: Path) -> list[Object]:
    """What `kubectl apply -k` would send; the test skips where there is no kubectl."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one is not None]


def by_kind(found: list[Object], kind: str) -> Object:
    """The one object of a kind."""
    [one] = [one for one in found if one["kind"] == kind]
    return one


def pod_specs(one: Object) -> list[Object]:
    """Every pod that an object makes."""
    spec = one.get("spec", {})
    templates = [spec.get("template"), spec.get("submitterPodTemplate")]
    templates += [spec.get("headGroupSpec", {}).get("template")]
    templates += [group["template"] for group in spec.get("workerGroupSpecs", ())]
    return [template["spec"] for template in templates if template]
