"""A worker of Ray Train, as the place that the loop runs in (context.py)."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import ray.train
import ray.train.torch
import torch
import torch.distributed as dist

from doodle_dist.training.checkpoint_store import CheckpointStore

T = TypeVar("T")


class RayContext:
    """A worker of Ray Train. ``store`` is where rank 0's checkpoints go."""

    store: CheckpointStore

    def __init__(self) -> None:
        here = ray.train.get_context()
        self.rank = here.get_world_rank()
        self.world_size = here.get_world_size()
        self.device = ray.train.torch.get_device()
        self._place = here.get_storage()

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """As Context.report. The checkpoint is on its way when this returns; one that can't be stored is a warning."""
        if checkpoint is None:
            name, upload = self.store.new_name(0), None
        else:
            name, upload = self.store.new_name(int(metrics["drawings_seen"])), self._upload(self.store.asked)
        ray.train.report(
            metrics,
            checkpoint=ray.train.Checkpoint.from_directory(str(checkpoint)) if checkpoint else None,
            checkpoint_dir_name=name,
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=upload,
            delete_local_checkpoint_after_upload=True,
        )

    def _upload(self, number: int) -> Callable[[ray.train.Checkpoint, str], ray.train.Checkpoint]:
        def upload(local: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
            # Ray Train is told a place whatever comes of it: a failed upload would end the run, and nothing of
            # ours asks Ray Train for a checkpoint.
            self.store.store(Path(local.path), name, number)
            place = self._place.build_checkpoint_path_from_name(name)
            return ray.train.Checkpoint(place, self._place.storage_filesystem)

        return upload

    def check_writer(self) -> None:
        """As Context.check_writer."""
        self.store.check_writer()

    def agree(self, value: T) -> T:
        said = [value]
        if self.world_size > 1:
            dist.broadcast_object_list(said, src=0)
        return said[0]

    def agree_on(self, *values: int) -> list[int]:
        """Rank 0's numbers, on every rank: a collective as small as they come."""
        if self.world_size == 1:
            return list(values)
        said = torch.tensor(values, dtype=torch.int64, device=self.device)
        dist.broadcast(said, src=0)
        return said.tolist()

    def preemption(self) -> object:
        """The newest notice that nodes of the run are about to be taken away, which equals itself; None without one.

        Every rank has to ask, and all get one answer.
        """
        return ray.train.get_preemption_info()
