"""`doodle-dist doctor` as it is typed, with a real Ray."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest
import ray

from doodle_dist import cli
from doodle_dist.config.load import load_experiment, planned
from doodle_dist.doctor import collect, command, probe
from doodle_dist.doctor.command import examine
from doodle_dist.ray_cluster import Need
from tests.datasets import prepare_here
from tests.s3 import free_port

pytestmark = pytest.mark.cluster

really_ask = collect._clock
TORCH_IS_THERE = """print('{"cuda": "", "gpus": []}')"""


def test_a_real_ray_is_examined(local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepare_here(tmp_path, {"cat": 60, "dog": 60})
    settings = [f"storage={tmp_path / 'runs'}", f"data.uri={data}", "scaling.workers=2"]
    findings, facts = examine(load_experiment("doodle-gan-small", settings), local=False, wait_s=0)
    assert facts is not None
    assert [one for one in findings if one.level == "error"] == []
    [node] = facts.nodes
    assert node.versions == facts.versions
    assert node.ray_cpus == 4
    assert node.torch_error == ""
    assert node.object_store_bytes > 0
    assert abs(node.clock_offset_s) < 1
    assert node.storage is not None
    assert node.storage.sees_marker
    assert node.data is not None
    assert node.data.rows == 120
    assert not (tmp_path / "runs").exists()

    monkeypatch.setattr(probe, "_ASK_TORCH", TORCH_IS_THERE)  # which has been asked
    shard = next((Path(data) / "train").glob("part-*.parquet"))
    shard.unlink()
    findings, _ = examine(load_experiment("doodle-gan-small", settings), local=False, wait_s=0)
    assert [(one.level, one.about) for one in findings if one.level == "error"] == [("error", "data")]
    assert any(shard.name in one.says for one in findings)

    settings[1] = f"data.uri={tmp_path / 'raw'}"
    too_many = load_experiment("doodle-gan-small", [*settings, "scaling.workers=8"])
    findings, _ = examine(too_many, local=False, wait_s=0)
    assert [one.about for one in findings if one.level == "error"] == ["resources", "data"]


def test_a_node_that_dies_while_it_is_examined_is_named(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_ASK_TORCH", TORCH_IS_THERE)
    monkeypatch.setattr(collect, "_clock", lambda actor: ray.kill(actor) or really_ask(actor))
    findings, facts = examine(
        load_experiment("doodle-gan-small", [f"storage={tmp_path / 'runs'}"]), local=False, wait_s=0
    )
    assert facts is not None
    assert facts.nodes == ()
    [why] = facts.silent_nodes.values()
    assert "died" in why or "kill" in why
    assert any(one.level == "error" and why in one.says for one in findings)


def test_an_elastic_run_needs_the_least_of_its_workers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `train` does, which takes the same --workers."""
    asked: list[tuple[str, Need]] = []
    monkeypatch.setattr(command, "connect", lambda need, **_: asked.append(("connect", need)))
    monkeypatch.setattr(command, "collect", lambda need, **_: asked.append(("collect", need)))
    monkeypatch.setattr(command, "check", lambda *_: [])
    monkeypatch.setattr(command.ray, "shutdown", lambda: None)
    for workers, least in (("2:8", 2), ("3", 3)):
        asked.clear()
        with pytest.raises(SystemExit) as stop:
            cli.main(["doctor", "--local", "--workers", workers])
        assert stop.value.code == 0
        need = Need(least, 1, 0, data_cpus=0 if ":" in workers else 1, data_nodes=2)
        assert asked == [("connect", need), ("collect", need)]
    with pytest.raises(SystemExit) as stop:
        cli.main(["doctor", "--local", "--workers", "many"])
    assert stop.value.code == 2
    assert "neither a number of workers nor MIN:MAX" in capsys.readouterr().err


def test_where_no_cluster_answers_it_exits_with_1_and_says_how_to_mend_that(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "doodle_dist.doctor", "--address", f"127.0.0.1:{free_port()}", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    answer = orjson.loads(done.stdout)
    assert answer["would_fail"] is True
    assert "no Ray cluster answers" in answer["findings"][0]["says"]
    assert "--local" in answer["findings"][0]["mend"]


@pytest.mark.parametrize("preset", ["doodle-gan-small", "own.toml"])
def test_a_job_examines_for_the_run_that_was_asked_for_here(
    preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster that has neither this DOODLE_DATA nor this folder."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / "base.toml").write_text('extends = "doodle-gan-small"\noptim.generator.lr = 0.125\n')
    (here / "own.toml").write_text('extends = "base.toml"\nseed = 7\n')
    monkeypatch.chdir(here)
    monkeypatch.setenv("DOODLE_DATA", "s3://b/here")
    overrides = ["optim.critic.lr=0.25", 'data.categories=["hot dog"]']
    options = {"scaling.workers": 2, "storage": "s3://b/runs"}
    asked = planned(preset, overrides, options)
    arguments, text = command.job_arguments(preset, overrides, options, asked)

    monkeypatch.chdir(there)
    monkeypatch.setenv("DOODLE_DATA", "s3://b/there")
    if text:
        (there / arguments[0]).write_text(text)
    assert arguments[1::2] == ["--set"] * (len(arguments) // 2)
    examined = planned(arguments[0], arguments[2::2], {})
    assert examined.model_copy(update={"preset": preset}) == asked
    assert examined.data.uri == "s3://b/here"


def test_a_wrong_request_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["no-such-preset"], "preset 'no-such-preset' is unknown"),
        (["--set", "scaling.tempo=1"], "scaling.tempo"),
        (["--address", f"http://127.0.0.1:{free_port()}"], "takes no job"),
    ):
        with pytest.raises(SystemExit) as stop:
            cli.main(["doctor", *arguments])
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.strip().splitlines()) == 1


def test_the_dataset_is_that_of_the_options_else_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOODLE_DATA", "/drawings")
    assert planned("doodle-gan-small", [], {}).data.uri == "/drawings"
    assert planned("doodle-gan-small", [], {"data.uri": "/others"}).data.uri == "/others"
    monkeypatch.delenv("DOODLE_DATA")
    assert planned("doodle-gan-small", [], {}).data.uri == ""
