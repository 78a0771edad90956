"""One version of Ray everywhere: a node of another would be refused, or worse."""

import re
import tomllib

import ray

from tests.cluster_files.files import BASE, GCS, RAY_JOBS, RAY_UP, ROOT, by_kind, objects

FILES = [
    ROOT / "Dockerfile",
    *RAY_UP,
    *RAY_JOBS,
    *sorted(BASE.iterdir()),
    *sorted(GCS.iterdir()),
    *sorted((ROOT / "jobs").glob("*.*")),
]


def constrained() -> str:
    [version] = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return version


def test_every_file_that_names_a_version_of_ray_names_the_constrained_one() -> None:
    named = {
        path.relative_to(ROOT): set(
            re.findall(
                r"(?:rayproject/ray:|:ray|newTag: ray|rayVersion: \")(\d+\.\d+\.\d+)", path.read_text()
            )
        )
        for path in FILES
    }
    said = {path: versions for path, versions in named.items() if versions}
    assert set().union(*said.values()) == {constrained()}
    assert {path.name for path in said} >= {
        "Dockerfile",
        "aws.yaml",
        "gcp.yaml",
        "raycluster.yaml",
        "kustomization.yaml",
        "prepare.yaml",
        "train-classifier.yaml",
        "train-gan.yaml",
        "tune.yaml",
    }
    assert by_kind(objects(BASE), "RayCluster")["spec"]["rayVersion"] == constrained()


def test_it_is_the_installed_one_and_pyproject_allows_it() -> None:
    assert ray.__version__ == constrained()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [requirement] = [one for one in project["dependencies"] if one.startswith("ray[")]
    least, below = re.findall(r"(\d+\.\d+)", requirement)
    major_minor = ".".join(constrained().split(".")[:2])
    assert least == major_minor
    assert below != major_minor


def test_the_images_python_is_the_one_that_is_tested() -> None:
    [tag] = re.findall(r"rayproject/ray:\S+-py3(\d+)-gpu", (ROOT / "Dockerfile").read_text())
    assert f"3.{tag}" in (ROOT / "pyproject.toml").read_text()
