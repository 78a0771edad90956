"""`doodle-dist bench process`: a whole `doodle-dist train`, against the same steps in a plain PyTorch loop.

The plain loop has every raster in memory, shuffles row numbers, and takes the task's own step on the same batches'
size, on one thread (on a GPU, where there is one), and looks at its health after each, as training does. Nothing
else: no Ray, no stream, no checkpoints, no curves. Training is the command itself, with one worker on a Ray of its
own; its drawings/s are those between its first log and its last, by the clock of its TensorBoard file, so whatever it
does between the two is counted. That is no checkpoint and no evaluation: they come every 100,000 drawings, and at the
end. Both run in turns, each in a process of its own, on the same made-up drawings.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from doodle_dist.bench.commands import output_of
from doodle_dist.bench.machine import Machine, write_result
from doodle_dist.config.load import load_experiment
from doodle_dist.run.snapshot import best_device, device_name

PRESETS = ("doodle-gan-small", "classifier-small")
BAR = 0.95
_DRAWINGS, _CATEGORIES = 24_000, 12
_WARM_UP_STEPS = 5


class ProcessTimes(BaseModel):
    """Drawings/s, medians over rounds; ``ratio`` is the median of the rounds' ratios, training over the plain loop.
    ``data_wait`` is the share of its time in which training waited for the stream, as it logs it itself."""

    model_config = ConfigDict(frozen=True)

    preset: str
    batch: int
    drawings: int
    training_per_s: float
    plain_per_s: float
    ratio: float
    ratios: list[float]
    data_wait: float
    device: str = "cpu"


class ProcessBench(BaseModel):
    model_config = ConfigDict(frozen=True)

    results: list[ProcessTimes]
    machine: Machine


# --- the plain loop -----------------------------------------------------------------------------------------


def plain_loop(preset: str, data: str, seconds: float) -> float:
    """Drawings/s of the plain loop."""
    from doodle_dist.bench.train import our_step
    from doodle_dist.data.manifest import load_manifest
    from doodle_dist.data.stream import rank_batches
    from doodle_dist.data.stream_plan import plan_stream
    from doodle_dist.data.stream_rows import RowGroupsInMemory
    from doodle_dist.pictures import to_device, to_images

    torch.set_num_threads(1)
    torch.manual_seed(0)
    experiment = load_experiment(preset, [])
    manifest, batch = load_manifest(data), experiment.train.global_batch
    plan = plan_stream(manifest, data, "train", global_batch=batch)
    held = list(rank_batches(plan, memory=RowGroupsInMemory([plan])))
    pixels = torch.cat([torch.from_numpy(one.pixels.copy()) for one in held]).numpy()
    labels = torch.cat([torch.from_numpy(one.labels.copy()) for one in held])
    device, number, began, seen = best_device(), 0, 0.0, 0
    step = our_step(experiment, len(manifest.categories), device)
    while True:
        for rows in torch.randperm(len(labels)).split(batch):
            if len(rows) < batch:
                continue
            step(to_images(pixels[rows.numpy()], device), to_device(labels[rows].numpy(), device), number)
            number += 1
            seen += batch
            if number == _WARM_UP_STEPS:
                began, seen = time.perf_counter(), 0
            elif began and time.perf_counter() - began > seconds:
                return seen / (time.perf_counter() - began)


# --- the training -------------------------------------------------------------------------------------------


def training(preset: str, data: Path, folder: Path, drawings: int, log_every: int) -> tuple[float, float]:
    """(drawings/s, share of the time that it waited for data) of a `doodle-dist train` of its own."""
    settings = [f"train.drawings={drawings}", f"train.log_every_drawings={log_every}"]
    settings += ["train.checkpoint_every_drawings=0"]  # at its end alone, which isn't timed
    command = [sys.executable, "-m", "doodle_dist.cli", "train", preset, "--local", "--workers", "1"]
    command += ["--data", str(data), "--storage", str(folder), "--run", "process"]
    command += ["--gpus", "1"] if best_device().type == "cuda" else []
    for setting in settings:
        command += ["--set", setting]
    output_of(command)
    logs = [
        line
        for line in map(json.loads, (folder / "process" / "metrics.jsonl").read_text().splitlines())
        if "speed/drawings_per_s" in line
    ]
    times = wall_times(folder / "process" / "tensorboard", "speed/drawings_per_s")
    first, last = logs[0]["drawings_seen"], logs[-1]["drawings_seen"]
    waits = [line["speed/data_wait_fraction"] for line in logs[1:]]
    return (last - first) / (times[last] - times[first]), statistics.fmean(waits)


def wall_times(folder: Path, tag: str) -> dict[int, float]:
    """The time (of the clock) at which each value of a curve was written, by its step."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    return {
        event.step: float(event.wall_time)
        for file in sorted(folder.rglob("events*"))
        for event in EventFileLoader(str(file)).Load()
        if any(value.tag == tag for value in event.summary.value)
    }


