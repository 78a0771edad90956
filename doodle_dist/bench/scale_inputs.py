"""What `doodle-dist bench scale` reckons with: figures, each with its unit and where it comes from.

*measured* figures are read from the files of benchmarks/results, or stand in LOG.md; *counted* ones follow from a
preset by counting (parameters, floating point operations, kernels); *cited* ones are other people's; *given* ones
were asked for on the command line; *assumed* ones are none of these, and say so wherever they are printed.
"""

import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist
from pydantic import BaseModel, ConfigDict, ValidationError
from torch.multiprocessing.spawn import spawn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import conv_flop_count, flop_registry

from doodle_dist.bench.machine import Machine
from doodle_dist.bench.results import IngestBench, PrepareBench
from doodle_dist.bench.train import our_step
from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import load_experiment
from doodle_dist.data import locations, storage
from doodle_dist.data.exchange import gather, scatter, write_index
from doodle_dist.data.shards import PrepareRequest
from doodle_dist.data.sources import categories_of, find_sources
from doodle_dist.data.stream_plan import WINDOW_DRAWINGS
from doodle_dist.data.stroke_augment import StrokeAugment
from doodle_dist.errors import mismatch
from doodle_dist.models.registry import build_classifier, build_critic, build_generator

INGEST, PREPARE, HERE = "ingest.json", ("prepare-0.5M.json", "prepare-4M.json"), "scale-inputs.json"
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


class Here(_Frozen):
    """What `bench scale --measure DRAWINGS` finds on a machine: the layout of a shard of real drawings, read as the
    stream reads it, and how fast two processes add up gradients over the loopback."""

    drawings: int
    shard_bytes_per_drawing: float
    requests_per_open: float  # the store is asked for the file's length too
    bytes_per_open: float
    requests_per_group: float
    bytes_per_row: float
    loopback_bytes_per_s: float
    machine: Machine


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

    @property
    def feed(self) -> float:
        """Core seconds from a shard to a picture in a worker."""
        parts = (self.raster, self.stroke_augment, self.read, self.ray, self.system)
        return sum(part.value for part in parts)


class Work(_Frozen):
    """A training step of a preset, counted: parameters that are trained, FLOP a drawing, kernels a step."""

    parameters: int
    flops_per_drawing: float
    kernels_per_step: float


class Asked(_Frozen):
    """What the command line may say. None: the default, cited or assumed."""

    drawings: int | None = None
    cores_per_node: int | None = None
    step_drawings_per_s: float | None = None
    flop_fraction: float | None = None
    network_gbit: float | None = None
    store_gbit: float | None = None
    price_per_gpu_hour: float | None = None


# --- counting -----------------------------------------------------------------------------------------------


