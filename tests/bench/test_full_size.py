"""The full-size benchmark, small: phases go on where they stopped, and each drawing comes once."""

import shutil
from pathlib import Path

import pytest

from doodle_dist.bench import full_size
from doodle_dist.bench.full_size import PHASES, run
from doodle_dist.errors import WorkFailedError
from tests.conftest import write_drawings

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("local_ray")]


def test_phases_go_on_and_each_drawing_is_streamed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_drawings(tmp_path / "real", {"cat": 60, "dog": 60, "fish": 60})
    folder = tmp_path / "work"
    folder.mkdir()
    run(20_000, 3, tmp_path / "real", folder, workers=2, until="make up")
    (folder / "prepared" / "_staging").mkdir(parents=True)
    with pytest.raises(ValueError, match="left of a prepare that was cut off"):
        run(20_000, 3, tmp_path / "real", folder, workers=2)
    shutil.rmtree(folder / "prepared")
    some = run(20_000, 3, tmp_path / "real", folder, workers=2, until="prepare")
    assert [phase.name for phase in some.phases] == ["make up", "prepare"]
    monkeypatch.setattr(full_size, "make_up", None)  # what is done isn't done again
    monkeypatch.setattr(full_size, "prepare_all", None)
    whole = run(20_000, 3, tmp_path / "real", folder, workers=2)
    assert tuple(phase.name for phase in whole.phases) == PHASES
    assert whole.exactly_once
    assert whole.streamed is not None
    assert 19_000 < whole.streamed.count < 20_000, "98 of 100 are the training split"
    assert all(phase.pss_mb > 50 for phase in whole.phases)
    assert whole.ink_mean is not None
    assert 5 < whole.ink_mean < 150

    with pytest.raises(ValueError, match=r"holds 20,000 drawings of 3 categories"):
        run(30_000, 3, tmp_path / "real", folder, workers=2)
    state = whole.model_copy(update={"wanted": full_size.KeySums(count=1)})
    with pytest.raises(WorkFailedError, match="not each drawing once"):
        full_size.stream_all(state, folder, workers=2)
