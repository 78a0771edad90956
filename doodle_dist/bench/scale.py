"""`doodle-dist bench scale`: what an epoch over 50 million drawings takes on 1, 2, 8 or 32 nodes, by a model.

An epoch's drawings/s is the least of what each part gives, and that part is its bottleneck:

- *a step*: its arithmetic, or the launches of its kernels where the batch of a GPU is small, and the all-reduce after
  it (no overlap is reckoned with). The global batch stays as it is, whatever the number of GPUs, so that the run is
  the same one; more GPUs mean fewer drawings each.
- *the nodes' cores*, which read, reorder and rasterise; and *the threads of a worker* that rasterise.
- *the object store*: its bytes a node, and its requests.

All inputs are in scale_inputs.py with their sources. scale_check.py holds the model against what was measured.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from doodle_dist.bench.machine import Machine, write_result
from doodle_dist.bench.scale_check import Check, check
from doodle_dist.bench.scale_here import measure_here
from doodle_dist.bench.scale_inputs import GRADIENT_BYTES, HERE, Asked, Inputs, collect
from doodle_dist.bench.scale_work import count_work
from doodle_dist.config.load import load_experiment

CATEGORIES = 340

ARITHMETIC, LAUNCHES, ALL_REDUCE = "GPU arithmetic", "kernel launches", "all-reduce"
CORES, THREADS = "CPU cores (stream and rasteriser)", "rasterising threads of a worker"
STORE_BYTES, STORE_REQUESTS = "object store bytes", "object store requests"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Reading(_Frozen):
    """What an epoch asks of the object store."""

    row_groups: float
    opens: float
    requests: float
    bytes: float
    blocks: float


class Epoch(_Frozen):
    """An epoch on ``nodes`` nodes. ``limits`` are the drawings/s that each part would give alone; a step counts as
    one part, and ``step_s`` has its three."""

    nodes: int
    gpus: int
    batch_per_gpu: float
    step_s: dict[str, float]
    limits: dict[str, float]
    bottleneck: str
    drawings_per_s: float
    epoch_s: float
    cores_per_gpu: float
    reading: Reading
    all_reduce_bytes: float
    prepare_s: float
    cost: float | None
    lanes_needed: int


class ScaleBench(_Frozen):
    preset: str
    inputs: Inputs
    epochs: list[Epoch]
    checks: list[Check]
    machine: Machine


def reading(inputs: Inputs, ranks: int) -> Reading:
    """Row groups that windows read, those on their edges twice; files opened for them, requests and bytes.

    A window is a run of steps; each of a rank's lanes gives it a run of rows that begins anywhere in a row group.
    """
    drawings, group = inputs.drawings.value, inputs.group_rows.value
    lanes = max(ranks, inputs.lanes.value)
    lanes_of_rank = lanes / ranks
    lane_step = max(1.0, inputs.global_batch.value / lanes)
    steps = max(1, inputs.window_drawings.value // (lanes_of_rank * lane_step))
    run = min(steps * lane_step, drawings / lanes)  # rows of a lane in a window
    runs = drawings / run
    # A run of r rows from a random row on touches 1 + (r - 1) / g row groups of g rows.
    row_groups = runs * (1 + (run - 1) / group)
    shards = _shards(inputs)
    opens = max(row_groups * max(0.0, 1 - inputs.open_shards.value / shards), shards)
    return Reading(
        row_groups=row_groups,
        opens=opens,
        requests=opens * inputs.requests_per_open.value + row_groups * inputs.requests_per_group.value,
        bytes=opens * inputs.bytes_per_open.value + row_groups * group * inputs.bytes_per_row.value,
        blocks=runs / lanes_of_rank,
    )


def _shards(inputs: Inputs) -> float:
    return max(1.0, inputs.drawings.value / inputs.shard_drawings.value)


def prepare_s(inputs: Inputs, nodes: int) -> float:
    """Seconds of `data prepare` from and to an object store: its cores, or the requests of its exchange.

    Every shard is collected from every chunk's part, so requests grow with the square of the drawings.
    """
    drawings, cores = inputs.drawings.value, nodes * inputs.cores_per_node.value
    exchange = inputs.prepare_chunks.value * _shards(inputs) * inputs.requests_per_part.value
    return inputs.prepare_fixed.value + max(
        drawings * inputs.prepare_work.value / cores, exchange / inputs.store_requests.value
    )


def all_reduce_s(inputs: Inputs, nodes: int, gpus_per_node: int) -> float:
    """Seconds to add up a step's gradients: a ring of n sends 2(n - 1)/n of them over its slowest part (Patarasuk &
    Yuan 2009), over NVLink inside a node, then between the nodes."""
    gradients = inputs.parameters.value * GRADIENT_BYTES
    inside = 2 * (gpus_per_node - 1) / gpus_per_node * gradients / inputs.nvlink.value
    between = 2 * (nodes - 1) / nodes * gradients / inputs.network.value
    return inside + between


def predict(inputs: Inputs, nodes: int, gpus_per_node: int) -> Epoch:
    """An epoch of all drawings. Raises ValueError where a GPU would have less than a drawing a step."""
    gpus, batch, drawings = nodes * gpus_per_node, inputs.global_batch.value, inputs.drawings.value
    if batch < gpus:
        raise ValueError(
            f"train.global_batch={batch:g} leaves some of {gpus} GPUs without a drawing; allowed: {gpus} and more "
            "(--set train.global_batch=…), or fewer --nodes"
        )
    each = batch / gpus
    computing = {
        ARITHMETIC: each / inputs.gpu_rate.value,
        LAUNCHES: inputs.kernels.value * inputs.launch.value,
    }
    step_s = computing | {ALL_REDUCE: all_reduce_s(inputs, nodes, gpus_per_node)}
    step_rate = batch / (max(computing.values()) + step_s[ALL_REDUCE])
    asked = reading(inputs, gpus)
    limits = {
        max(step_s, key=lambda part: step_s[part]): step_rate,
        CORES: nodes * inputs.cores_per_node.value / inputs.feed(nodes),
        THREADS: gpus * inputs.raster_threads.value / (inputs.raster.value + inputs.stroke_augment.value),
        STORE_BYTES: nodes * inputs.store_bandwidth.value / (asked.bytes / drawings),
        STORE_REQUESTS: inputs.store_requests.value / (asked.requests / drawings),
    }
    bottleneck = min(limits, key=lambda part: limits[part])
    rate = limits[bottleneck]
    seconds = drawings / rate
    return Epoch(
        nodes=nodes,
        gpus=gpus,
        batch_per_gpu=each,
        step_s=step_s,
        limits=limits,
        bottleneck=bottleneck,
        drawings_per_s=rate,
        epoch_s=seconds,
        cores_per_gpu=step_rate / gpus * inputs.feed(nodes),
        reading=asked,
        all_reduce_bytes=inputs.parameters.value * GRADIENT_BYTES * math.ceil(drawings / batch),
        prepare_s=prepare_s(inputs, nodes),
        cost=None if inputs.price is None else seconds / 3600 * gpus * inputs.price.value,
        lanes_needed=int(max(gpus, inputs.lanes.value)),
    )


# --- the command --------------------------------------------------------------------------------------------


def parse_nodes(text: str) -> list[int]:
    """``1,2,8,32`` as numbers. Raises ValueError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"--nodes {text}: should be numbers of nodes from 1 on, such as 1,2,8,32")
    return [int(part) for part in parts]


