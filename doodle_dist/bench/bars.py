"""Every bar of speed, and where this machine stands by the files of benchmarks/results.

A bar whose file is missing, or that needs a GPU, says so: nothing is filled in from elsewhere.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ValidationError

from doodle_dist.bench.full_size import NEAR, FullSize
from doodle_dist.bench.loader_rows import BARE, READS
from doodle_dist.bench.loaders import FIRST_BATCH_BAR_S, OF_BARE_BAR, LoadersBench
from doodle_dist.bench.prepare import BAR as PREPARE_BAR
from doodle_dist.bench.process import BAR as PROCESS_BAR
from doodle_dist.bench.process import ProcessBench
from doodle_dist.bench.raster import RasterBench
from doodle_dist.bench.results import PrepareBench
from doodle_dist.bench.start import FIRST_STEP_BAR_S, HELP_BAR_S, OVER_FLOOR_S, StartBench
from doodle_dist.bench.train import BAR as STEP_BAR
from doodle_dist.bench.train import GPU_CLASSIFIER_BAR, GPU_GAN_BAR, TrainBench
from doodle_dist.errors import mismatch

RASTER, PREPARE, LOADERS = "raster.json", "prepare-4M.json", "loaders.json"
PROCESS, STEP, START = "process.json", "train.json", "start.json"
FULL_SIZE = "full-size-*.json"
CAIRO_BAR, INK_BAR, FLAT, GPU_BAR = 40.0, 1.5, 1.25, 10e6
Verdict = Literal["met", "missed", "beside", "not measured here"]
_Result = TypeVar("_Result", bound=BaseModel)
_GPU: Verdict = "not measured here"


@dataclass(frozen=True)
class Bar:
    """What was asked for, against what, and what this machine gives. ``figure`` is "" where nothing was measured.

    The verdict is ``beside`` for a figure that nothing was asked of, there to be compared with.
    """

    what: str
    against: str
    bar: str
    figure: str
    verdict: Verdict
    command: str
    date: str = ""


@dataclass(frozen=True)
class Results:
    """What lies in a folder of results; None for a file that is missing."""

    raster: RasterBench | None
    prepare: PrepareBench | None
    loaders: LoadersBench | None
    process: ProcessBench | None
    step: TrainBench | None
    start: StartBench | None
    full_size: list[FullSize]  # by their drawings

    @classmethod
    def read(cls, folder: Path) -> "Results":
        """Raises ValueError, naming the file, for one that an older release wrote or that isn't whole."""
        return cls(
            raster=_read(folder / RASTER, RasterBench),
            prepare=_read(folder / PREPARE, PrepareBench),
            loaders=_read(folder / LOADERS, LoadersBench),
            process=_read(folder / PROCESS, ProcessBench),
            step=_read(folder / STEP, TrainBench),
            start=_read(folder / START, StartBench),
            full_size=sorted(
                (found for file in folder.glob(FULL_SIZE) if (found := _read(file, FullSize))),
                key=lambda one: one.drawings,
            ),
        )


def _read(file: Path, kind: type[_Result]) -> _Result | None:
    if not file.exists():
        return None
    try:
        return kind.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{file}: {mismatch(error)}; measure it again") from None


def _down(ratio: float) -> str:
    """Three decimals, rounded down: what misses its bar by little doesn't read as if it met it."""
    return f"{math.floor(round(1000 * ratio, 6)) / 1000:.3f}"


def _verdict(fine: bool) -> Verdict:
    return "met" if fine else "missed"


def _missing(what: str, against: str, bar: str, command: str) -> Bar:
    return Bar(what, against, bar, "", "not measured here", command)


def bars(results: Results) -> list[Bar]:
    """The whole table, in the order in which a drawing meets what is measured."""
    return [
        *_raster(results.raster),
        *_prepare(results.prepare),
        *_stream(results.loaders),
        *_process(results.process),
        *_steps(results.step),
        *_start(results.start),
        _missing("search on a GPU", "one trial at a time", "≥ 3 × the trials a minute", "tune"),
        *_full_size(results.full_size),
    ]


