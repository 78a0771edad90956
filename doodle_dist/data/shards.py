"""`prepare`: official files -> shuffled shards, a manifest and the rejects, on Ray Data.

Two rounds of Ray tasks around one exchange through storage (exchange.py, which has the words), so that memory
depends on the sizes of chunks and shards and never on how many drawings there are:

1. *scatter*: each task parses chunks of source files and writes their drawings to `_staging/`, grouped by
   the run, of neighbouring shards of all splits, that their key_id's hash names;
2. *gather*: each task collects the groups of some shards from all chunks, sorts them by another hash (the global
   shuffle), drops key_ids that came twice, and writes the Parquet files.

Each finished task leaves a small JSON note in `_staging/`; a prepare that was cut off finds them and goes on.
The manifest is written last.
"""

import hashlib
import io
import pickle
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa

from doodle_dist.data import locations, storage
from doodle_dist.data.allocator import keep_freed_memory
from doodle_dist.data.categories import Categories
from doodle_dist.data.exchange import (
    ChunkNote,
    Exchange,
    RunNote,
    ShardNote,
    chunk_notes,
    gather,
    parquet,
    run_notes,
    runs_of,
    scatter,
    write_index,
)
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.records import PICTURES, Chunk, Source
from doodle_dist.data.retry import TRAINING_PATIENCE_S, patience
from doodle_dist.data.room import RoomIsKnown
from doodle_dist.data.schema import MANIFEST, Kind, Manifest, RejectsInfo, ShardInfo, SourceInfo, SplitInfo
from doodle_dist.data.sources import plan_chunks
from doodle_dist.data.split import SPLITS
from doodle_dist.data.storage_errors import under_way
from doodle_dist.errors import WorkFailedError, one_line, root_cause

