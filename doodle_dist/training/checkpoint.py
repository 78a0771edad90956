"""What a checkpoint and a snapshot hold, and how they lie on a disk.

A checkpoint is a folder: `state.pt` (tensors and plain values, read with weights_only), `cursor.json`,
`experiment.json`, and a snapshot of the EMA weights, `snapshot.safetensors` with `meta.json`.
"""

import io
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson
import torch
from safetensors.torch import save
from torch import Tensor

from doodle_dist.run.snapshot import EXPERIMENT, META, SNAPSHOT, SNAPSHOT_VERSION

STATE, CURSOR = "state.pt", "cursor.json"


@dataclass(frozen=True)
class Cursor:
    """Where a run is in its stream: ``consumed`` drawings of ``epoch``; ``drawings_seen`` in all.

    ``step`` counts global batches since the run began. ``seed`` and ``global_batch`` are what gives the
    numbers their meaning: a run can't go on with others.
    """

    seed: int
    global_batch: int
    epoch: int = 0
    consumed: int = 0
    step: int = 0
    drawings_seen: int = 0

    def after(self, epoch: int, consumed: int, rows: int) -> "Cursor":
        """The cursor once a step of ``rows`` drawings is done."""
        return replace(
            self,
            epoch=epoch,
            consumed=consumed,
            step=self.step + 1,
            drawings_seen=self.drawings_seen + rows,
        )


def save_checkpoint(
    folder: Path,
    *,
    state: dict[str, object],
    cursor: Cursor,
    snapshot: dict[str, Tensor],
    experiment: dict[str, object],
    meta: dict[str, object],
) -> None:
    """Write a checkpoint folder. ``meta`` goes beside the snapshot: categories, scores, drawings seen.

    Raises OSError where the disk is full: torch's own writer would speak of positions, so it writes to memory.
    """
    packed = io.BytesIO()
    torch.save(state, packed)
    (folder / STATE).write_bytes(packed.getbuffer())
    (folder / CURSOR).write_bytes(orjson.dumps(asdict(cursor)))
    (folder / EXPERIMENT).write_bytes(orjson.dumps(experiment, option=orjson.OPT_INDENT_2))
    versioned = {"format_version": SNAPSHOT_VERSION} | meta
    (folder / META).write_bytes(orjson.dumps(versioned, option=orjson.OPT_INDENT_2))
    (folder / SNAPSHOT).write_bytes(
        save({name: t.detach().cpu().contiguous() for name, t in snapshot.items()})
    )


def load_state(folder: Path, device: torch.device) -> dict[str, object]:
    """The state of a checkpoint; nothing but tensors and plain values is ever unpickled."""
    state: dict[str, object] = torch.load(folder / STATE, map_location=device, weights_only=True)
    return state


def load_cursor(folder: Path, seed: int, global_batch: int) -> Cursor:
    """The cursor of a checkpoint. Raises ValueError where the run is asked to go on with another order."""
    cursor = Cursor(**orjson.loads((folder / CURSOR).read_bytes()))
    for name, asked in (("seed", seed), ("global_batch", global_batch)):
        if (had := getattr(cursor, name)) != asked:
            key = "seed" if name == "seed" else "train.global_batch"
            raise ValueError(f"{key}={asked}: this run was begun with {had}, and its cursor counts in that")
    return cursor