def _raster(found: RasterBench | None) -> Iterator[Bar]:
    what, command = "rasterise, one core", "bench raster"
    bar = f"≥ {CAIRO_BAR:.0f} × cairo, ink error ≤ {INK_BAR}; faster than every one"
    if found is None:
        yield _missing(what, "cairo", bar, command)
    else:
        assert found.ours.error is not None
        ink = found.ours.error.ink_mean
        for other in found.others:
            if other.ours_over_it is None:
                yield _missing(what, f"{other.name} (pip install {other.package})", bar, command)
                continue
            least = CAIRO_BAR if other.package == "pycairo" else 1.0
            fine = other.ours_over_it >= least and ink <= INK_BAR
            figure = f"{other.ours_over_it:.1f} ×, ink error {ink:.2f}"
            yield Bar(
                *(what, other.name, f"≥ {least:.0f} ×, ink error ≤ {INK_BAR}", figure),
                *(_verdict(fine), command, found.machine.date),
            )
    bar = f"≥ {GPU_BAR / 1e6:.0f} million drawings/s"
    if found is None or found.gpu is None:
        yield _missing("rasterise on a GPU", "its limits", bar, command)
        return
    fine = found.gpu.drawings_per_s >= GPU_BAR and found.gpu.most_off_the_cpu <= 1
    yield Bar(
        *("rasterise on a GPU", "its limits", bar, f"{found.gpu.drawings_per_s:,.0f}/s, {found.gpu.gpu}"),
        *(_verdict(fine), command, found.machine.date),
    )


def _prepare(found: PrepareBench | None) -> Iterator[Bar]:
    what, against, bar = "prepare, a core", "orjson alone", f"≥ {PREPARE_BAR} of its drawings/s"
    command = "bench prepare --drawings 4000000"
    if found is None or found.of_orjson is None:
        yield _missing(what, against, bar, command)
        return
    figure = f"{_down(found.of_orjson)} ({found.drawings_per_s:,.0f}/s on {found.machine.cores} cores)"
    yield Bar(
        what, against, bar, figure, _verdict(found.of_orjson >= PREPARE_BAR), command, found.machine.date
    )


def _stream(found: LoadersBench | None) -> Iterator[Bar]:
    what, command = "stream to workers", "bench loaders"
    of_bare, start = f"≥ {OF_BARE_BAR}", f"≤ {FIRST_BATCH_BAR_S:.0f} s"
    if found is None:
        yield _missing(what, "other loaders, from strokes", "first of them", command)
        yield _missing(what, "bare pyarrow, our rasteriser", of_bare, command)
        yield _missing("first batch", "Ray is up", start, command)
        return
    date = found.machine.date
    for one in found.results:
        if one.name in (BARE, *READS):
            continue
        if one.ours_over_it is None:
            yield _missing(what, f"{one.what} ({one.why})", "faster", command)
            continue
        bar = "faster" if one.from_strokes else "none: starts from rasters"
        verdict = _verdict(one.ours_over_it > 1) if one.from_strokes else "beside"
        yield Bar(what, one.what, bar, f"{_down(one.ours_over_it)} ×", verdict, command, date)
    for against, ratio in (
        ("bare pyarrow, our rasteriser", found.of_bare),
        ("the same, data.read=worker", found.here_of_bare),
    ):
        if ratio is not None:
            verdict = _verdict(ratio >= OF_BARE_BAR)
            yield Bar(what, against, of_bare, _down(ratio), verdict, command, date)
    fine = found.first_batch_s <= FIRST_BATCH_BAR_S
    yield Bar(
        "first batch", "Ray is up", start, f"{found.first_batch_s:.3g} s", _verdict(fine), command, date
    )


