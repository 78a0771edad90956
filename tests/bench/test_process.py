"""The whole training beside the plain loop: both take real steps on the same drawings, and clocks are read right."""

from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from doodle_dist.bench import process
from doodle_dist.bench.process import measure, plain_loop, wall_times
from tests.cluster.test_train import Command
from tests.datasets import prepare_here


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small preset of one's own."""
    file = tmp_path_factory.mktemp("preset") / "tiny.toml"
    file.write_text(
        'extends = "classifier-small"\n[model.classifier]\nwidth = 4\n[train]\nglobal_batch = 64\n'
    )
    return str(file)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return prepare_here(tmp_path_factory.mktemp("data"), {"cat": 300, "dog": 300})


def test_the_time_of_each_value_is_read(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for step in (64, 128):
            writer.add_scalar("speed", 1.0, step, walltime=1000.0 + step)
            writer.add_scalar("other", 1.0, step, walltime=5.0)
    assert wall_times(tmp_path, "speed") == {64: 1064.0, 128: 1128.0}


def test_a_preset_without_a_plain_loop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="face-critic is a critic; allowed: presets of gan or classifier"):
        measure("face-critic", tmp_path, tmp_path, 1.0, 1)


@pytest.mark.slow
def test_the_plain_loop_takes_steps_for_ever(tiny: str, dataset: str) -> None:
    assert plain_loop(tiny, dataset, 0.5) > 0


@pytest.mark.cluster
@pytest.mark.slow
def test_both_are_measured_in_turns(
    tiny: str, dataset: str, tmp_path: Path, here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training on the Ray that is there: it starts no other for so little."""
    alone = process.output_of

    def run(command: list[str]) -> str:
        if "train" not in command:
            return alone(command)
        answer = here(*command[command.index("train") :])
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    monkeypatch.setattr(process, "output_of", run)
    found = measure(tiny, Path(dataset), tmp_path, 1.0, 1)
    assert found.batch == 64
    assert found.training_per_s > 0
    assert found.ratio == pytest.approx(found.training_per_s / found.plain_per_s)
    assert 0 <= found.data_wait < 1
    assert (tmp_path / "0" / "process").is_dir()
    assert [file.name for file in Path(tiny).parent.iterdir()] == ["tiny.toml"], "no run beside the preset"
