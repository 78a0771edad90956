"""The loaders' benchmark: every layout holds the same drawings, and ours and the plain ones run."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import ray

from doodle_dist.bench import loader_data, loader_rows, loaders
from doodle_dist.bench.loader_data import lay_out, samples, shard_files
from doodle_dist.bench.loader_rows import BARE, IN_TURNS, OURS, OURS_HERE, ROWS, LoaderRow
from doodle_dist.data.raster import rasterize
from doodle_dist.data.strokes import unpack_strokes
from doodle_dist.errors import WorkFailedError
from tests.conftest import write_drawings

needs_ray = pytest.mark.cluster
DRAWINGS = 12_000


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("loaders")
    write_drawings(folder / "real", {"cat": 40, "dog": 40})
    return folder / "work", lay_out(folder / "work", DRAWINGS, 2, folder / "real")


@pytest.fixture(scope="module")
def ranks(laid_out: tuple[Path, dict[str, str]]) -> Iterator[list[Any]]:
    """Two ranks for all tests on the Ray that is there: each is a process that starts."""
    both = loader_rows._ranks(laid_out[0], 2)
    yield both
    for rank in both:
        ray.kill(rank)


@needs_ray
def test_layouts_hold_the_same_drawings(laid_out: tuple[Path, dict[str, str]]) -> None:
    folder, _ = laid_out
    rows = [sample for file in shard_files(folder / "prepared") for sample in samples(file)]
    assert len({key for key, _, _ in rows}) == DRAWINGS
    labels, pixels = np.load(folder / "npy" / "labels.npy"), np.load(folder / "npy" / "pixels.npy")
    assert labels.tolist() == [label for _, label, _ in rows]
    lines = b"".join(file.read_bytes() for file in sorted((folder / "ndjson").glob("*.ndjson"))).splitlines()
    told = {int(record["key_id"]): record for record in map(orjson.loads, lines)}
    for k in range(0, DRAWINGS, 997):
        key, label, packed = rows[k]
        drawing = [(x.tolist(), y.tolist()) for x, y in unpack_strokes(packed)]
        assert np.array_equal(pixels[k], rasterize(drawing))
        assert [tuple(stroke) for stroke in told[key]["drawing"]] == drawing
        assert told[key]["word"] == ("cat", "dog")[label]


@needs_ray
def test_other_drawings_are_not_taken_for_these(laid_out: tuple[Path, dict[str, str]]) -> None:
    folder, _ = laid_out
    with pytest.raises(ValueError, match="holds other drawings"):
        lay_out(folder, 50_000, 2, folder.parent / "real")


@needs_ray
def test_a_library_that_fails_on_this_machine_is_said_and_ends_nothing(
    laid_out: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(to: Path, prepared: Path) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    folder, before = laid_out
    monkeypatch.setitem(loader_data.LAYOUTS, "broken", broken)
    found = lay_out(folder, DRAWINGS, 2, folder.parent / "real")
    assert found == before | {"broken": "operator torchvision::nms does not exist"}
    assert not (folder / "broken").exists()


@needs_ray
@pytest.mark.parametrize("name", [row.name for row in ROWS if not row.lacks] + [BARE])
def test_loaders_that_are_installed_run(name: str, laid_out: tuple[Path, dict[str, str]]) -> None:
    found = loaders._measure(name, laid_out[0], 0.3, 1, warm_up_s=0.2)
    assert not isinstance(found, str), found
    assert found["drawings_per_s"] > 0
    assert found["early_per_s"] > 0
    assert 0 < found["first_batch_s"] < 60


@needs_ray
def test_the_stream_through_ray_data_runs(
    laid_out: tuple[Path, dict[str, str]],
    ranks: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On the Ray that is there; bare pyarrow above has one of its own, and ours read by the ranks comes below."""
    monkeypatch.setattr(loader_rows, "_ranks", lambda _, workers: ranks[:workers])
    loader_rows.main(OURS, laid_out[0], 0.3, 1, 0.2)
    found = orjson.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["drawings_per_s"] > 0
    assert found["early_per_s"] > 0
    assert 0 < found["first_batch_s"] < 60


@needs_ray
def test_what_is_not_installed_is_said(
    laid_out: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = LoaderRow(
        "absent", "a loader", "absent", True, loader_rows._litdata, (("no_such_module", "no-such"),)
    )
    monkeypatch.setattr(loaders, "ROWS", (absent,))
    monkeypatch.setattr(
        loaders,
        "_measure",
        lambda name, *_: (
            {
                "drawings_per_s": 100.0 if name == OURS else 110.0,
                "early_per_s": 50.0,
                "first_batch_s": 1.0,
            }
            if name not in IN_TURNS
            else {"of_bare": 0.97 if IN_TURNS[name] == OURS_HERE else 0.93, "lowest": 0.9, "highest": 1.1}
        ),
    )
    result = loaders.run(laid_out[0], {}, 1.0, 3, 2, DRAWINGS)
    assert {r.name: r.why for r in result.results} == {
        "absent": "not installed: pip install no-such",
        BARE: "",
        OURS: "",
        OURS_HERE: "",
    }
    assert result.of_bare == 0.93
    assert (result.here_of_bare, result.here_of_bare_range) == (0.97, (0.9, 1.1))


@needs_ray
def test_the_stream_is_taken_in_turns_with_bare_pyarrow(
    laid_out: tuple[Path, dict[str, str]],
    ranks: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In a few turns, and on the Ray that is there."""
    monkeypatch.setattr(loader_rows, "_ranks", lambda _, workers: ranks[:workers])
    monkeypatch.setattr(loader_rows, "TURNS", 4)
    loader_rows.main("ours-here-in-turns", laid_out[0], 0.05, 2, 0.2)
    found = orjson.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 < found["lowest"] <= found["of_bare"] <= found["highest"]


def test_a_loader_has_as_long_as_it_measures_and_five_minutes_more(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[float] = []

    def fake(command: list[str], *, timeout: float, **_: object) -> subprocess.CompletedProcess[str]:
        allowed.append(timeout)
        return subprocess.CompletedProcess(command, 0, stdout="{}", stderr="")

    monkeypatch.setattr(subprocess, "run", fake)
    for name in ("ours-in-turns", "ours-here-in-turns", OURS, "npy-items"):
        loaders._measure(name, Path(), 6.0, 2, warm_up_s=9.0)
    # Of 60 pairs: two turns of 6 s, each after 2 s that don't count; and before them two of 4.5 s after 1.5 s
    assert allowed == pytest.approx([300 + 60 * 2 * (6 + 2) + 2 * (4.5 + 1.5)] * 2 + [300 + 9 + 6] * 2)


def test_what_fails_is_work_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(failing: str) -> Any:
        good = {"drawings_per_s": 1.0, "early_per_s": 1.0, "first_batch_s": 1.0}
        return lambda name, *_: "no end after 300 s" if name == failing else good

    monkeypatch.setattr(loaders, "ROWS", ())
    for failing in (OURS, BARE, "ours-in-turns"):
        monkeypatch.setattr(loaders, "_measure", measured(failing))
        with pytest.raises(WorkFailedError, match="no end after 300 s"):
            loaders.run(tmp_path, {}, 1.0, 1, 2, DRAWINGS)