def run(
    preset: str, nodes: Sequence[int], gpus_per_node: int, overrides: Sequence[str], asked: Asked, root: Path
) -> ScaleBench:
    """The model for a preset of 340 categories, and its checks; ``root`` is a checkout's folder, whose
    benchmarks/results and LOG.md hold what was measured. Raises ValueError."""
    experiment = load_experiment(preset, overrides)
    results = root / "benchmarks" / "results"
    inputs = collect(results, experiment, count_work(preset, CATEGORIES, overrides), asked)
    return ScaleBench(
        preset=preset,
        inputs=inputs,
        epochs=[predict(inputs, n, gpus_per_node) for n in nodes],
        checks=check(inputs, results, root / "LOG.md"),
        machine=Machine.here(),
    )


def main(
    preset: str,
    nodes: str,
    gpus_per_node: int,
    overrides: list[str],
    asked: Asked,
    *,
    root: Path,
    measure: str,
    as_json: bool,
    output: Path | None,
) -> None:
    """Measure what is asked for, predict, check and print."""
    wanted = parse_nodes(nodes)
    if measure:
        # What is printed is one JSON document, where that was asked for.
        where = root / "benchmarks" / "results" / HERE
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(measure_here(measure).model_dump_json(indent=2) + "\n")
    result = run(preset, wanted, gpus_per_node, overrides, asked, root)
    if as_json:
        print(result.model_dump_json(indent=2))
        if output is not None:
            output.write_text(result.model_dump_json(indent=2) + "\n")
        return
    _print(result)
    write_result(output, result)


