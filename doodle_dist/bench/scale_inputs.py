"""What `doodle-dist bench scale` reckons with: figures, each with its unit and where it comes from.

*measured* figures are read from the files of benchmarks/results, or stand in LOG.md; *counted* ones follow from a
preset by counting (parameters, floating point operations, kernels); *cited* ones are other people's; *given* ones
were asked for on the command line; *assumed* ones are none of these, and say so wherever they are printed.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from doodle_dist.bench.results import IngestBench, PrepareBench
from doodle_dist.bench.scale_here import Here
from doodle_dist.bench.scale_work import Work
from doodle_dist.config.experiment import Experiment
from doodle_dist.data.stream_plan import WINDOW_DRAWINGS
from doodle_dist.data.stroke_augment import StrokeAugment
from doodle_dist.errors import mismatch

INGEST, PREPARE, HERE = "ingest.json", ("prepare-0.5M.json", "prepare-4M.json"), "scale-inputs.json"
_WRITTEN_BY = {
    INGEST: f"bench ingest DATA -o {INGEST}",
    PREPARE[0]: f"bench prepare -o {PREPARE[0]}",
    PREPARE[1]: f"bench prepare --drawings 4000000 -o {PREPARE[1]}",
    HERE: "bench scale --measure DRAWINGS",
}
_STREAM_LOG = "measured: LOG.md, 2026-11-25, CPU seconds of each part of the stream"
GRADIENT_BYTES = 4  # of a parameter: float32, as DDP adds them up
_Result = TypeVar("_Result", bound=BaseModel)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Figure(_Frozen):
    """A number, its unit, and its source: how and where it was found."""

    value: float
    unit: str
    source: str


class Inputs(_Frozen):
    """Everything that the model knows. Core seconds are of one core of the machine that was measured."""

    drawings: Figure
    raster: Figure
    stroke_augment: Figure
    read: Figure
    ray: Figure
    system: Figure
    prepare_fixed: Figure
    prepare_work: Figure
    prepare_chunks: Figure
    requests_per_part: Figure
    shard_drawings: Figure
    group_rows: Figure
    open_shards: Figure
    window_drawings: Figure
    raster_threads: Figure
    requests_per_open: Figure
    bytes_per_open: Figure
    requests_per_group: Figure
    bytes_per_row: Figure
    lanes: Figure
    global_batch: Figure
    parameters: Figure
    flops: Figure
    kernels: Figure
    launch: Figure
    gpu_rate: Figure
    loopback: Figure
    nvlink: Figure
    network: Figure
    store_bandwidth: Figure
    store_requests: Figure
    cores_per_node: Figure
    price: Figure | None = None

    def feed(self, nodes: int) -> float:
        """Core seconds from a shard to a picture in a worker. A single node's workers read without Ray Data."""
        parts = [self.raster, self.stroke_augment, self.read, self.system]
        if nodes > 1:
            parts.append(self.ray)
        return sum(part.value for part in parts)


class Asked(_Frozen):
    """What the command line may say. None: the default, cited or assumed."""

    drawings: int | None = None
    cores_per_node: int | None = None
    step_drawings_per_s: float | None = None
    flop_fraction: float | None = None
    network_gbit: float | None = None
    store_gbit: float | None = None
    price_per_gpu_hour: float | None = None


