"""The scale model against what was measured, each figure read from a checkout's benchmarks/results and LOG.md.

A prediction never uses the figure that it is compared with, but where a row's note says so.
"""

import re
import statistics
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict

from doodle_dist.bench.results import IngestBench, PrepareBench
from doodle_dist.bench.scale_inputs import GRADIENT_BYTES, INGEST, PREPARE, Inputs, load_result
from doodle_dist.bench.scale_work import Work, count_work
from doodle_dist.config.load import load_experiment

LADDER = "gan-ladder.json"
_LADDER_CATEGORIES, _LADDER_WORKERS = 12, 2
# What benchmarks/gan_ladder.py adds to presets of one category.
_LABELLED = ("model.generator.conditioning=one-hot", "model.critic.head=projection")
_LADDER_OVERRIDES = {"simple-gan": _LABELLED, "dcgan": _LABELLED}

_PREPARE_ROW = re.compile(r"^\| ([\d,]{6,})[^|]*\| ([\d.]+) \| [\d,]+ \| [\d,]+ MB", re.MULTILINE)
_STREAM_ROW = re.compile(
    r"^\| (strokes travel[^|]*|\+ windows of 131,072[^|]*)\| ([\d,]+)(?:–([\d,]+))? \| ([\d,]+)(?:–([\d,]+))? \|",
    re.MULTILINE,
)
_TRAINING = re.compile(
    r"`([\w-]+)` through Ray Train, two workers, all ([\d,]+) drawings,[^:]*: (\d+) min\s+(\d+) s"
)


_SERVER = "the server had a share of the same cores, which the model knows nothing of"
_PARTS = "what reading and Ray take was found by profiling this stream"
_CORES = 2  # of LOG.md's machine


class Check(BaseModel):
    """A measured figure and what the model says of it. ``error`` is predicted over measured, less 1."""

    model_config = ConfigDict(frozen=True)

    what: str
    source: str
    unit: str
    predicted: float
    measured: float
    error: float
    note: str = ""


def _check(what: str, source: str, unit: str, predicted: float, measured: float, note: str = "") -> Check:
    error = predicted / measured - 1
    return Check(
        what=what, source=source, unit=unit, predicted=predicted, measured=measured, error=error, note=note
    )


def check(inputs: Inputs, results: Path, log: Path) -> list[Check]:
    """Every figure that there is. Raises ValueError where a result's file is missing or not one."""
    text = log.read_text() if log.is_file() else ""
    checks = [*_streams(inputs, results, text), *_prepares(inputs, results, text)]
    if (results / LADDER).is_file():
        checks += _trainings(inputs, results / LADDER, text)
    return checks


def stream_rate(inputs: Inputs, cores: float, raster_alone_per_s: float) -> float:
    """Drawings/s that reach workers on ``cores`` cores whose rasteriser alone gives ``raster_alone_per_s``."""
    around = inputs.read.value + inputs.ray.value + inputs.system.value
    return cores / (cores / raster_alone_per_s + around)


def _streams(inputs: Inputs, results: Path, log: str) -> list[Check]:
    checks = []
    for one in load_result(results, INGEST, IngestBench).results:
        remote = "://" in one.data
        what = f"stream to {one.workers} workers, from " + ("S3" if remote else "disk")
        predicted = stream_rate(inputs, one.workers, one.raster_alone_per_s)
        note = _SERVER if remote else _PARTS
        checks.append(_check(what, INGEST, "drawings/s", predicted, one.stream_per_s, note))
    for shape, alone, alone_to, stream, stream_to in _STREAM_ROW.findall(log):
        what = f"stream: {shape.strip(' +')}"
        predicted = stream_rate(inputs, _CORES, _middle(alone, alone_to))
        note = _PARTS if "windows" in shape else "a smaller window than the model's"
        checks.append(_check(what, "LOG.md", "drawings/s", predicted, _middle(stream, stream_to), note))
    return checks


def _middle(low: str, high: str) -> float:
    return (_whole(low) + _whole(high or low)) / 2


def _whole(text: str) -> int:
    return int(text.replace(",", ""))


def _prepares(inputs: Inputs, results: Path, log: str) -> list[Check]:
    """Prepare from and to a disk. The model is the line through the two results' files."""
    ends = [load_result(results, name, PrepareBench) for name in PREPARE]
    checks = []
    for drawings, seconds in _PREPARE_ROW.findall(log):
        count = _whole(drawings)
        predicted = inputs.prepare_fixed.value + count * inputs.prepare_work.value / _CORES
        is_end = any(end.drawings == count and abs(end.seconds - float(seconds)) < 0.05 for end in ends)
        note = "the line was drawn through it" if is_end else ""
        checks.append(_check(f"prepare {count:,}", "LOG.md", "s", predicted, float(seconds), note))
    return checks


class _Run(BaseModel):
    preset: str
    drawings_per_s: float
    source: str


def _trainings(inputs: Inputs, ladder: Path, log: str) -> list[Check]:
    """Training speeds of two workers on two cores.

    A preset's is predicted from its FLOP and the FLOP/s that the *other* presets reached, their median.
    """
    try:
        rungs = [
            _Run(
                preset=rung["preset"],
                drawings_per_s=rung["drawings_per_s"],
                source=f"{LADDER}, {rung['budget']}",
            )
            for rung in orjson.loads(ladder.read_bytes())["rungs"]
        ]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{ladder} is not what benchmarks/gan_ladder.py writes: {error!r}") from None
    for preset, drawings, minutes, seconds in _TRAINING.findall(log):
        rate = _whole(drawings) / (60 * int(minutes) + int(seconds))
        rungs.append(
            _Run(preset=preset, drawings_per_s=rate, source="LOG.md, checkpoints and judge included")
        )
    work = {
        preset: count_work(preset, _LADDER_CATEGORIES, _LADDER_OVERRIDES.get(preset, ()))
        for preset in dict.fromkeys(rung.preset for rung in rungs)
    }
    checks = []
    for rung in rungs:
        others = [_flops_per_s(inputs, o, work[o.preset]) for o in rungs if o.preset != rung.preset]
        if others:
            own = work[rung.preset]
            seconds = own.flops_per_drawing / statistics.median(others) + _adding_up(inputs, rung.preset, own)
            what = f"train {rung.preset}, {_LADDER_WORKERS} workers"
            checks.append(_check(what, rung.source, "drawings/s", 1 / seconds, rung.drawings_per_s))
    return checks


def _adding_up(inputs: Inputs, preset: str, work: Work) -> float:
    """Seconds of the all-reduce between two processes of a machine, a drawing."""
    return (
        work.parameters * GRADIENT_BYTES / inputs.loopback.value / load_experiment(preset).train.global_batch
    )


def _flops_per_s(inputs: Inputs, run: _Run, work: Work) -> float:
    """What a run reached, its all-reduces left out."""
    return work.flops_per_drawing / (1 / run.drawings_per_s - _adding_up(inputs, run.preset, work))
