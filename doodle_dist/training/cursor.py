"""Where a run is in its stream, and that it goes on in the order in which it was begun. Without torch."""

from dataclasses import dataclass, replace

import orjson


@dataclass(frozen=True)
class Cursor:
    """Where a run is in its stream: ``consumed`` drawings of ``epoch``; ``drawings_seen`` in all.

    ``step`` counts global batches since the run began. The numbers mean nothing without the order that they count
    in: ``seed``, ``global_batch``, ``lanes``, ``categories`` (the stream's) and ``data`` (the shards' name, see
    `Manifest.train_sha256`). A run can't go on with others.
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


def cursor_from(document: bytes, beginning: Cursor) -> Cursor:
    """A checkpoint's cursor, of a run that would now begin with ``beginning``.

    Raises ValueError where the run is asked to go on with another order.
    """
    said = orjson.loads(document)
    cursor = Cursor(**(said | {"categories": tuple(said.get("categories", ()))}))
    for name in _ORDER:
        had, asked = getattr(cursor, name), getattr(beginning, name)
        if had != asked:
            raise ValueError(f"{_refused(name, had, asked)}; give this one another --run")
    return cursor


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