def _print(result: ScaleBench) -> None:
    console = Console()
    inputs = result.inputs
    console.print(f"{result.preset}, {inputs.drawings.value:,.0f} drawings of {CATEGORIES} categories")
    sources = Table("input", "value", "unit", "source")
    for name in Inputs.model_fields:
        figure = getattr(inputs, name)
        if figure is not None:
            sources.add_row(name, _number(figure.value), figure.unit, figure.source)
    console.print(sources)
    console.print(_epochs(result.epochs))
    for epoch in result.epochs:
        limits = ", ".join(
            f"{part} {rate:,.0f}" for part, rate in sorted(epoch.limits.items(), key=lambda kv: kv[1])
        )
        parts = ", ".join(f"{part} {seconds * 1e3:.3g}" for part, seconds in epoch.step_s.items())
        nodes = "1 node" if epoch.nodes == 1 else f"{epoch.nodes} nodes"
        console.print(f"{nodes}: drawings/s by {limits}; a step's ms: {parts}")
    lanes = max(epoch.lanes_needed for epoch in result.epochs)
    if lanes > inputs.lanes.value:
        console.print(
            f"{lanes} workers need --set data.lanes={lanes}, in every run that is to be the same one."
        )
    checks = Table("measured", "source", "unit", "predicted", "measured", "error", "")
    for one in result.checks:
        checks.add_row(
            one.what,
            one.source,
            one.unit,
            _number(one.predicted),
            _number(one.measured),
            f"{one.error:+.0%}",
            one.note,
        )
    console.print(checks)


def _epochs(epochs: Sequence[Epoch]) -> Table:
    table = Table(
        "nodes", "GPUs", "batch a GPU", "epoch", "drawings/s", "bottleneck", "cores a GPU to feed it", "requests",
        "GB read", "blocks", "GB all-reduced", "prepare", "cost",
    )  # fmt: skip
    for epoch in epochs:
        table.add_row(
            f"{epoch.nodes}",
            f"{epoch.gpus}",
            f"{epoch.batch_per_gpu:g}",
            _duration(epoch.epoch_s),
            f"{epoch.drawings_per_s:,.0f}",
            epoch.bottleneck,
            f"{epoch.cores_per_gpu:.2f}",
            f"{epoch.reading.requests:,.0f}",
            f"{epoch.reading.bytes / 1e9:.2f}",
            f"{epoch.reading.blocks:,.0f}",
            f"{epoch.all_reduce_bytes / 1e9:,.0f}",
            _duration(epoch.prepare_s),
            "" if epoch.cost is None else f"{epoch.cost:,.2f}",
        )
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
