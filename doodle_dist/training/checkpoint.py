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

    ``step`` counts global batches since the run began. The numbers mean nothing without the order that they count
    in: ``seed``, ``global_batch``, ``lanes``, ``categories`` (the stream's) and ``data`` (the shards' name, see
    `Manifest.train_sha256`). A run can't go on with others. Cursors of early releases lack the last three.
    """

    seed: int
    global_batch: int
    lanes: int = 0
    categories: tuple[str, ...] = ()
    data: str = ""
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


def load_cursor(folder: Path, beginning: Cursor) -> Cursor:
    """The cursor of a checkpoint, of a run that would now begin with ``beginning``.

    Raises ValueError where the run is asked to go on with another order.
    """
    said = orjson.loads((folder / CURSOR).read_bytes())
    cursor = Cursor(**(said | {"categories": tuple(said.get("categories", ()))}))
    for name in _ORDER:
        had, asked = getattr(cursor, name), getattr(beginning, name)
        # What a cursor of an early release lacks has the class's default.
        if had not in (asked, getattr(Cursor, name, None)):
            raise ValueError(f"{_refused(name, had, asked)}; give this one another --run")
    return replace(cursor, **{name: getattr(beginning, name) for name in _ORDER})


# What fixes an order.
_ORDER = ("seed", "global_batch", "lanes", "categories", "data")
_KEYS = {"seed": "seed", "global_batch": "train.global_batch", "lanes": "data.lanes"}
_NAMES_SHOWN = 5


def _refused(name: str, had: object, asked: object) -> str:
    if name in _KEYS:
        return f"{_KEYS[name]}={asked}: this run was begun with {had}, and its cursor counts in that"
    if isinstance(had, tuple) and isinstance(asked, tuple):
        differ = [f"with {one}" for one in had if one not in asked]
        differ += [f"without {one}" for one in asked if one not in had]
        return f"data.categories: this run was begun {', '.join(differ[:_NAMES_SHOWN])}"
    return "data.uri: this run was begun with the drawings of another dataset, and its cursor counts in those"
