"""How much memory a few steps of an experiment take on a GPU."""

import torch

from doodle_dist.config.experiment import Experiment
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.stream_plan import stream_categories
from doodle_dist.schedules import critic_updates_before
from doodle_dist.training.context import Alone
from doodle_dist.training.task import Clock, LaneRandom, StepInput, step_at_once
from doodle_dist.training.worker import build_task

_STEPS = 3  # the first has the lazy penalties; the allocator settles in the next


def peak_gpu_bytes(experiment: Experiment, device: torch.device) -> int:
    """The most memory that torch reserved on ``device`` in a few steps on made-up pictures; 0 on a CPU."""
    manifest = load_manifest(experiment.data.uri)
    categories = stream_categories(manifest, experiment.data.categories)
    task = build_task(experiment, manifest, categories, Alone(device))
    rows, total = (
        experiment.train.global_batch,
        experiment.train.total_drawings(manifest.splits["train"].rows),
    )
    steps = set(range(_STEPS))
    if experiment.task == "gan":
        # The generator's first update may be a hundred of the critic's away.
        steps.add(critic_updates_before(experiment.gan.updates, 0) - 1)
    for step in sorted(steps):
        batch = StepInput(
            images=torch.rand(rows, manifest.channels, manifest.side, manifest.side, device=device) * 2 - 1,
            labels=torch.arange(rows, device=device) % len(categories),
            global_rows=rows,
            random=LaneRandom(experiment.seed, step, ((0, rows),), device),
        )
        step_at_once(task, batch, Clock(step, step * rows, total))
    # Recorded steps have a pool of their own, beside that of the steps that are taken one by one.
    pools = 2 if experiment.train.cuda_graphs else 1
    return pools * torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0