class _Counter(TorchDispatchMode):
    """Counts floating point operations, by torch's formulas, and operators that compute something: on a GPU each
    is a kernel or a few.

    FlopCounterMode itself also follows modules, which breaks in the gradient of a gradient.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.kernels = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution_backward.default:
            # torch's own formula takes a grouped convolution for a full one.
            gradient, pictures, weight, *_, wanted = args
            forward = conv_flop_count(pictures.shape, weight.shape, gradient.shape, transposed=args[7])
            self.flops += forward * sum(wanted[:2])
        elif formula := flop_registry.get(func._overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
        self.kernels += not (func.is_view or "empty" in func.name() or "detach" in func.name())
        return result


def count_work(preset: str, categories: int, overrides: Sequence[str] = ()) -> Work:
    """Take as many small steps of a preset on the CPU as its lazy updates have a period, and count.

    Raises ValueError for a preset that is neither of a GAN nor of a classifier.
    """
    small = [*overrides, "train.global_batch=2", "data.lanes=2", "precision=fp32"]
    experiment = load_experiment(preset, small)
    if experiment.task not in ("gan", "classifier"):
        raise ValueError(
            f"bench scale: {preset} is a {experiment.task}; allowed: presets of gan or classifier"
        )
    torch.manual_seed(0)
    step = our_step(experiment, categories)
    shape = experiment.train.global_batch
    pictures, labels = torch.rand(shape, 1, 28, 28) * 2 - 1, torch.arange(shape) % categories
    period = 1
    if experiment.task == "gan":
        period = min(experiment.gan.adversarial.penalty_every * experiment.gan.updates.critic_updates, 16)
    step(pictures, labels, period)  # optimizers make their state at the first step
    with _Counter() as counted:
        for number in range(period):
            step(pictures, labels, number)
    return Work(
        parameters=_parameters(experiment, categories),
        flops_per_drawing=counted.flops / period / shape,
        kernels_per_step=counted.kernels / period,
    )


def _parameters(experiment: Experiment, categories: int) -> int:
    model, shape = experiment.model, {"num_categories": categories, "side": 28, "channels": 1}
    nets = [
        build_classifier(model.classifier, **shape) if model.classifier else None,
        build_generator(model.generator, **shape) if model.generator else None,
        build_critic(model.critic, **shape) if model.critic else None,
    ]
    return sum(p.numel() for net in nets if net is not None for p in net.parameters())


# --- measuring ----------------------------------------------------------------------------------------------


class _CountedFile(io.BytesIO):
    """A file in memory that notes how long each read was."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: list[int] = []

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.reads.append(len(data))
        return data


def shard_of(drawings: str, folder: Path) -> bytes:
    """One shard of the official drawings at ``drawings``, as `data prepare` writes it."""
    sources = tuple(find_sources([drawings]))
    request = PrepareRequest(
        sources, categories_of(sources), str(folder), split_percents=(100, 0, 0), shards=1
    )
    exchange = request.exchange()
    for number, chunk in enumerate(request.chunks()):
        scatter(exchange, number, chunk)
    notes = [orjson.loads(file.read_bytes()) for file in sorted(Path(exchange.staging).glob("chunk-*.json"))]
    write_index(exchange, notes)
    gather(exchange, 0, sum(len(note["parts"]) for note in notes))
    return storage.read_bytes(locations.join(exchange.to, exchange.path_of(0)))


def measure_here(drawings: str) -> Here:
    """Lay out and read a shard of real drawings; add up gradients over the loopback."""
    with tempfile.TemporaryDirectory(prefix="doodle-dist-scale-") as folder:
        data = shard_of(drawings, Path(folder))
    counted = _CountedFile(data)
    # As the stream opens what lies in an object store.
    file = pq.ParquetFile(pa.PythonFile(counted, mode="r"), pre_buffer=True, page_checksum_verification=True)
    opened = list(counted.reads)
    counted.reads.clear()
    full = list(range(file.num_row_groups - 1)) or [0]
    rows = sum(
        len(file.read_row_group(k, columns=["key_id", "label", "strokes"], use_threads=False)) for k in full
    )
    return Here(
        drawings=file.metadata.num_rows,
        shard_bytes_per_drawing=len(data) / file.metadata.num_rows,
        requests_per_open=1 + len(opened),
        bytes_per_open=sum(opened),
        requests_per_group=len(counted.reads) / len(full),
        bytes_per_row=sum(counted.reads) / rows,
        loopback_bytes_per_s=measure_loopback(),
        machine=Machine.here(),
    )


_LOOPBACK_BYTES, _LOOPBACK_ROUNDS = 32 << 20, 5


