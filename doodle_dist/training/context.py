"""Where a worker runs: its rank, its device, and how it reports. Ray Train stays behind this."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import ray.train
import ray.train.torch
import torch


class Context(Protocol):
    """What the loop may ask of the place it runs in."""

    rank: int
    world_size: int
    device: torch.device

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Hand over metrics and rank 0's checkpoint folder, uploaded and then deleted. A barrier."""
        ...


class RayContext:
    """A worker of Ray Train."""

    def __init__(self) -> None:
        here = ray.train.get_context()
        self.rank = here.get_world_rank()
        self.world_size = here.get_world_size()
        self.device = ray.train.torch.get_device()

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        ray.train.report(
            metrics,
            checkpoint=ray.train.Checkpoint.from_directory(str(checkpoint)) if checkpoint else None,
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=True,
        )


@contextmanager
def latest_checkpoint() -> Iterator[Path | None]:
    """The latest registered checkpoint as a local folder, None at a run's first start."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as folder:
        yield Path(folder)


def new_checkpoint_folder() -> Path:
    """An empty folder that outlives this function: the upload reads it later, and deletes it."""
    return Path(tempfile.mkdtemp(prefix="doodle-dist-checkpoint-"))
