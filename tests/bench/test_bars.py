"""The table of bars says what was measured, what fell short and what nobody measured; the page shows the same."""

from pathlib import Path

import orjson
import pytest

from doodle_dist.bench import bars, table
from doodle_dist.bench.bars import Bar, Results
from doodle_dist.bench.full_size import FullSize, KeySums, Means, Phase
from doodle_dist.bench.loaders import LoaderResult, LoadersBench
from doodle_dist.bench.machine import Machine
from doodle_dist.bench.page import render
from doodle_dist.bench.process import ProcessBench, ProcessTimes
from doodle_dist.bench.raster import RasterBench, RasterError, RasterRow
from doodle_dist.bench.results import PrepareBench
from doodle_dist.bench.start import StartBench
from doodle_dist.bench.train import StepTimes, TrainBench

MACHINE = Machine(processor="<a processor>", cores=2, python="3.11", date="2026-11-25")


def raster_row(name: str, over: float, ink: float = 0.6) -> RasterRow:
    error = RasterError(drawings=10, ink_mean=ink, most=17, within_12=1.0, identical_rows=0)
    return RasterRow(
        name=name, package=name, version="1", drawings_per_s=4e5 / over, ours_over_it=over, error=error
    )


def full_size(drawings: int, prepare_mb: float, *, lost: int = 0) -> FullSize:
    sums, means = KeySums(count=drawings, keys=1, hashes=2), Means(strokes=5, points=44, bytes=101)
    return FullSize(
        drawings=drawings,
        categories=340,
        real=means,
        made_up=means,
        wanted=sums,
        streamed=KeySums(count=drawings - lost, keys=1, hashes=2),
        disk_needed_mb=1.0,
        phases=tuple(
            Phase(
                name=name,
                seconds=1.0,
                drawings=drawings,
                drawings_per_s=float(drawings),
                pss_mb=prepare_mb if name == "prepare" else 100.0,
                process_mb={"driver": 10.0},
                files_mb={"raw": 1.0},
            )
            for name in ("make up", "prepare", "verify", "stream")
        ),
        machine=MACHINE,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    loaders = LoadersBench(
        drawings=1000,
        rounds=3,
        workers=2,
        results=[
            LoaderResult(
                name="npy-items", what="npy", from_strokes=False, drawings_per_s=9.0, ours_over_it=0.8
            ),
            LoaderResult(
                name="litdata", what="LitData", from_strokes=True, drawings_per_s=9.0, ours_over_it=5.0
            ),
            LoaderResult(name="mosaic", what="Mosaic", from_strokes=True, why="not installed: pip install m"),
            LoaderResult(name="bare", what="bare", from_strokes=True, drawings_per_s=9.0, ours_over_it=0.9),
            LoaderResult(name="ours", what="ours", from_strokes=True, drawings_per_s=8.0, ours_over_it=1.0),
        ],
        of_bare=0.9,
        first_batch_s=1.5,
        is_first_from_strokes=True,
        machine=MACHINE,
    )
    files = {
        "raster.json": RasterBench(
            ours=raster_row("ours", 1.0),
            others=[
                raster_row("pycairo", 38.0),
                raster_row("skia", 30.0),
                RasterRow(name="Pillow", package="p"),
            ],
            augment_share=0.2,
            points_per_drawing=57.0,
            machine=MACHINE,
        ),
        "prepare-4M.json": PrepareBench(
            drawings=10,
            bytes_per_line=400,
            seconds=1,
            drawings_per_s=2e5,
            processes_pss_mb=1,
            spilled_mb=0,
            of_orjson=0.6,
            machine=MACHINE,
        ),
        "loaders.json": loaders,
        "process.json": ProcessBench(
            results=[
                ProcessTimes(
                    preset="doodle-gan-small",
                    batch=64,
                    drawings=10,
                    training_per_s=97,
                    plain_per_s=100,
                    ratio=0.97,
                    ratios=[0.97],
                    data_wait=0.001,
                )
            ],
            machine=MACHINE,
        ),
        "start.json": StartBench(
            workers=1, rounds=1, help_s=0.1, first_step_s=13, floor_s=12, over_floor_s=1, machine=MACHINE
        ),
        "full-size-50M.json": full_size(50_000_000, 130.0),
        "full-size-0.5M.json": full_size(500_000, 100.0),
    }
    for name, result in files.items():
        (tmp_path / name).write_text(result.model_dump_json())
    return tmp_path


def found(folder: Path) -> dict[tuple[str, str], Bar]:
    return {(one.what, one.against): one for one in bars.bars(Results.read(folder))}


def test_every_bar_has_its_verdict(folder: Path) -> None:
    table = found(folder)
    verdicts = {key: one.verdict for key, one in table.items()}
    assert verdicts["rasterise, one core", "pycairo"] == "missed"
    assert verdicts["rasterise, one core", "skia"] == "met"
    assert verdicts["rasterise, one core", "Pillow (pip install p)"] == "not measured here"
    assert verdicts["prepare, a core", "orjson alone"] == "met"
    assert verdicts["stream to workers", "npy"] == "beside", "from rasters: no bar"
    assert verdicts["stream to workers", "LitData"] == "met"
    assert verdicts["stream to workers", "bare pyarrow, our rasteriser"] == "missed"
    assert verdicts["first batch", "Ray is up"] == "met"
    assert verdicts["training, doodle-gan-small", "a plain loop, data in memory"] == "met"
    assert verdicts["train --local, Enter to first step", "an empty training, 12.0 s"] == "met"
    assert verdicts["50,000,000 drawings", "key_ids"] == "met"
    assert verdicts["50,000,000 drawings", "500,000 drawings"] == "missed", "1.3 times the memory"
    assert {one.verdict for (what, _), one in table.items() if "GPU" in what} == {"not measured here"}


def test_a_missed_ratio_is_not_rounded_up_to_its_bar(folder: Path) -> None:
    for name, ratio in (("loaders.json", "of_bare"), ("prepare-4M.json", "of_orjson")):
        measured = orjson.loads((folder / name).read_bytes())
        (folder / name).write_bytes(
            orjson.dumps(measured | {ratio: 0.9498 if ratio == "of_bare" else 0.4989})
        )
    table = found(folder)
    bare = table["stream to workers", "bare pyarrow, our rasteriser"]
    assert (bare.bar, bare.figure, bare.verdict) == ("≥ 0.95", "0.949", "missed")
    prepared = table["prepare, a core", "orjson alone"]
    assert (prepared.bar, prepared.verdict) == ("≥ 0.5 of its drawings/s", "missed")
    assert prepared.figure.startswith("0.498 ")


def test_a_lost_drawing_is_a_missed_bar(folder: Path) -> None:
    (folder / "full-size-50M.json").write_text(full_size(50_000_000, 100.0, lost=1).model_dump_json())
    assert found(folder)["50,000,000 drawings", "key_ids"].verdict == "missed"


def test_nothing_measured_is_said_for_every_bar(tmp_path: Path) -> None:
    table = bars.bars(Results.read(tmp_path))
    assert len(table) > 12
    assert {one.verdict for one in table} == {"not measured here"}
    assert all(one.command for one in table)


def test_a_file_of_an_older_release_is_named(folder: Path) -> None:
    (folder / "raster.json").write_text('{"ours_per_s": 1.0}')
    with pytest.raises(ValueError, match=r"raster\.json: ours: Field required; measure it again"):
        Results.read(folder)


def test_the_page_shows_every_bar_and_fetches_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table.main(folder, folder / "page.html")
    assert "missed" in capsys.readouterr().out
    page = (folder / "page.html").read_text()
    results = Results.read(folder)
    assert page == render(bars.bars(results), results)
    assert page.count("<tr>") == len(bars.bars(results)) + 1
    assert "http:" not in page.replace("http-equiv", "")
    assert "https:" not in page
    assert "<script" not in page
    assert "&lt;a processor&gt;" in page
    for plot in ("Drawings a second on one core", "Seconds to the first batch", "Memory of all processes"):
        assert plot in page


def test_steps_on_a_gpu_have_the_gpus_bars(folder: Path) -> None:
    def times(preset: str, ratio: float, device: str) -> StepTimes:
        return StepTimes(
            preset=preset, batch=1, ours_s=1, textbook_s=1, ratio=ratio, first_ours_s=1, device=device
        )

    steps = [times("cdcgan", 4.0, "H"), times("classifier-340", 4.0, "H"), times("cdcgan", 1.4, "cpu")]
    (folder / "train.json").write_text(TrainBench(results=steps, machine=MACHINE).model_dump_json())
    table = found(folder)
    against = "the textbook loop"
    assert table["step on H, cdcgan", against].verdict == "missed"
    assert table["step on H, classifier-340", against].verdict == "met"
    assert table["step on a CPU, cdcgan", against].verdict == "met"
    assert not any(what.startswith("step on a GPU") for what, _ in table)
