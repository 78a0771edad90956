"""A folder of runs, as a training, a search and a failure leave them."""

from pathlib import Path

import pytest

from doodle_dist.config.load import load_experiment, to_toml
from tests.runs import save_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    for seen, score in ((1000, 0.5), (2000, 0.9), (3000, 0.7)):
        save_run(folder / "judge", "classifier-small", seen=seen, score=score)
    save_run(folder / "search" / "trial-1", "doodle-gan-small", seen=500)
    (folder / "begun").mkdir()
    experiment = load_experiment("cdcgan-small", ["train.drawings=4000"])
    (folder / "begun" / "config.toml").write_text(to_toml(experiment))
    (folder / "begun" / "stopped.json").write_bytes(b'{"reason": "a loss is not finite"}')
    (folder / "other").mkdir()
    (folder / "other" / "notes.json").write_text("{}")
    return folder
