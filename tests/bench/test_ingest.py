"""The benches of prepare and of the stream, small: what they report is what was done, by all that they count."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest

from doodle_dist.bench import ingest, prepare
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.stream_plan import plan_stream
from tests.conftest import write_drawings
from tests.datasets import prepare_here

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("local_ray")]


def test_a_stream_is_held_against_the_rasteriser_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"_ROUNDS": 1, "_SECONDS": 0.3, "_WARM_UP_S": 0.1, "_GLOBAL_BATCH": 64}.items():
        monkeypatch.setattr(ingest, name, value)
    # Two tasks that read at once, and not eight: each is a process that starts.
    monkeypatch.setattr(ingest, "plan_stream", partial(plan_stream, task_cpus=2.0))
    data = prepare_here(tmp_path, {"cat": 700, "dog": 700}, (100.0, 0.0, 0.0))
    found = ingest.measure(data, workers=2)
    assert found.drawings == 1400
    assert found.workers == 2
    assert found.raster_alone_per_s > 0
    assert found.ratio == pytest.approx(found.stream_per_s / found.raster_alone_per_s)
    assert found.first_batch_s > 0


def test_prepare_is_timed_on_made_up_drawings_and_never_on_what_is_prepared_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prepare, "_CATEGORIES", 3)
    monkeypatch.setattr(prepare, "_PARSED", 300)
    monkeypatch.setattr(prepare, "_PARSE_S", 0.05)

    # Threads: it is each one's own CPU seconds that count, and processes would have to start, and parse for as long
    # as the module says.
    def threads(cores: int, mp_context: BaseContext) -> ThreadPoolExecutor:
        assert mp_context.get_start_method() == "spawn"
        pickle.dumps(prepare._parse)  # as a process would be given it
        return ThreadPoolExecutor(cores)

    monkeypatch.setattr(prepare, "ProcessPoolExecutor", threads)
    write_drawings(tmp_path / "real", {"cat": 60, "dog": 60, "fish": 60})
    prepare.main(2_000, tmp_path / "work", tmp_path / "real", tmp_path / "prepare.json")
    found = prepare.PrepareBench.model_validate_json((tmp_path / "prepare.json").read_text())
    assert found.drawings == 2_000 == load_manifest(str(tmp_path / "work" / "prepared")).rows
    assert len(list((tmp_path / "work" / "raw").glob("*.ndjson"))) == 3
    assert found.drawings_per_s == pytest.approx(2_000 / found.seconds)
    assert found.of_orjson == pytest.approx(found.drawings_per_s / found.machine.cores / found.orjson_per_s)
    assert found.processes_pss_mb > 100, "this process and the workers of Ray"
    assert "2,000 drawings of" in capsys.readouterr().out
    with pytest.raises(ValueError, match="work is not empty"):
        prepare.run(2_000, tmp_path / "work", tmp_path / "real")
