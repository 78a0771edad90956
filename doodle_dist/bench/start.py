"""`doodle-dist bench start`: seconds from Enter to the first training step, and the floor under them.

The floor is an empty training as one writes it with Ray Train's TorchTrainer on this machine: a Python that imports
Ray Train and torch, starts Ray, and runs a worker that does nothing but look at the clock. Both are measured in turns,
in processes of their own, with made-up drawings prepared before.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from doodle_dist.bench.commands import output_of
from doodle_dist.bench.machine import Machine, write_result

_PRESET, _DRAWINGS, _CATEGORIES = "doodle-gan-small", 4_000, 4
HELP_BAR_S, FIRST_STEP_BAR_S, OVER_FLOOR_S = 0.4, 12.0, 2.0

_EMPTY_TRAINING = """
import sys, time
from pathlib import Path
import ray, ray.train
from ray.train.torch import TorchConfig, TorchTrainer
folder, workers = sys.argv[1], int(sys.argv[2])
cpus = max(workers + 1, int(sys.argv[3]))
ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
def loop(config):
    if ray.train.get_context().get_world_rank() == 0:
        Path(config["note"]).write_text(str(time.time()))
TorchTrainer(
    loop,
    train_loop_config={"note": folder + "/began"},
    torch_config=TorchConfig(backend="gloo"),
    scaling_config=ray.train.ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 1}),
    run_config=ray.train.RunConfig(name="empty", storage_path=folder),
).fit()
"""


class StartBench(BaseModel):
    """Seconds, medians over rounds: of `--help`, from Enter to the end of the first step, and to an empty
    training's first line."""

    model_config = ConfigDict(frozen=True)

    workers: int
    rounds: int
    help_s: float
    first_step_s: float
    floor_s: float
    over_floor_s: float  # median of the rounds' differences
    machine: Machine

    @property
    def is_fast(self) -> bool:
        """Whether the first step is soon enough: by itself, or by what it takes over its own round's floor."""
        return self.first_step_s <= FIRST_STEP_BAR_S or self.over_floor_s <= OVER_FLOOR_S


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "doodle_dist.cli", *arguments]


def _run(command: list[str]) -> float:
    """The time (of the clock) at which a command was begun, once it has ended. Raises WorkFailedError."""
    began = time.time()
    output_of(command)
    return began


def help_seconds() -> float:
    """Seconds of `doodle-dist --help`, from beginning to end."""
    return -(_run(_command("--help")) - time.time())


def floor_seconds(folder: Path, workers: int, cores: int) -> float:
    """Seconds until the worker of an empty training runs; ``folder`` is for what Ray Train writes."""
    began = _run([sys.executable, "-c", _EMPTY_TRAINING, str(folder), str(workers), str(cores)])
    return float((folder / "began").read_text()) - began


def first_step_seconds(data: Path, folder: Path, workers: int) -> float:
    """Seconds until the first log of a training that logs its first step, as its TensorBoard file dates it."""
    settings = ["train.drawings=128", "train.log_every_drawings=1"]
    began = _run(
        _command(
            "train",
            _PRESET,
            *("--local", "--workers", str(workers), "--data", str(data)),
            *("--storage", str(folder), "--run", "start"),
            *(part for setting in settings for part in ("--set", setting)),
        )
    )
    events = sorted((folder / "start" / "tensorboard").rglob("events*"))
    return _first_scalar_time(events[0]) - began


def _first_scalar_time(file: Path) -> float:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    for event in EventFileLoader(str(file)).Load():
        if any(value.tag.startswith("loss/") for value in event.summary.value):
            return float(event.wall_time)
    raise AssertionError(f"{file} holds no loss")


def run(workers: int, rounds: int) -> StartBench:
    """Measure, in turns; about a minute a round on two cores."""
    machine = Machine.here()
    helps, steps, floors = [], [], []
    with tempfile.TemporaryDirectory(prefix="doodle-dist-bench-") as place:
        where = Path(place)
        raw, data = where / "raw", where / "data"
        _run(_command(*f"data synth --drawings {_DRAWINGS} --categories {_CATEGORIES} --to {raw}".split()))
        _run(_command(*f"data prepare --local --source {raw} --to {data}".split()))
        for k in range(rounds):
            helps.append(help_seconds())
            for name in ("empty", "run"):
                (where / f"{name}-{k}").mkdir()
            floors.append(floor_seconds(where / f"empty-{k}", workers, machine.cores))
            steps.append(first_step_seconds(data, where / f"run-{k}", workers))
    return StartBench(
        workers=workers,
        rounds=rounds,
        help_s=statistics.median(helps),
        first_step_s=statistics.median(steps),
        floor_s=statistics.median(floors),
        over_floor_s=statistics.median(s - f for s, f in zip(steps, floors, strict=True)),
        machine=machine,
    )


def main(workers: int, rounds: int, output: Path | None) -> None:
    """Run it and print it, the bars beside it."""
    result = run(workers, rounds)
    table = Table(
        "", "seconds", "bar", "", title=f"{_PRESET}, {workers} workers, {result.machine.cores} cores"
    )
    table.add_row(
        "--help", f"{result.help_s:.2f}", f"{HELP_BAR_S:.2f}", "" if result.help_s <= HELP_BAR_S else "missed"
    )
    table.add_row(
        "train --local, Enter to first step",
        f"{result.first_step_s:.1f}",
        f"{FIRST_STEP_BAR_S:.0f}, or floor + {OVER_FLOOR_S:.0f}",
        "" if result.is_fast else "missed",
    )
    table.add_row("floor: an empty training", f"{result.floor_s:.1f}", "", "")
    table.add_row("over it, median of the rounds", f"{result.over_floor_s:.1f}", "", "")
    Console().print(table)
    write_result(output, result)
