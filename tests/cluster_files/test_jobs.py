"""The scripts of jobs/: what they would submit, told by a `ray` of ten lines that stands in for the real one.

That the real one takes it is tests/cluster/test_commands.py.
"""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.cluster_files.files import BASE, RAY_JOBS, ROOT, SCRIPTS, Object, documents

MODULES = {
    "prepare": "doodle_dist.cli data prepare",
    "train-classifier": "doodle_dist.train classifier-340",
    "train-gan": "doodle_dist.train doodle-gan",
    "tune": "doodle_dist.tune doodle-gan",
}


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    ray = tmp_path / "ray"
    ray.write_text('#!/bin/sh\nfor argument in "$@"; do echo "$argument"; done\n')
    ray.chmod(0o755)
    return tmp_path


def submitted(script: Path, bin_folder: Path, *arguments: str, **environ: str) -> list[str]:
    """The arguments after `python -m`; that what comes before is right is checked here, ``environ`` with it."""
    environment = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "RAY_ADDRESS": "http://head:8265", **environ}
    done = subprocess.run(
        [str(script), *arguments], capture_output=True, text=True, env=environment, cwd=bin_folder, check=True
    )
    said = done.stdout.splitlines()
    assert said[:3] == ["job", "submit", "--runtime-env"]
    assert Path(said[3]).samefile(ROOT / "jobs" / "runtime_env.yaml")
    before = ["--", "env", *(f"{name}={value}" for name, value in environ.items()), "python", "-m"]
    assert said[4 : 4 + len(before)] == before
    return said[4 + len(before) :]


def test_there_is_a_script_and_a_manifest_for_each_job() -> None:
    assert {path.stem for path in SCRIPTS} == {path.stem for path in RAY_JOBS} == set(MODULES)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_submits_its_module_with_its_preset(script: Path, bin_folder: Path) -> None:
    assert submitted(script, bin_folder) == MODULES[script.stem].split()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_manifest_runs_what_the_script_submits(script: Path) -> None:
    job = yaml.safe_load((ROOT / "jobs" / "rayjob" / f"{script.stem}.yaml").read_text())
    assert job["spec"]["entrypoint"].startswith(f"python -m {MODULES[script.stem]} ")


def submitter_environment(job: Object) -> dict[str, str]:
    """What the pod that submits a RayJob has in its environment, of what the files of cluster/kuberay give."""
    settings = dict(line.split("=", 1) for line in (BASE / "settings.env").read_text().split())
    [container] = job["spec"]["submitterPodTemplate"]["spec"]["containers"]
    named = {one["configMapRef"]["name"] for one in container.get("envFrom", ()) if "configMapRef" in one}
    own = {one["name"]: one.get("value", "secret") for one in container["env"]}
    return (settings if "doodle-settings" in named else {}) | own


@pytest.mark.parametrize("path", RAY_JOBS, ids=lambda path: path.stem)
def test_a_manifest_submits_the_locations_of_the_settings(path: Path, bin_folder: Path) -> None:
    """KubeRay puts the entrypoint as it stands into the submitter's shell, which expands its variables."""
    [job] = documents(path)
    (bin_folder / "ray").rename(bin_folder / "python")
    environment = submitter_environment(job) | {"PATH": f"{bin_folder}:{os.environ['PATH']}"}
    shell = ["/bin/sh", "-c", job["spec"]["entrypoint"]]
    done = subprocess.run(shell, capture_output=True, text=True, env=environment, check=True)
    said = done.stdout.splitlines()
    option, variable = ("--to", "DOODLE_DATA") if path.stem == "prepare" else ("--storage", "DOODLE_STORAGE")
    assert said[said.index(option) + 1] == environment[variable]
    assert environment[variable].startswith("s3://")
    assert float(said[said.index("--wait") + 1]) >= 600, "workers come up from zero"
    del environment[variable]
    done = subprocess.run(shell, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode != 0
    assert not done.stdout, "nothing is submitted without a place for it"
    assert variable in done.stderr


def test_arguments_go_through_as_they_are(bin_folder: Path) -> None:
    script = ROOT / "jobs" / "train-gan.sh"
    given = ["cdcgan", "--workers", "2", "--set", 'data.categories=["hot dog", "cat"]']
    assert submitted(script, bin_folder, *given) == ["doodle_dist.train", *given]


@pytest.mark.parametrize("name", ["train-classifier", "train-gan", "tune"])
def test_options_alone_leave_the_preset_as_it_is(name: str, bin_folder: Path) -> None:
    options = ["--workers", "8", "--set=seed=3"]
    script = ROOT / "jobs" / f"{name}.sh"
    assert submitted(script, bin_folder, *options) == [*MODULES[name].split(), *options]
    assert submitted(script, bin_folder, "", *options) == [*MODULES[name].split(), *options]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_data_and_storage_of_the_environment_go_along_as_that(script: Path, bin_folder: Path) -> None:
    """As options they would take the place of a `--set data.uri=…`, or of a preset's own."""
    environ = {"DOODLE_DATA": "s3://b/data", "DOODLE_STORAGE": "s3://b/my runs"}
    assert submitted(script, bin_folder, **environ) == MODULES[script.stem].split()
    given = ["--set", "data.uri=s3://c", "--storage=s3://d"]
    assert submitted(script, bin_folder, *given, **environ) == [*MODULES[script.stem].split(), *given]


def test_without_an_address_a_script_says_so(bin_folder: Path) -> None:
    environ = {"PATH": f"{bin_folder}:{os.environ['PATH']}"}
    for script in SCRIPTS:
        done = subprocess.run([str(script)], capture_output=True, text=True, env=environ, check=False)
        assert done.returncode != 0
        assert "RAY_ADDRESS" in done.stderr
        assert "http://head:8265" in done.stderr


def test_a_stopped_job_is_given_time_for_its_checkpoint() -> None:
    runtime_env = yaml.safe_load((ROOT / "jobs" / "runtime_env.yaml").read_text())
    assert runtime_env["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] == "60"