def measure(preset: str, data: Path, folder: Path, seconds: float, rounds: int) -> ProcessTimes:
    """Both in turns, about ``seconds`` each; ``folder`` is for this preset's runs alone."""
    experiment = load_experiment(preset, [])
    if experiment.task not in ("gan", "classifier"):
        raise ValueError(
            f"bench process: {preset} is a {experiment.task}; allowed: presets of gan or classifier"
        )
    plain, trained, waits, drawings = [], [], [], 0
    for k in range(rounds):
        command = [sys.executable, "-m", "doodle_dist.bench.process", preset, str(data), str(seconds)]
        plain.append(float(output_of(command).splitlines()[-1]))
        log_every = max(experiment.train.global_batch, round(plain[0]))  # about a second
        drawings = round(seconds * plain[0]) + 2 * log_every
        rate, wait = training(preset, data, folder / f"{k}", drawings, log_every)
        trained.append(rate)
        waits.append(wait)
    ratios = [its / mine for its, mine in zip(trained, plain, strict=True)]
    return ProcessTimes(
        preset=preset,
        batch=experiment.train.global_batch,
        drawings=drawings,
        training_per_s=statistics.median(trained),
        plain_per_s=statistics.median(plain),
        ratio=statistics.median(ratios),
        ratios=ratios,
        data_wait=statistics.median(waits),
        device=device_name(best_device()),
    )


def main(presets: list[str], seconds: float, rounds: int, output: Path | None) -> None:
    """Measure each preset and print a table."""
    results = []
    with tempfile.TemporaryDirectory(prefix="doodle-dist-bench-") as place:
        where = Path(place)
        raw, data = where / "raw", where / "data"
        cli = [sys.executable, "-m", "doodle_dist.cli"]
        synth = f"data synth --drawings {_DRAWINGS} --categories {_CATEGORIES} --to {raw}"
        output_of([*cli, *synth.split()])
        output_of([*cli, *f"data prepare --local --source {raw} --to {data}".split()])
        for number, preset in enumerate(presets or PRESETS):
            # A preset may be a file anywhere: its name is no name for a folder of ours.
            results.append(measure(preset, data, where / f"runs-{number}", seconds, rounds))
    table = Table("preset", "batch", "training /s", "plain loop /s", "ratio", "waits for data", "")
    for r in results:
        table.add_row(
            r.preset,
            f"{r.batch}",
            f"{r.training_per_s:,.0f}",
            f"{r.plain_per_s:,.0f}",
            f"{r.ratio:.3f}",
            f"{r.data_wait:.2%}",
            "" if r.ratio >= BAR else f"below {BAR}",
        )
    Console().print(table)
    write_result(output, ProcessBench(results=results, machine=Machine.here()))


if __name__ == "__main__":
    print(plain_loop(sys.argv[1], sys.argv[2], float(sys.argv[3])))
