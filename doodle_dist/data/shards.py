"""`prepare`: official files -> shuffled shards, a manifest and the rejects, on Ray Data.

Two rounds of Ray tasks around one exchange through storage, so that memory depends on the sizes of chunks
and shards and never on how many drawings there are:

1. *scatter*: each task parses one chunk of a source file and writes its drawings to `_staging/`, grouped by
   the (split, shard) that their key_id's hash names;
2. *gather*: each task collects one shard's groups from all chunks, sorts them by another hash (the global
   shuffle), drops key_ids that came twice, and writes the Parquet file.

Each finished task leaves a small JSON note in `_staging/`; a prepare that was cut off finds them and goes on.
The manifest is written last.
"""

import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from doodle_dist.data import storage
from doodle_dist.data.categories import Categories
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.records import PICTURES, Batch, Chunk, Source
from doodle_dist.data.schema import (
    MANIFEST,
    Kind,
    Manifest,
    RejectsInfo,
    ShardInfo,
    SourceInfo,
    SplitInfo,
    columns,
)
from doodle_dist.data.sources import plan_chunks, read_chunk
from doodle_dist.data.split import SPLITS, place_of, shard_of, split_of
from doodle_dist.errors import WorkFailedError, one_line, root_cause

STAGING = "_staging"
# A scattered part is written when it holds so many drawings (about 30 MB of strokes), or so many bytes.
PART_ROWS = 262_144
PART_BYTES = 200 << 20
# Where a source doesn't tell how many drawings it holds: bytes of one in its file, on the small side, to choose
# the number of shards before reading.
_BYTES_PER_DRAWING = {"ndjson": 420, "raw": 2500, "binary": 110, "bitmap": 784, "kaggle": 400}
# What a shard of pictures and a row group of them take, about; the latter's least rows.
_SHARD_BYTES, _GROUP_BYTES, _GROUP_ROWS = 65_536 * 784, 2048 * 784, 64
_GZIP_RATIO = 4
_REJECTS_SHOWN = 5
_LEAST_BLOCKS = 8