STAGING, REJECTS = "_staging", "rejects"
_WRITTEN = re.compile(r"part-\d{5,}\.parquet|group_counts\.npy")
# How the files of _staging/ are laid out: what another release left half done is begun again.
_STAGING_VERSION = 4
# Of large sources a chunk is as large as fills a part (of 262,144 drawings, as ndjson), so that there are few parts;
# of smaller ones, so that there are enough chunks for every core.
_LARGEST_CHUNK_BYTES, _CHUNKS = 128 << 20, 256
# Where a source doesn't tell how many drawings it holds: bytes of one in its file, on the small side, to choose
# the number of shards before reading.
_BYTES_PER_DRAWING = {"ndjson": 420, "raw": 2500, "binary": 110, "bitmap": 784, "kaggle": 400}
# What a shard of pictures and a row group of them take, about; the latter's least rows.
_SHARD_BYTES, _GROUP_BYTES, _GROUP_ROWS = 65_536 * 784, 2048 * 784, 64
_GZIP_RATIO = 4
_REJECTS_SHOWN = 5
_LEAST_BLOCKS, _CHUNKS_PER_TASK, _RUNS_PER_TASK, _TASKS_PER_CORE = 8, 8, 4, 4


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

    def staging_id(self) -> str:
        """What says that a half-done prepare is of this request. Which records are skipped and which are bad isn't in
        the result's drawings, and is in what was read."""
        others = hashlib.sha256("\n".join(sorted(self.categories.others)).encode()).hexdigest()[:8]
        return f"{self.fingerprint()}-{others}-{_STAGING_VERSION}"

    def shards_per_split(self) -> tuple[int, ...]:
        """How many shards each split gets: of about 262,144 drawings, 51 MB of pictures, or as asked."""
        shards = self._expected / self._shard_rows if self.shards is None else float(self.shards)
        return tuple(max(1, round(shards * percent / 100)) for percent in self.split_percents)

    @property
    def _expected(self) -> float:
        return sum(map(_records, self.sources))

    @property
    def _shard_rows(self) -> float:
        return 262_144.0 if self.kind == "strokes" else _SHARD_BYTES / (self.side**2 * self.channels)

    def chunks(self) -> list[Chunk]:
        """What the tasks read: every source in chunks of ``chunk_bytes``, or of more where there is much to read."""
        size = min(sum(source.size for source in self.sources) // _CHUNKS, _LARGEST_CHUNK_BYTES)
        size = max(size, self.chunk_bytes)
        return [chunk for source in self.sources for chunk in plan_chunks(source, size)]

    def exchange(self) -> Exchange:
        """What the tasks have to know."""
        shards = self.shards_per_split()
        return Exchange(
            to=self.to,
            staging=locations.join(self.to, STAGING),
            kind=self.kind,
            side=self.side,
            channels=self.channels,
            categories=self.categories,
            split_percents=self.split_percents,
            recognized_only=self.recognized_only,
            shards=shards,
            group_rows=self.group_rows,
            runs=runs_of(self._expected, shards, self.split_percents, self._shard_rows),
        )


def _records(source: Source) -> float:
    if source.records is not None:
        return source.records
    ratio = _GZIP_RATIO if locations.is_gzip(source.uri) else 1
    return source.size * ratio / _BYTES_PER_DRAWING[source.kind]


@dataclass(frozen=True)
class Progress:
    """How far a prepare is: tasks of the round that are done, and records read so far."""

    stage: str
    done: int
    total: int
    records: int


class TooManyRejectsError(WorkFailedError):
    """More bad records than ``max_rejects`` allows, or a file that is cut off."""


# --- the driver -----------------------------------------------------------------------------------------


def prepare(request: PrepareRequest, progress: Callable[[Progress], None] = lambda _: None) -> Manifest:
    """Prepare a dataset, or go on where a cut-off prepare of the same request stopped.

    Needs a running Ray. Raises ValueError where the destination holds another dataset, StorageError where it or a
    source can't be looked at, TooManyRejectsError, and WorkFailedError for what fails on the way.
    """
    fingerprint = request.fingerprint()
    if storage.exists(locations.join(request.to, MANIFEST)):
        manifest = load_manifest(request.to)
        if manifest.plan == fingerprint:
            _clear_staging(request.to)  # a prepare that was cut off while it did may have left some of it
            return manifest
        raise ValueError(
            f"{request.to} already holds a dataset prepared from other sources or options; "
            "choose another --to, or delete it first"
        )
    exchange, chunks = request.exchange(), request.chunks()
    _open_staging(request.to, exchange.staging, request.staging_id())
    with under_way():
        return _prepare(request, fingerprint, exchange, chunks, progress)


def _prepare(
    request: PrepareRequest,
    fingerprint: str,
    exchange: Exchange,
    chunks: list[Chunk],
    progress: Callable[[Progress], None],
) -> Manifest:
    pieces = sum(source.size for source in request.sources) // request.chunk_bytes
    tasks = partial(_ray_tasks, pieces, _CHUNKS_PER_TASK)
    _run_round("reading", exchange, "chunk", chunks, partial(scatter, exchange), tasks, progress)
    notes = chunk_notes(exchange, len(chunks))
    _refuse_too_many(request, chunks, notes, [])
    parts = [write_index(exchange, notes)] * (len(exchange.runs) - 1)
    tasks = partial(_ray_tasks, len(parts), _RUNS_PER_TASK)
    _run_round("writing", exchange, "run", parts, partial(gather, exchange), tasks, progress)
    runs = run_notes(exchange, len(parts))
    manifest = _finish(request, fingerprint, chunks, notes, runs)
    document = orjson.dumps(manifest.model_dump(), option=orjson.OPT_INDENT_2)
    storage.write_atomic(locations.join(request.to, MANIFEST), document)
    _clear_staging(request.to)
    return manifest


def _clear_staging(to: str) -> None:
    """Delete what a finished dataset has no more need of; it is as large as the dataset."""
    staging = locations.join(to, STAGING)
    if storage.exists(staging):  # a disk that may only be read refuses to delete what isn't there, too
        storage.delete_prefix(staging)


def _ray_tasks(pieces: int, per_task: int, cores: int) -> int:
    """How many Ray tasks do so many pieces: ``per_task`` of them each, where every core has tasks enough all the same.

    Ray Data looks for finished tasks every tenth of a second, and a core waits two of them for its next: with shorter
    tasks half of its time.
    """
    return max(_LEAST_BLOCKS, min(pieces, _TASKS_PER_CORE * cores), pieces // per_task)


def _open_staging(to: str, staging: str, ours: str) -> None:
    """Make `_staging/` that of this request. What another one had written, shards too, is deleted."""
    plan = locations.join(staging, "plan.json")
    if storage.exists(plan) and orjson.loads(storage.read_bytes(plan)) == ours:
        return
    if storage.exists(staging):
        for folder in (locations.join(to, name) for name in (*SPLITS, REJECTS)):
            written = storage.list_files(folder, (".parquet", ".npy"), missing_ok=True)
            for file in written:  # and not the folder, in which there may be what is none of ours
                if _WRITTEN.fullmatch(locations.basename(file.uri)):
                    storage.delete_prefix(file.uri)
        storage.delete_prefix(staging)  # last: it says that the others are left over
    storage.write_atomic(plan, orjson.dumps(ours))


def _run_round(
    stage: str,
    exchange: Exchange,
    name: str,
    arguments: Sequence[object],
    task: Callable[[int, Any], int],
    tasks: Callable[[int], int],
    progress: Callable[[Progress], None],
) -> None:
    """Run ``task(number, argument)`` for those that left no note yet, as one Ray Data pipeline of ``tasks(cores)``
    Ray tasks. Arguments travel as rows, each to the task that needs it: what a task brings along is unpickled every
    time.
    """
    import ray.data
    import ray.exceptions

    files = storage.list_files(exchange.staging, (".json",), missing_ok=True)
    there = {locations.basename(file.uri) for file in files}
    todo = [
        {"number": k, "argument": pickle.dumps(argument)}
        for k, argument in enumerate(arguments)
        if f"{name}-{k:06d}.json" not in there
    ]
    done, records = len(arguments) - len(todo), 0
    progress(Progress(stage, done, len(arguments), records))
    if not todo:
        return

    def run(rows: pa.Table) -> pa.Table:
        keep_freed_memory()
        with patience(TRAINING_PATIENCE_S):  # hours of work are not to end by a store's restart
            records = [task(row["number"], pickle.loads(row["argument"])) for row in rows.to_pylist()]
        return pa.table({"records": records})

    blocks = min(len(todo), tasks(int(ray.cluster_resources().get("CPU", 1))))
    dataset = ray.data.from_items(todo, override_num_blocks=blocks).map_batches(
        run, batch_size=None, batch_format="pyarrow"
    )
    dataset.context.enable_progress_bars = False
    dataset.context.custom_execution_callback_classes = [RoomIsKnown]
    try:
        for row in dataset.iter_rows():
            done, records = done + 1, records + int(row["records"])
            progress(Progress(stage, done, len(arguments), records))
    except (ray.exceptions.RayError, ray.exceptions.UserCodeException) as error:
        raise WorkFailedError(one_line(root_cause(error))) from error


def _first_lines(chunks: list[Chunk], notes: list[ChunkNote]) -> list[int]:
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


def _rejects(chunks: list[Chunk], notes: list[ChunkNote], runs: list[RunNote]) -> Iterator[BadRecord]:
    """Every bad record, in the sources' order."""
    firsts = _first_lines(chunks, notes)
    found = [(k, line, reason) for k, note in enumerate(notes) for line, reason in note["rejects"]]
    found += [(k, line, reason) for note in runs for k, line, reason in note["rejects"]]
    for k, line, reason in sorted(found):
        yield BadRecord(chunks[k].uri, *chunks[k].place(firsts[k], line), reason)


def _refuse_too_many(
    request: PrepareRequest, chunks: list[Chunk], notes: list[ChunkNote], runs: list[RunNote]
) -> list[BadRecord]:
    rejects = list(_rejects(chunks, notes, runs))
    if request.max_rejects < 1:
        _refuse_cut_off(chunks, notes)
    read = sum(note["rows"] + note["skipped"] + len(note["rejects"]) for note in notes)
    if len(rejects) > request.max_rejects * read:
        first = "; ".join(f"{bad.file}:{bad.line}: {bad.reason}" for bad in rejects[:_REJECTS_SHOWN])
        raise TooManyRejectsError(
            f"{len(rejects):,} of {read:,} records are bad, more than --max-rejects "
            f"{request.max_rejects:.4g} allows: {first}"
        )
    return rejects


def _refuse_cut_off(chunks: list[Chunk], notes: list[ChunkNote]) -> None:
    """Half a file may be missing, for one bad record."""
    for chunk, note, first in zip(chunks, notes, _first_lines(chunks, notes), strict=True):
        if note["is_cut_off"]:
            line, reason = note["rejects"][-1]
            file, number = chunk.place(first, line)
            raise TooManyRejectsError(
                f"{file}:{number}: {reason}: what came after is missing; get the file again, or take what there is "
                "of it with --max-rejects 1"
            )


def _finish(
    request: PrepareRequest,
    fingerprint: str,
    chunks: list[Chunk],
    notes: list[ChunkNote],
    runs: list[RunNote],
) -> Manifest:
    """Write the group counts and the rejects; the manifest that names everything."""
    rejects = _refuse_too_many(request, chunks, notes, runs)
    shards = list(chain.from_iterable(note["shards"] for note in runs))
    if not shards:
        raise ValueError(f"the sources hold no drawings of {_some(request.categories.names)}")
    splits, at = {}, 0
    for split, count in zip(SPLITS, request.shards_per_split(), strict=True):
        here = [note for note in shards if at <= note["bucket"] < at + count]
        splits[split] = _split_info(request, split, here)
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
                uri=locations.public(source.uri),  # a query may hold a signature
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


def _split_info(request: PrepareRequest, split: str, notes: list[ShardNote]) -> SplitInfo:
    kinds = len(request.categories.names)
    counts = np.concatenate([np.zeros((0, kinds), np.uint16), *(note["counts"] for note in notes)])
    sink = io.BytesIO()
    np.save(sink, counts)
    path = f"{split}/group_counts.npy"
    storage.write_atomic(locations.join(request.to, path), sink.getvalue())
    return SplitInfo(
        rows=sum(note["rows"] for note in notes),
        counts=tuple(counts.sum(axis=0, dtype=np.int64).tolist()),
        recognized=sum(note["recognized"] for note in notes),
        shards=tuple(ShardInfo.model_validate(note["shard"]) for note in notes),
        group_counts=path,
        group_counts_sha256=hashlib.sha256(sink.getvalue()).hexdigest(),
    )


def _write_rejects(to: str, rejects: list[BadRecord]) -> RejectsInfo:
    if not rejects:
        return RejectsInfo(rows=0)
    _, files, lines, reasons = zip(*rejects, strict=True)
    table = pa.table({"file": files, "line": pa.array(lines, pa.uint64()), "reason": reasons})
    data = parquet(table, 65536)
    path = f"{REJECTS}/part-00000.parquet"
    storage.write_atomic(locations.join(to, path), data)
    kinds = Counter(re.sub(r"\d+", "N", reason) for reason in reasons)
    return RejectsInfo(
        rows=len(rejects),
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        reasons=dict(kinds.most_common(20)),
    )