def load_result(results: Path, name: str, kind: type[_Result]) -> _Result:
    """A file of benchmarks/results. Raises ValueError, naming the command that writes it."""
    where = results / name
    if not where.is_file():
        raise ValueError(
            f"{results} holds no {name}; --root should be a checkout's folder, and `doodle-dist {_WRITTEN_BY[name]}` "
            "writes the file"
        )
    try:
        return kind.model_validate_json(where.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{where}: {mismatch(error)}") from None


_DRAWINGS, _FILES = 50_000_000, 340  # a file a category
_PEAK_FLOPS, _FLOP_FRACTION = 989.4e12, 0.1


def _given(value: float | None, unit: str, option: str, default: Callable[[], Figure]) -> Figure:
    return default() if value is None else Figure(value=value, unit=unit, source=f"given: {option}")


def _figure(value: float, unit: str, source: str) -> Figure:
    return Figure(value=value, unit=unit, source=source)


def collect(results: Path, experiment: Experiment, work: Work, asked: Asked) -> Inputs:
    """All inputs: from the results' files, the preset and what was asked. Raises ValueError."""
    picture, preparing = _of_a_picture(results, experiment), _of_preparing(results, asked.drawings)
    here = load_result(results, HERE, Here)
    price = asked.price_per_gpu_hour
    return Inputs(
        **picture,
        **preparing,
        **_of_reading(here),
        **_of_a_step(experiment, work, asked),
        **_of_machines(here, asked),
        price=None if price is None else _figure(price, "per GPU hour", "given: --price-per-gpu-hour"),
    )


def _of_preparing(results: Path, drawings: int | None) -> dict[str, Figure]:
    few, many = (load_result(results, name, PrepareBench) for name in PREPARE)
    slope = (many.seconds - few.seconds) / (many.drawings - few.drawings)
    files = zip(PREPARE, (few, many), strict=True)
    prepared = (
        f"measured: {' and '.join(f'{name}, {one.machine.date}' for name, one in files)}, a line through both"
    )
    prepare_bytes = (drawings or _DRAWINGS) * many.bytes_per_line
    return {
        "drawings": _given(
            drawings,
            "drawings",
            "--drawings",
            lambda: _figure(
                _DRAWINGS, "drawings", "cited: the Quick, Draw! dataset's README, 50 million drawings"
            ),
        ),
        "prepare_fixed": _figure(few.seconds - slope * few.drawings, "s", prepared),
        "prepare_work": _figure(slope * many.machine.cores, "core s a drawing", prepared),
        "prepare_chunks": _figure(
            _FILES * math.ceil(prepare_bytes / _FILES / min(max(prepare_bytes / 256, 32 << 20), 128 << 20)),
            "chunks",
            f"counted: data/shards.py, of {prepare_bytes:.3g} bytes in {_FILES} files, "
            f"{many.bytes_per_line:.0f} a line ({PREPARE[1]})",
        ),
        "requests_per_part": _figure(
            2, "requests", "counted: data/exchange.py, a file's length and a range of it"
        ),
    }


def _of_a_picture(results: Path, experiment: Experiment) -> dict[str, Figure]:
    """Core seconds from a shard to a picture in a worker."""
    ingest = load_result(results, INGEST, IngestBench)
    disk = next(one for one in ingest.results if "://" not in one.data)
    changes = not StrokeAugment(**experiment.data.strokes.model_dump()).changes_nothing
    return {
        "raster": _figure(
            disk.workers / disk.raster_alone_per_s,
            "core s a drawing",
            f"measured: {INGEST}, {ingest.machine.date}, the rasteriser alone",
        ),
        "stroke_augment": _figure(
            0.31e-6 if changes else 0.0,
            "core s a drawing",
            "measured: LOG.md, 2026-11-25, stroke augmentation"
            if changes
            else "counted: the preset has none",
        ),
        "read": _figure(0.3e-6, "core s a drawing", _STREAM_LOG),
        "ray": _figure(
            0.275e-6, "core s a drawing", f"{_STREAM_LOG}, Ray Data with blocks of 131,072 drawings"
        ),
        "system": _figure(0.1e-6, "core s a drawing", _STREAM_LOG),
    }


def _of_reading(here: Here) -> dict[str, Figure]:
    laid_out = f"measured: {HERE}, {here.machine.date}, {here.drawings:,} official drawings"
    return {
        "shard_drawings": _figure(262_144, "drawings", "counted: what `data prepare` puts into a shard"),
        "group_rows": _figure(2048, "drawings", "counted: what `data prepare` puts into a row group"),
        "open_shards": _figure(64, "shards", "counted: files that a reader of the stream keeps open"),
        "window_drawings": _figure(
            WINDOW_DRAWINGS, "drawings", "counted: data/stream_plan.py, a block of Ray Data"
        ),
        "requests_per_open": _figure(here.requests_per_open, "requests", laid_out),
        "bytes_per_open": _figure(here.bytes_per_open, "bytes", laid_out),
        "requests_per_group": _figure(here.requests_per_group, "requests", laid_out),
        "bytes_per_row": _figure(here.bytes_per_row, "bytes", laid_out),
    }


def _of_a_step(experiment: Experiment, work: Work, asked: Asked) -> dict[str, Figure]:
    def derived_rate() -> Figure:
        fraction = asked.flop_fraction or _FLOP_FRACTION
        said = "given: --flop-fraction," if asked.flop_fraction else "assumed, not measured here:"
        return _figure(
            _PEAK_FLOPS * fraction / work.flops_per_drawing,
            "drawings/s a GPU",
            f"{said} {fraction:g} of an H100's 989.4 TFLOP/s in bf16 (NVIDIA's datasheet), over the preset's FLOP",
        )

    return {
        "raster_threads": _figure(experiment.data.raster_threads, "threads a worker", "counted: the preset"),
        "lanes": _figure(
            experiment.data.lanes, "lanes", "counted: the preset and --set; as many as GPUs, if more"
        ),
        "global_batch": _figure(experiment.train.global_batch, "drawings", "counted: the preset and --set"),
        "parameters": _figure(work.parameters, "parameters", "counted: the preset's nets"),
        "flops": _figure(
            work.flops_per_drawing,
            "FLOP a drawing",
            "counted: torch.utils.flop_counter's formulas, whole step",
        ),
        "kernels": _figure(
            work.kernels_per_step, "kernels a step", "counted: torch's dispatcher, whole step, eager"
        ),
        "launch": _figure(5e-6, "s a kernel", "cited: susun-blog.com/blog/pegainfer-3-cuda-graph, 4 to 6 µs"),
        "gpu_rate": _given(
            asked.step_drawings_per_s, "drawings/s a GPU", "--step-drawings-per-s", derived_rate
        ),
    }


def _of_machines(here: Here, asked: Asked) -> dict[str, Figure]:
    return {
        "loopback": _figure(
            here.loopback_bytes_per_s,
            "bytes/s a process",
            f"measured: {HERE}, {here.machine.date}, gloo, two processes (for the checks)",
        ),
        "nvlink": _figure(
            370e9, "bytes/s a GPU", "cited: github.com/NVIDIA/nccl issue 1442, H100, one direction"
        ),
        "network": _given(
            asked.network_gbit and asked.network_gbit * 1e9 / 8,
            "bytes/s a node",
            "--network-gbit",
            lambda: _figure(
                55e9 / 8,
                "bytes/s a node",
                "cited: github.com/NVIDIA/nccl issue 235, all-reduce over 100 Gbit/s at 8 to 32 nodes, 50 to 60",
            ),
        ),
        "store_bandwidth": _given(
            asked.store_gbit and asked.store_gbit * 1e9 / 8,
            "bytes/s a node",
            "--store-gbit",
            lambda: _figure(
                100e9 / 8,
                "bytes/s a node",
                "cited: Amazon S3's performance guidelines, 100 Gbit/s an instance",
            ),
        ),
        "store_requests": _figure(
            5500, "requests/s", "cited: repost.aws/knowledge-center/s3-object-key-naming-pattern, a prefix"
        ),
        "cores_per_node": _given(
            asked.cores_per_node,
            "cores",
            "--cores-per-node",
            lambda: _figure(192, "cores", "cited: Amazon EC2's p5.48xlarge, vCPUs"),
        ),
    }