def _add_up(rank: int, meeting: str, result: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    gradients = torch.ones(_LOOPBACK_BYTES // 4)
    times = []
    for _ in range(_LOOPBACK_ROUNDS):
        dist.barrier()
        began = time.perf_counter()
        dist.all_reduce(gradients)
        times.append(time.perf_counter() - began)
    if rank == 0:
        Path(result).write_text(str(float(np.median(times))))
    dist.destroy_process_group()


def measure_loopback() -> float:
    """Bytes/s at which each of two processes of this machine sends in an all-reduce (gloo): of n ranks, each sends
    2(n - 1)/n of the gradients (Patarasuk & Yuan 2009, ring all-reduce)."""
    with tempfile.TemporaryDirectory(prefix="doodle-dist-loopback-") as folder:
        result = f"{folder}/seconds"
        spawn(_add_up, (f"{folder}/meeting", result), nprocs=2)
        return _LOOPBACK_BYTES / float(Path(result).read_text())


# --- collecting ---------------------------------------------------------------------------------------------


def load_result(results: Path, name: str, kind: type[_Result]) -> _Result:
    """A file of benchmarks/results. Raises ValueError, naming the command that writes it."""
    where = results / name
    if not where.is_file():
        raise ValueError(
            f"--results {results} holds no {name}; it should be a checkout's benchmarks/results, whose README names "
            "the command that writes each file"
        )
    try:
        return kind.model_validate_json(where.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{where}: {mismatch(error)}") from None


_DRAWINGS = 50_000_000
_PEAK_FLOPS, _FLOP_FRACTION = 989.4e12, 0.1


def _given(value: float | None, unit: str, option: str, default: Callable[[], Figure]) -> Figure:
    return default() if value is None else Figure(value=value, unit=unit, source=f"given: {option}")


def collect(results: Path, experiment: Experiment, work: Work, asked: Asked) -> Inputs:
    """All inputs: from the results' files, the preset and what was asked. Raises ValueError."""
    ingest = load_result(results, INGEST, IngestBench)
    few, many = (load_result(results, name, PrepareBench) for name in PREPARE)
    here = load_result(results, HERE, Here)
    disk = next(one for one in ingest.results if "://" not in one.data)
    slope = (many.seconds - few.seconds) / (many.drawings - few.drawings)
    prepared = f"measured: {PREPARE[0]} and {PREPARE[1]}, {many.machine.date}, a line through both"
    laid_out = f"measured: {HERE}, {here.machine.date}, {here.drawings:,} official drawings"
    changes = not StrokeAugment(**experiment.data.strokes.model_dump()).changes_nothing
    fraction = asked.flop_fraction or _FLOP_FRACTION
    prepare_bytes = (asked.drawings or _DRAWINGS) * many.bytes_per_line

    def figure(value: float, unit: str, source: str) -> Figure:
        return Figure(value=value, unit=unit, source=source)

    def derived_rate() -> Figure:
        said = "given: --flop-fraction," if asked.flop_fraction else "assumed, not measured here:"
        return figure(
            _PEAK_FLOPS * fraction / work.flops_per_drawing,
            "drawings/s a GPU",
            f"{said} {fraction:g} of an H100's 989.4 TFLOP/s in bf16 (NVIDIA's datasheet), over the preset's FLOP",
        )

    return Inputs(
        drawings=_given(
            asked.drawings,
            "drawings",
            "--drawings",
            lambda: figure(
                _DRAWINGS, "drawings", "cited: the Quick, Draw! dataset's README, 50 million drawings"
            ),
        ),
        raster=figure(
            disk.workers / disk.raster_alone_per_s,
            "core s a drawing",
            f"measured: {INGEST}, {ingest.machine.date}, the rasteriser alone",
        ),
        stroke_augment=figure(
            0.31e-6 if changes else 0.0,
            "core s a drawing",
            "measured: LOG.md, 2026-11-25, stroke augmentation"
            if changes
            else "counted: the preset has none",
        ),
        read=figure(0.3e-6, "core s a drawing", _STREAM_LOG),
        ray=figure(0.275e-6, "core s a drawing", f"{_STREAM_LOG}, Ray Data with blocks of 131,072 drawings"),
        system=figure(0.1e-6, "core s a drawing", _STREAM_LOG),
        prepare_fixed=figure(few.seconds - slope * few.drawings, "s", prepared),
        prepare_work=figure(slope * many.machine.cores, "core s a drawing", prepared),
        prepare_chunks=figure(
            prepare_bytes / min(max(prepare_bytes / 256, 32 << 20), 128 << 20),
            "chunks",
            f"counted: data/shards.py, of {prepare_bytes:.3g} bytes, {many.bytes_per_line:.0f} a line ({PREPARE[1]})",
        ),
        requests_per_part=figure(
            2, "requests", "counted: data/exchange.py, a file's length and a range of it"
        ),
        shard_drawings=figure(262_144, "drawings", "counted: what `data prepare` puts into a shard"),
        group_rows=figure(2048, "drawings", "counted: what `data prepare` puts into a row group"),
        open_shards=figure(64, "shards", "counted: files that a reader of the stream keeps open"),
        window_drawings=figure(
            WINDOW_DRAWINGS, "drawings", "counted: data/stream_plan.py, a block of Ray Data"
        ),
        raster_threads=figure(experiment.data.raster_threads, "threads a worker", "counted: the preset"),
        requests_per_open=figure(here.requests_per_open, "requests", laid_out),
        bytes_per_open=figure(here.bytes_per_open, "bytes", laid_out),
        requests_per_group=figure(here.requests_per_group, "requests", laid_out),
        bytes_per_row=figure(here.bytes_per_row, "bytes", laid_out),
        lanes=figure(
            experiment.data.lanes, "lanes", "counted: the preset and --set; as many as GPUs, if more"
        ),
        global_batch=figure(experiment.train.global_batch, "drawings", "counted: the preset and --set"),
        parameters=figure(work.parameters, "parameters", "counted: the preset's nets"),
        flops=figure(
            work.flops_per_drawing,
            "FLOP a drawing",
            "counted: torch.utils.flop_counter's formulas, whole step",
        ),
        kernels=figure(
            work.kernels_per_step, "kernels a step", "counted: torch's dispatcher, whole step, eager"
        ),
        launch=figure(5e-6, "s a kernel", "cited: susun-blog.com/blog/pegainfer-3-cuda-graph, 4 to 6 µs"),
        gpu_rate=_given(asked.step_drawings_per_s, "drawings/s a GPU", "--step-drawings-per-s", derived_rate),
        loopback=figure(
            here.loopback_bytes_per_s,
            "bytes/s a process",
            f"measured: {HERE}, {here.machine.date}, gloo, two processes (for the checks)",
        ),
        nvlink=figure(
            370e9, "bytes/s a GPU", "cited: github.com/NVIDIA/nccl issue 1442, H100, one direction"
        ),
        network=_given(
            asked.network_gbit and asked.network_gbit * 1e9 / 8,
            "bytes/s a node",
            "--network-gbit",
            lambda: figure(
                55e9 / 8,
                "bytes/s a node",
                "cited: github.com/NVIDIA/nccl issue 235, all-reduce over 100 Gbit/s at 8 to 32 nodes, 50 to 60",
            ),
        ),
        store_bandwidth=_given(
            asked.store_gbit and asked.store_gbit * 1e9 / 8,
            "bytes/s a node",
            "--store-gbit",
            lambda: figure(
                100e9 / 8,
                "bytes/s a node",
                "cited: Amazon S3's performance guidelines, 100 Gbit/s an instance",
            ),
        ),
        store_requests=figure(
            5500, "requests/s", "cited: repost.aws/knowledge-center/s3-object-key-naming-pattern, a prefix"
        ),
        cores_per_node=_given(
            asked.cores_per_node,
            "cores",
            "--cores-per-node",
            lambda: figure(192, "cores", "cited: Amazon EC2's p5.48xlarge, vCPUs"),
        ),
        price=None
        if asked.price_per_gpu_hour is None
        else figure(asked.price_per_gpu_hour, "per GPU hour", "given: --price-per-gpu-hour"),
    )
