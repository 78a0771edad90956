"""The prepared dataset's columns and manifest: what `prepare` writes and the stream reads."""

import hashlib
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

FORMAT_VERSION = 1
MANIFEST = "manifest.json"

Kind = Literal["strokes", "pixels"]


def columns(kind: Kind, side: int = 28, channels: int = 1) -> pa.Schema:
    """Arrow schema of a shard: packed strokes of a vector dataset, or the pixels of an image dataset."""
    picture = (
        pa.field("strokes", pa.binary())
        if kind == "strokes"
        else pa.field("pixels", pa.binary(side * side * channels))
    )
    return pa.schema(
        [
            pa.field("key_id", pa.uint64()),
            pa.field("label", pa.uint16()),
            pa.field("countrycode", pa.dictionary(pa.int16(), pa.string())),
            pa.field("recognized", pa.bool_()),
            picture,
        ]
    )


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ShardInfo(_Frozen):
    """One Parquet file. ``row_groups`` are row counts, so that a stream's order needs no file's footer."""

    path: str
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str
    row_groups: tuple[int, ...]


class SplitInfo(_Frozen):
    """One split. ``counts`` are drawings per category; ``group_counts`` is a .npy file of uint16
    [row groups, categories], which makes the stream of a subset of categories arithmetic too."""

    rows: int = Field(ge=0)
    counts: tuple[int, ...]
    recognized: int = Field(ge=0)
    shards: tuple[ShardInfo, ...]
    group_counts: str
    group_counts_sha256: str


class SourceInfo(_Frozen):
    uri: str
    bytes: int
    kind: str
    read: int
    rejected: int
    skipped: int = 0


class RejectsInfo(_Frozen):
    """Bad records: how many, in which file they are listed, and how many there were of each reason."""

    rows: int = Field(ge=0)
    path: str | None = None
    sha256: str | None = None
    reasons: dict[str, int] = Field(default_factory=dict)


class Manifest(_Frozen):
    """What a prepared dataset holds. Written last: where there is no manifest there is no dataset."""

    format: Literal["doodle_dist"] = "doodle_dist"
    format_version: int = FORMAT_VERSION
    kind: Kind
    side: int = 28
    channels: int = 1
    categories: tuple[str, ...]
    split_percents: tuple[float, float, float]
    recognized_only: bool = False
    splits: dict[str, SplitInfo]
    sources: tuple[SourceInfo, ...]
    rejects: RejectsInfo
    plan: str

    @property
    def rows(self) -> int:
        return sum(split.rows for split in self.splits.values())

    @property
    def train_sha256(self) -> str:
        """Names what the training split's shards hold, in their order, wherever they lie; "" without one."""
        shards = self.splits["train"].shards if "train" in self.splits else ()
        return (
            hashlib.sha256("".join(shard.sha256 for shard in shards).encode()).hexdigest() if shards else ""
        )


def binary_buffers(column: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """The bytes and the int32 offsets [N+1] of an Arrow binary column, without a copy."""
    _, offsets, data = column.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(data if data is not None else b"", dtype=np.uint8), bounds


def fixed_rows(column: pa.Array, width: int) -> NDArray[np.uint8]:
    """A fixed-size binary column as uint8 [N, width], without a copy."""
    flat = np.frombuffer(column.buffers()[1], dtype=np.uint8)
    return flat[column.offset * width : (column.offset + len(column)) * width].reshape(len(column), width)
