"""The two commands as anyone would type them: under `ray job submit`, and with no Ray started."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from doodle_dist import cli
from tests.cluster.test_train import kill_tree
from tests.datasets import prepare_here

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SHORT = ["--set", "train.drawings=320", "--set", "model.generator.width=8", "--set", "model.critic.width=8"]


# What tests/conftest.py leaves out: the process by which Ray Train looks out for nodes that are to be taken away.
AS_TYPED = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1"}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(prepare_here(tmp_path_factory.mktemp("commands"), {"cat": 200, "dog": 200}))


@pytest.fixture(scope="module")
def head(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Ray head of our own with token authentication: the environment that leads to it.

    A job has the cluster's environment and not the submitter's, so DOODLE_DATA is set there.
    """
    port, dashboard, tmp_path = free_port(), free_port(), tmp_path_factory.mktemp("head")
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 4)
    environ = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    command = ["ray", "start", "--head", "--block", "--num-cpus=5", f"--port={port}"]
    command += [
        f"--dashboard-port={dashboard}",
        "--dashboard-agent-listen-port=0",
        f"--temp-dir=/tmp/ray-{port}",
    ]
    command[0] = str(Path(sys.executable).parent / "ray")
    log = (tmp_path / "head.log").open("wb")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    there = os.environ | environ | AS_TYPED | {"DOODLE_DATA": str(dataset), "PATH": path}
    process = subprocess.Popen(command, stdout=log, stderr=log, env=there, start_new_session=True)
    try:
        deadline = time.monotonic() + 90
        while True:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", dashboard)) == 0:
                    break
            assert process.poll() is None, (tmp_path / "head.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield environ | {"RAY_ADDRESS": f"http://127.0.0.1:{dashboard}"}
    finally:
        # Asked to stop, it also takes back its note of itself, which the next `train` would look for; it waits for
        # its own processes afterwards, longer than anybody needs.
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)
        kill_tree(process)
        log.close()


def test_with_no_ray_started_and_no_preset(dataset: Path, tmp_path: Path) -> None:
    environ = {k: v for k, v in os.environ.items() if k not in {"RAY_ADDRESS", *AS_TYPED}}
    environ |= {"DOODLE_DATA": str(dataset)}
    done = subprocess.run(
        [sys.executable, "-m", "doodle_dist.train", *SHORT],
        capture_output=True, text=True, timeout=200, env=environ, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "runs" / "doodle-gan-small"
    assert list(run.glob("checkpoint_*/snapshot.safetensors"))
    with pytest.raises(SystemExit) as stop:
        cli.main(["sample", str(run), "-n", "3", "-o", str(tmp_path / "grid.png")])
    assert not stop.value.code
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_dataset_one_line_says_how_to_make_one(tmp_path: Path) -> None:
    environ = {k: v for k, v in os.environ.items() if k != "DOODLE_DATA"}
    done = subprocess.run(
        [sys.executable, "-m", "doodle_dist.train"],
        capture_output=True, text=True, timeout=60, env=environ, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "doodle-dist data prepare" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_ray_job_submit(head: dict[str, str], tmp_path: Path) -> None:
    """The mission's own command; and by a script of jobs/, which finds the run that the first has trained."""
    beside_python = str(Path(sys.executable).parent)
    script = Path(__file__).parents[2] / "jobs" / "train-gan.sh"
    environ = os.environ | head | {"PATH": f"{beside_python}:{os.environ['PATH']}"}
    typed = ["ray", "job", "submit", "--", sys.executable, "-m", "doodle_dist.train"]
    said = []
    for command in (typed, [str(script), "doodle-gan-small"]):
        job = subprocess.run(
            [*command, "--workers=2", *SHORT, "--storage", str(tmp_path / "runs")],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ, cwd=tmp_path,
            timeout=200, check=False,
        )  # fmt: skip
        assert job.returncode == 0, job.stdout
        assert "succeeded" in job.stdout
        said.append(job.stdout)
    assert list((tmp_path / "runs/doodle-gan-small").glob("checkpoint_*/snapshot.safetensors"))
    assert ["nothing is left to train" in one for one in said] == [False, True]


def test_the_doctor_looks_from_inside_for_a_preset_of_ones_own(
    head: dict[str, str], dataset: Path, tmp_path: Path
) -> None:
    """Through the dashboard, as a job, whose working directory isn't this one."""
    (tmp_path / "own.toml").write_text('extends = "doodle-gan-small"\n[scaling]\nworkers = 7\n')
    done = subprocess.run(
        [sys.executable, "-m", "doodle_dist.doctor", "own.toml", "--json", "--storage", str(tmp_path / "runs")],
        capture_output=True, text=True, timeout=200, cwd=tmp_path, check=False,
        env=os.environ | head | {"DOODLE_DATA": f"{dataset}/../data"},
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    answer = orjson.loads(done.stdout)
    assert answer["facts"]["data_uri"] == str(dataset)
    assert "7 workers" in answer["facts"]["shortage"]
    assert [found["about"] for found in answer["findings"] if found["level"] == "error"] == ["resources"]
