"""Reading, checking and verifying a prepared dataset's manifest."""

import hashlib
import io
from collections.abc import Iterator

import numpy as np
import orjson
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError

from doodle_dist.collector import at_rest
from doodle_dist.data import locations, storage
from doodle_dist.data.schema import FORMAT_VERSION, MANIFEST, Manifest, ShardInfo, SplitInfo
from doodle_dist.data.storage_errors import StorageError
from doodle_dist.errors import mismatch


def load_manifest(uri: str) -> Manifest:
    """The manifest of the dataset at ``uri``.

    Raises ValueError, with one readable line, where there is none, where it isn't ours or is of a newer
    version, or where it names a file outside its own prefix.
    """
    where = locations.join(uri, MANIFEST)
    if not storage.exists(where):
        raise ValueError(
            f"{uri} is not a prepared dataset: it has no {MANIFEST} (`doodle-dist data prepare` writes one last)"
        )
    data = storage.read_bytes(where)
    with at_rest():
        _check_format(where, data)
        try:
            manifest = Manifest.model_validate_json(data)
        except ValidationError as error:
            raise ValueError(f"{where}: {mismatch(error)}") from None
    for path in named_files(manifest):
        if path.startswith("/") or "://" in path or "\\" in path or ".." in path.split("/"):
            raise ValueError(f"{where} names a file outside its prefix: {path!r}")
    return manifest


def _check_format(where: str, data: bytes) -> None:
    try:
        raw = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON: {error}") from None
    if not isinstance(raw, dict) or raw.get("format") != "doodle_dist":
        raise ValueError(
            f"{where} is not a doodle_dist manifest (format={raw.get('format') if isinstance(raw, dict) else None!r})"
        )
    version = raw.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ValueError(
            f"{where} has format version {version}; this release reads up to {FORMAT_VERSION}: install a newer one"
        )


def named_files(manifest: Manifest) -> Iterator[str]:
    """Every file that the manifest names, relative to the dataset."""
    for split in manifest.splits.values():
        yield split.group_counts
        yield from (shard.path for shard in split.shards)
    if manifest.rejects.path:
        yield manifest.rejects.path


def check_files(uri: str, manifest: Manifest) -> None:
    """Cheap check before any work: every file is there, shards with their sizes. ValueError for the first."""
    sizes = {file.uri: file.size for file in storage.list_files(uri, (".parquet", ".npy"), recursive=True)}
    for shard in (shard for split in manifest.splits.values() for shard in split.shards):
        where = locations.join(uri, shard.path)
        if where not in sizes:
            raise ValueError(f"{where} is missing, and {locations.join(uri, MANIFEST)} names it")
        if sizes[where] != shard.bytes:
            raise ValueError(f"{where} has {sizes[where]:,} bytes; the manifest says {shard.bytes:,}")
    for where in (locations.join(uri, split.group_counts) for split in manifest.splits.values()):
        if where not in sizes:
            raise ValueError(f"{where} is missing, and {locations.join(uri, MANIFEST)} names it")


def load_group_counts(uri: str, split: SplitInfo) -> NDArray[np.uint16]:
    """Drawings of each category in each row group of a split: uint16 [row groups, categories].

    Raises ValueError where the file is not the one that the manifest was written with.
    """
    where = locations.join(uri, split.group_counts)
    data = storage.read_bytes(where)
    if hashlib.sha256(data).hexdigest() != split.group_counts_sha256:
        raise ValueError(f"{where}: its checksum differs from the manifest's")
    array: NDArray[np.uint16] = np.load(io.BytesIO(data), allow_pickle=False)
    return array


def verify_shard(uri: str, shard: ShardInfo) -> tuple[list[str], NDArray[np.int64]]:
    """Differences between a shard and the manifest, and the drawings per label in it."""
    where = locations.join(uri, shard.path)
    try:
        data = storage.read_bytes(where)
    except StorageError as error:
        return [str(error)], np.zeros(0, np.int64)
    if len(data) != shard.bytes:
        return [f"{where}: {len(data):,} bytes, the manifest says {shard.bytes:,}"], np.zeros(0, np.int64)
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        return [f"{where}: its checksum differs from the manifest's"], np.zeros(0, np.int64)
    file = pq.ParquetFile(io.BytesIO(data))
    groups = tuple(file.metadata.row_group(k).num_rows for k in range(file.num_row_groups))
    if groups != shard.row_groups:
        return [f"{where}: row groups {groups}, the manifest says {shard.row_groups}"], np.zeros(0, np.int64)
    if sum(groups) != shard.rows:
        return [f"{where}: {sum(groups):,} rows, the manifest says {shard.rows:,}"], np.zeros(0, np.int64)
    return [], np.bincount(file.read(["label"])["label"].to_numpy())


def verify(uri: str) -> list[str]:
    """All differences between the manifest at ``uri`` and its files: sizes, checksums, rows, counts, strays."""
    manifest = load_manifest(uri)
    problems: list[str] = []
    for name, split in manifest.splits.items():
        counts = np.zeros(len(manifest.categories), np.int64)
        broken = False
        for shard in split.shards:
            found, labels = verify_shard(uri, shard)
            problems += found
            broken |= bool(found)
            if len(labels) > len(counts):
                problems.append(f"{locations.join(uri, shard.path)}: label {len(labels) - 1} has no category")
            else:
                counts[: len(labels)] += labels
        if not broken and counts.tolist() != list(split.counts):
            problems.append(f"{uri}: split {name} has other counts per category than the manifest says")
        if not broken and counts.sum() != split.rows:
            problems.append(
                f"{uri}: split {name} has {counts.sum():,} rows, the manifest says {split.rows:,}"
            )
        problems += _verify_group_counts(uri, split)
    if manifest.rejects.path:
        where = locations.join(uri, manifest.rejects.path)
        if not storage.exists(where):
            problems.append(f"{where} is missing")
        elif hashlib.sha256(storage.read_bytes(where)).hexdigest() != manifest.rejects.sha256:
            problems.append(f"{where}: its checksum differs from the manifest's")
    named = {locations.join(uri, path) for path in named_files(manifest)}
    strays = [f.uri for f in storage.list_files(uri, (".parquet",), recursive=True) if f.uri not in named]
    return problems + [f"{stray} is not named by the manifest" for stray in strays]


def _verify_group_counts(uri: str, split: SplitInfo) -> list[str]:
    where = locations.join(uri, split.group_counts)
    if not storage.exists(where):
        return [f"{where} is missing"]
    try:
        rows = load_group_counts(uri, split).sum(axis=1, dtype=np.int64).tolist()
    except ValueError as error:
        return [str(error)]
    if rows != [n for shard in split.shards for n in shard.row_groups]:
        return [f"{where}: its sums differ from the row groups' sizes"]
    return []