@dataclass(frozen=True)
class PrepareRequest:
    """What to prepare. ``max_rejects`` is a share of the records read; None for ``shards`` and
    ``row_group_rows`` chooses. Pictures have the ``side`` and ``channels`` of the sources, which agree on them.
    """

    sources: tuple[Source, ...]
    categories: Categories
    to: str
    split_percents: tuple[float, float, float] = (98.0, 1.0, 1.0)
    recognized_only: bool = False
    shards: int | None = None
    row_group_rows: int | None = None
    chunk_bytes: int = 32 << 20
    max_rejects: float = 0.001

    @property
    def kind(self) -> Kind:
        return "pixels" if self.sources[0].kind in PICTURES else "strokes"

    @property
    def side(self) -> int:
        return self.sources[0].side

    @property
    def channels(self) -> int:
        return self.sources[0].channels

    @property
    def group_rows(self) -> int:
        """Rows of a row group: 2,048, fewer of pictures larger than 28×28."""
        if self.row_group_rows is not None:
            return self.row_group_rows
        return max(min(_GROUP_BYTES // (self.side**2 * self.channels), 2048), _GROUP_ROWS)

    def fingerprint(self) -> str:
        """Hash of everything that decides what the result holds."""
        said = asdict(self) | {"to": None, "categories": self.categories.names, "max_rejects": None}
        document = orjson.dumps(said, default=list, option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(document).hexdigest()[:16]

    def shards_per_split(self) -> tuple[int, ...]:
        """How many shards each split gets: of about 262,144 drawings, 51 MB of pictures, or as asked."""
        if self.shards is not None:
            estimate, target = float(self.shards), 1.0
        else:
            estimate = sum(map(_records, self.sources))
            target = 262_144.0 if self.kind == "strokes" else _SHARD_BYTES / (self.side**2 * self.channels)
        return tuple(max(1, round(estimate / target * percent / 100)) for percent in self.split_percents)


def _records(source: Source) -> float:
    if source.records is not None:
        return source.records
    ratio = _GZIP_RATIO if source.uri.endswith(".gz") else 1
    return source.size * ratio / _BYTES_PER_DRAWING[source.kind]


@dataclass(frozen=True)
class Progress:
    """How far a prepare is: tasks of the round that are done, and records read so far."""

    stage: str
    done: int
    total: int
    records: int


class TooManyRejectsError(WorkFailedError):
    """More bad records than ``max_rejects`` allows."""


# --- round 1: scatter -----------------------------------------------------------------------------------


def _table(batch: Batch, kind: Kind) -> pa.Table:
    picture = batch.strokes if kind == "strokes" else batch.pixels
    return pa.table(
        {
            "key_id": batch.key_id,
            "label": batch.label,
            "countrycode": batch.countrycode.cast(pa.string()),
            "recognized": batch.recognized,
            kind: picture,
            "line": batch.line,
        }
    )


def scatter(request: PrepareRequest, staging: str, number: int, chunk: Chunk) -> dict[str, object]:
    """Parse chunk ``number`` and write its drawings to staging, grouped by bucket; the note it leaves."""
    shards = request.shards_per_split()
    parts: list[dict[str, object]] = []
    held: list[pa.Table] = []
    rejects: list[tuple[int, str]] = []
    lines = skipped = rows = 0

    def flush() -> None:
        if not held:
            return
        path = f"chunk-{number:06d}-{len(parts):04d}.arrow"
        parts.append(
            {"path": path, "buckets": _write_part(storage.join(staging, path), held, request, shards)}
        )
        held.clear()

    for batch in read_chunk(chunk, request.categories):
        rejects += [(reject.line, reject.reason) for reject in batch.rejects]
        table = _table(batch, request.kind)
        if request.recognized_only:
            kept = table.filter(table["recognized"])
            skipped += len(table) - len(kept)
            table = kept
        lines += batch.lines_read
        skipped += batch.skipped
        rows += len(table)
        if len(table):
            held.append(table)
        if sum(map(len, held)) >= PART_ROWS or sum(table.nbytes for table in held) >= PART_BYTES:
            flush()
    flush()
    note: dict[str, object] = {
        "lines": lines,
        "rows": rows,
        "skipped": skipped,
        "rejects": rejects,
        "parts": parts,
    }
    storage.write_atomic(storage.join(staging, f"chunk-{number:06d}.json"), orjson.dumps(note))
    return {"number": number, "records": rows + skipped + len(rejects)}


def _write_part(
    uri: str, tables: list[pa.Table], request: PrepareRequest, shards: tuple[int, ...]
) -> list[tuple[int, int]]:
    """Write one record batch per bucket; (bucket, row count) of each, in the file's order."""
    table = pa.concat_tables(tables).combine_chunks()
    bucket = bucket_of(table["key_id"].to_numpy(), request.split_percents, shards)
    order = np.argsort(bucket, kind="stable")
    table = table.take(pa.array(order)).combine_chunks()
    present, starts, counts = np.unique(bucket[order], return_index=True, return_counts=True)
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
            writer.write_table(table.slice(start, count), max_chunksize=count)
    storage.write_atomic(uri, sink.getvalue())
    return list(zip(present.tolist(), counts.tolist(), strict=True))


def bucket_of(
    key_id: NDArray[np.uint64], percents: tuple[float, float, float], shards: tuple[int, ...]
) -> NDArray[np.int64]:
    """Number of the (split, shard) of every drawing, splits one after the other."""
    split = split_of(key_id, percents)
    bucket = np.zeros(len(key_id), np.int64)
    for k, count in enumerate(shards):
        here = split == k
        bucket[here] = sum(shards[:k]) + shard_of(key_id[here], count)
    return bucket


# --- round 2: gather ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """One record batch of a scattered part, and the chunk it came from."""

    chunk: int
    path: str
    index: int


def gather(
    request: PrepareRequest, staging: str, bucket: int, path: str, groups: list[Group]
) -> dict[str, object]:
    """Write the shard ``path`` from its groups; the note it leaves."""
    schema = columns(request.kind, request.side, request.channels)
    tables, chunk_numbers = [], []
    for group in groups:
        with pa.ipc.open_file(storage.open_input(storage.join(staging, group.path))) as file:
            batch = file.get_batch(group.index)
        tables.append(pa.Table.from_batches([batch]))
        chunk_numbers.append(np.full(len(batch), group.chunk))
    note: dict[str, object] = {"bucket": bucket, "rows": 0, "rejects": [], "counts": [], "recognized": 0}
    if tables:
        table = pa.concat_tables(tables).combine_chunks()
        table, rejects = _without_repeats(table, np.concatenate(chunk_numbers))
        country = table["countrycode"].combine_chunks().dictionary_encode()
        country = country.cast(pa.dictionary(pa.int16(), pa.string()))
        table = table.drop(["line"]).set_column(2, "countrycode", country).cast(schema)
        labels = table["label"].to_numpy()
        size = request.group_rows
        groups_of_labels = [labels[k : k + size] for k in range(0, len(labels), size)]
        kinds = len(request.categories.names)
        data = _parquet(table, size)
        storage.write_atomic(storage.join(request.to, path), data)
        note |= {
            "shard": {
                "path": path,
                "rows": len(table),
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "row_groups": [len(part) for part in groups_of_labels],
            },
            "rows": len(table),
            "rejects": rejects,
            "counts": [np.bincount(part, minlength=kinds).tolist() for part in groups_of_labels],
            "recognized": int(np.count_nonzero(table["recognized"].to_numpy())),
        }
    storage.write_atomic(storage.join(staging, f"shard-{bucket:06d}.json"), orjson.dumps(note))
    return {"number": bucket, "records": note["rows"]}


def _without_repeats(
    table: pa.Table, chunk: NDArray[np.int64]
) -> tuple[pa.Table, list[tuple[int, int, str]]]:
    """The table in the order of its places, the first of each key_id only; (chunk, line, reason) of others."""
    key_id, line = table["key_id"].to_numpy(), table["line"].to_numpy()
    order = np.lexsort((line, chunk, place_of(key_id)))
    ordered = key_id[order]
    # place_of is a bijection of key_id, so the same key_ids lie side by side, the earliest first.
    again = np.concatenate([[False], ordered[1:] == ordered[:-1]])
    rejects = [(int(chunk[row]), int(line[row]), f"key_id {key_id[row]} came before") for row in order[again]]
    return table.take(pa.array(order[~again])).combine_chunks(), rejects


def _parquet(table: pa.Table, row_group_rows: int) -> bytes:
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        row_group_size=row_group_rows,
        # Strokes and key_ids hardly get smaller (10 % with zstd), and reading them is a part of every epoch.
        compression={
            name: "none" if name in ("strokes", "key_id") else "zstd" for name in table.schema.names
        },
        use_dictionary=["countrycode", "label"],
        write_statistics=False,
        write_page_checksum=True,  # what the stream can check as it reads, unlike the whole file's
    )
    return sink.getvalue()


# --- the driver -----------------------------------------------------------------------------------------


def prepare(request: PrepareRequest, progress: Callable[[Progress], None] = lambda _: None) -> Manifest:
    """Prepare a dataset, or go on where a cut-off prepare of the same request stopped.

    Needs a running Ray. Raises ValueError where the destination holds another dataset, TooManyRejectsError,
    and StorageError.
    """
    fingerprint = request.fingerprint()
    if storage.exists(storage.join(request.to, MANIFEST)):
        manifest = load_manifest(request.to)
        if manifest.plan == fingerprint:
            return manifest
        raise ValueError(
            f"{request.to} already holds a dataset prepared from other sources or options; "
            "choose another --to, or delete it first"
        )
    staging = storage.join(request.to, STAGING)
    _open_staging(staging, fingerprint)
    chunks = [chunk for source in request.sources for chunk in plan_chunks(source, request.chunk_bytes)]
    # Many small files are read by few Ray tasks, each taking about as many bytes as a chunk may have.
    blocks = max(_LEAST_BLOCKS, sum(s.size for s in request.sources) // request.chunk_bytes)
    scatter_one = partial(_scatter_one, request, staging, chunks)
    _run_round("reading", staging, "chunk", len(chunks), scatter_one, blocks, progress)
    notes = [_note(staging, "chunk", k) for k in range(len(chunks))]
    _refuse_too_many(request, chunks, notes, [])
    buckets = _buckets(request, notes)
    gather_one = partial(_gather_one, request, staging, buckets)
    _run_round("writing", staging, "shard", len(buckets), gather_one, len(buckets), progress)
    shards = [_note(staging, "shard", k) for k in range(len(buckets))]
    try:
        manifest = _finish(request, fingerprint, chunks, notes, shards)
        document = orjson.dumps(manifest.model_dump(), option=orjson.OPT_INDENT_2)
        storage.write_atomic(storage.join(request.to, MANIFEST), document)
        storage.delete_prefix(staging)
    except storage.StorageError as error:
        raise WorkFailedError(str(error)) from error
    return manifest


def _open_staging(staging: str, fingerprint: str) -> None:
    plan = storage.join(staging, "plan.json")
    if storage.exists(plan) and orjson.loads(storage.read_bytes(plan)) == fingerprint:
        return
    if storage.exists(staging):
        storage.delete_prefix(staging)  # what another request left behind
    storage.write_atomic(plan, orjson.dumps(fingerprint))


def _note(staging: str, name: str, number: int) -> dict:
    return orjson.loads(storage.read_bytes(storage.join(staging, f"{name}-{number:06d}.json")))


def _run_round(
    stage: str,
    staging: str,
    name: str,
    total: int,
    task: Callable[[int], dict[str, object]],
    blocks: int,
    progress: Callable[[Progress], None],
) -> None:
    """Run the tasks of a round that left no note yet, as one Ray Data pipeline of ``blocks`` Ray tasks."""
    import ray.data
    import ray.exceptions

    files = storage.list_files(staging, (".json",)) if storage.exists(staging) else []
    there = {storage.basename(file.uri) for file in files}
    todo = [k for k in range(total) if f"{name}-{k:06d}.json" not in there]
    done, records = total - len(todo), 0
    progress(Progress(stage, done, total, records))
    if not todo:
        return

    def run(ids: dict[str, NDArray[np.int64]]) -> dict[str, list[object]]:
        results = [task(todo[int(i)]) for i in ids["id"]]
        return {"records": [result["records"] for result in results]}

    dataset = ray.data.range(len(todo), override_num_blocks=min(len(todo), blocks)).map_batches(
        run, batch_size=None
    )
    dataset.context.enable_progress_bars = False
    try:
        for row in dataset.iter_rows():
            done, records = done + 1, records + int(row["records"])
            progress(Progress(stage, done, total, records))
    except (ray.exceptions.RayError, ray.exceptions.UserCodeException) as error:
        raise WorkFailedError(one_line(root_cause(error))) from error


def _scatter_one(
    request: PrepareRequest, staging: str, chunks: list[Chunk], number: int
) -> dict[str, object]:
    return scatter(request, staging, number, chunks[number])


def _gather_one(
    request: PrepareRequest, staging: str, buckets: list[tuple[str, list[Group]]], number: int
) -> dict[str, object]:
    path, groups = buckets[number]
    return gather(request, staging, number, path, groups)


def _buckets(request: PrepareRequest, notes: list[dict]) -> list[tuple[str, list[Group]]]:
    """Path and groups of every shard, splits one after the other."""
    shards = request.shards_per_split()
    buckets: list[tuple[str, list[Group]]] = [
        (f"{split}/part-{k:05d}.parquet", [])
        for split, count in zip(SPLITS, shards, strict=True)
        for k in range(count)
    ]
    for number, note in enumerate(notes):
        for part in note["parts"]:
            for index, (bucket, _) in enumerate(part["buckets"]):
                buckets[bucket][1].append(Group(number, part["path"], index))
    return buckets


def _first_lines(chunks: list[Chunk], notes: list[dict]) -> list[int]:
    """The line, in its source, that each chunk begins with, counted from 1."""
    firsts, line, uri = [], 1, None
    for chunk, note in zip(chunks, notes, strict=True):
        if chunk.uri != uri:
            line, uri = 1, chunk.uri
        firsts.append(line)
        line += note["lines"]
    return firsts


class BadRecord(NamedTuple):
    """Where a bad record is, its source, its file and its line from 1, and why it is one."""

    source: str
    file: str
    line: int
    reason: str


def _rejects(chunks: list[Chunk], notes: list[dict], shards: Iterable[dict]) -> Iterator[BadRecord]:
    """Every bad record, in the sources' order."""
    firsts = _first_lines(chunks, notes)
    found = [(k, line, reason) for k, note in enumerate(notes) for line, reason in note["rejects"]]
    found += [(k, line, reason) for note in shards for k, line, reason in note["rejects"]]
    for k, line, reason in sorted(found):
        yield BadRecord(chunks[k].uri, *chunks[k].place(firsts[k], line), reason)


def _refuse_too_many(
    request: PrepareRequest, chunks: list[Chunk], notes: list[dict], shards: list[dict]
) -> list[BadRecord]:
    rejects = list(_rejects(chunks, notes, shards))
    read = sum(note["rows"] + note["skipped"] + len(note["rejects"]) for note in notes)
    if len(rejects) > request.max_rejects * read:
        first = "; ".join(f"{bad.file}:{bad.line}: {bad.reason}" for bad in rejects[:_REJECTS_SHOWN])
        raise TooManyRejectsError(
            f"{len(rejects):,} of {read:,} records are bad, more than --max-rejects "
            f"{request.max_rejects:.4g} allows: {first}"
        )
    return rejects


def _finish(
    request: PrepareRequest, fingerprint: str, chunks: list[Chunk], notes: list[dict], shards: list[dict]
) -> Manifest:
    """Write the group counts and the rejects; the manifest that names everything."""
    rejects = _refuse_too_many(request, chunks, notes, shards)
    if not any(note["rows"] for note in shards):
        raise ValueError(f"the sources hold no drawings of {_some(request.categories.names)}")
    splits, at = {}, 0
    for split, count in zip(SPLITS, request.shards_per_split(), strict=True):
        splits[split] = _split_info(request, split, shards[at : at + count])
        at += count
    rejected = Counter(bad.source for bad in rejects)
    read: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    for chunk, note in zip(chunks, notes, strict=True):
        read[chunk.uri] += note["rows"] + note["skipped"] + len(note["rejects"])
        skipped[chunk.uri] += note["skipped"]
    return Manifest(
        kind=request.kind,
        side=request.side,
        channels=request.channels,
        categories=request.categories.names,
        split_percents=request.split_percents,
        recognized_only=request.recognized_only,
        splits=splits,
        sources=tuple(
            SourceInfo(
                uri=source.uri,
                bytes=source.size,
                kind=source.kind,
                read=read[source.uri],
                rejected=rejected[source.uri],
                skipped=skipped[source.uri],
            )
            for source in request.sources
        ),
        rejects=_write_rejects(request.to, rejects),
        plan=fingerprint,
    )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" or {len(names) - 3} more categories" if len(names) > 3 else "")


def _split_info(request: PrepareRequest, split: str, notes: list[dict]) -> SplitInfo:
    kinds = len(request.categories.names)
    counts = np.array([row for note in notes for row in note["counts"]], np.uint16).reshape(-1, kinds)
    sink = io.BytesIO()
    np.save(sink, counts)
    path = f"{split}/group_counts.npy"
    storage.write_atomic(storage.join(request.to, path), sink.getvalue())
    return SplitInfo(
        rows=sum(note["rows"] for note in notes),
        counts=tuple(counts.sum(axis=0, dtype=np.int64).tolist()),
        recognized=sum(note["recognized"] for note in notes),
        shards=tuple(ShardInfo.model_validate(note["shard"]) for note in notes if "shard" in note),
        group_counts=path,
        group_counts_sha256=hashlib.sha256(sink.getvalue()).hexdigest(),
    )


def _write_rejects(to: str, rejects: list[BadRecord]) -> RejectsInfo:
    if not rejects:
        return RejectsInfo(rows=0)
    _, files, lines, reasons = zip(*rejects, strict=True)
    table = pa.table({"file": files, "line": pa.array(lines, pa.uint64()), "reason": reasons})
    data = _parquet(table, 65536)
    path = "rejects/part-00000.parquet"
    storage.write_atomic(storage.join(to, path), data)
    kinds = Counter(re.sub(r"\d+", "N", reason) for reason in reasons)
    return RejectsInfo(
        rows=len(rejects),
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        reasons=dict(kinds.most_common(20)),
    )