def _process(found: ProcessBench | None) -> Iterator[Bar]:
    against, bar, command = (
        "a plain loop, data in memory",
        f"≥ {PROCESS_BAR} of its drawings/s",
        "bench process",
    )
    if found is None:
        yield _missing("the whole training process", against, bar, command)
    else:
        for one in found.results:
            figure = f"{_down(one.ratio)}, waits {one.data_wait:.1%}"
            yield Bar(
                *(f"training, {one.preset}", against, bar, figure),
                *(_verdict(one.ratio >= PROCESS_BAR), command, found.machine.date),
            )
    yield Bar("data wait on a GPU", "", "≤ 2 %", "", _GPU, "train --gpus 1")


def _steps(found: TrainBench | None) -> Iterator[Bar]:
    against, command = "the textbook loop", "bench train"
    results = found.results if found else []
    for one in results:
        where = "a CPU" if one.device == "cpu" else one.device
        figure = f"{_down(one.ratio)} ×"
        if one.graphs_s:
            figure = f"{_down(one.best_ratio)} × by train.cuda_graphs, {figure} without"
        yield Bar(
            *(f"step on {where}, {one.preset}", against, f"≥ {one.bar} ×", figure),
            *(_verdict(one.best_ratio >= one.bar), command, found.machine.date if found else ""),
        )
    if not any(one.device == "cpu" for one in results):
        yield _missing("step on a CPU", against, f"≥ {STEP_BAR} ×", command)
    if all(one.device == "cpu" for one in results):
        yield _missing("step on a GPU, cdcgan, dcgan", against, f"≥ {GPU_GAN_BAR} ×", command)
        yield _missing("step on a GPU, classifier-340", against, f"≥ {GPU_CLASSIFIER_BAR} ×", command)


def _start(found: StartBench | None) -> Iterator[Bar]:
    command = "bench start"
    if found is None:
        yield _missing("--help", "", f"≤ {HELP_BAR_S} s", command)
        yield _missing(
            "train --local, Enter to first step",
            "",
            f"≤ {FIRST_STEP_BAR_S:.0f} s or floor + {OVER_FLOOR_S:.0f}",
            command,
        )
        return
    date = found.machine.date
    yield Bar(
        *("--help", "", f"≤ {HELP_BAR_S} s", f"{found.help_s:.2f} s"),
        *(_verdict(found.help_s <= HELP_BAR_S), command, date),
    )
    yield Bar(
        "train --local, Enter to first step",
        f"an empty training, {found.floor_s:.1f} s",
        f"≤ {FIRST_STEP_BAR_S:.0f} s or floor + {OVER_FLOOR_S:.0f}",
        f"{found.first_step_s:.1f} s, in turns {found.over_floor_s:.1f} over it",
        _verdict(found.is_fast),
        command,
        date,
    )


def _full_size(found: list[FullSize]) -> Iterator[Bar]:
    command = "bench full-size"
    if not found:
        yield _missing("50 million drawings", "", "each once an epoch, memory flat", command)
        return
    # Beside the next largest, not the smallest, whose buffers never fill.
    before, most = found[-2] if len(found) > 1 else found[-1], found[-1]
    name, date = f"{most.drawings:,} drawings", most.machine.date
    rates = ", ".join(f"{phase.name} {phase.drawings_per_s:,.0f}/s" for phase in most.phases)
    yield Bar(name, "key_ids", "each once an epoch", rates, _verdict(most.exactly_once), command, date)
    if most.made_up:
        off = most.made_up.off(most.real)
        yield Bar(
            name, "real drawings", f"within {NEAR:.0%}", f"{off:.1%}", _verdict(off <= NEAR), command, date
        )
    if most is not before:
        grown = [
            (mine.name, mine.pss_mb / its.pss_mb)
            for mine, its in zip(most.phases, before.phases, strict=False)
            if mine.name in ("prepare", "stream")
        ]
        figure = ", ".join(f"{phase} {ratio:.2f} ×" for phase, ratio in grown)
        fine = all(ratio <= FLAT for _, ratio in grown)
        bar = f"memory ≤ {FLAT} ×"
        yield Bar(name, f"{before.drawings:,} drawings", bar, figure, _verdict(fine), command, date)
