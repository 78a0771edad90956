"""What a checkpoint and a snapshot hold, and how they lie on a disk.

A checkpoint is a folder: `state.pt` (tensors and plain values, read with weights_only), `cursor.json`,
`experiment.json`, and a snapshot of the EMA weights, `snapshot.safetensors` with `meta.json`.
"""

import io
from dataclasses import asdict
from pathlib import Path

import orjson
import torch
from safetensors.torch import save
from torch import Tensor

from doodle_dist.run.checkpoints import SNAPSHOT_VERSION
from doodle_dist.run.files import CURSOR, EXPERIMENT, META, SNAPSHOT, STATE
from doodle_dist.training.cursor import Cursor, cursor_from


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


def load_cursor(folder: Path, beginning: Cursor) -> Cursor:
    """The cursor of a checkpoint, of a run that would now begin with ``beginning``.

    Raises ValueError where the run is asked to go on with another order.
    """
    return cursor_from((folder / CURSOR).read_bytes(), beginning)
