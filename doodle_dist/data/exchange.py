"""The exchange in the middle of `prepare`: drawings go from the chunks of the sources to the shards they belong to.

*Buckets* are the shards of all splits, one after the other; a drawing's is a hash of its key_id. *Runs* are
neighbouring buckets, together about as many drawings as fit a shard of usual size. Scatter writes *parts*: the
drawings of a chunk, run by run, one Arrow message a run. Gather reads a run's message from every part and writes
its shards.

What grows with the square of a dataset is the number of messages, parts times runs. Parts and runs hold 262,144
drawings (30 MB) each, where sources allow: a message holds 4 KB or more up to two billion drawings, so reading them is
bound by their bytes, which grow with the dataset alone. How many shards there are does not matter. A gather task finds
its messages in its own few lines of an index that lies beside the parts.
"""

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, TypedDict

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from doodle_dist.data import locations, storage
from doodle_dist.data.buckets import bucket_of
from doodle_dist.data.categories import Categories
from doodle_dist.data.records import Batch, Chunk
from doodle_dist.data.schema import Kind, columns
from doodle_dist.data.sources import read_chunk
from doodle_dist.data.split import SPLITS, place_of

# A part is written when it holds so many drawings (about 30 MB of strokes), or so many bytes.
PART_ROWS = 262_144
PART_BYTES = 200 << 20
# Fewer runs than this would leave cores idle, where there are as many shards.
LEAST_RUNS = 8
_INDEX = "index.bin"
_ENTRY = np.dtype([("chunk", "<i8"), ("part", "<i8"), ("start", "<i8"), ("length", "<i8")])
_AS_THEY_ARE = ("key_id", "label", "countrycode", "recognized", "strokes")  # columns that aren't compressed
_READERS = 8  # messages, or notes, asked for at once: an object store takes its time for each


class ChunkNote(TypedDict):
    """What scatter leaves of a chunk. ``rejects`` are (line, reason), lines counted in the chunk from 0; a part is
    where each run's message begins in its file, and the file's length. ``is_cut_off`` as in ``Batch``."""

    lines: int
    rows: int
    skipped: int
    rejects: list[tuple[int, str]]
    is_cut_off: bool
    parts: list[list[int]]


class ShardNote(TypedDict):
    """What gather notes of a shard. ``shard`` is the manifest's `ShardInfo`, ``counts`` uint16 [row groups,
    categories]."""

    bucket: int
    shard: dict[str, object]
    rows: int
    counts: NDArray[np.uint16]
    recognized: int


class RunNote(TypedDict):
    """What gather leaves of a run. ``rejects`` are (chunk, line, reason)."""

    shards: list[ShardNote]
    rejects: list[tuple[int, int, str]]


@dataclass(frozen=True)
class Exchange:
    """What every task of a prepare has to know. ``shards`` are the numbers of shards of the splits."""

    to: str
    staging: str
    kind: Kind
    side: int
    channels: int
    categories: Categories
    split_percents: tuple[float, float, float]
    recognized_only: bool
    shards: tuple[int, ...]
    group_rows: int
    runs: tuple[int, ...]  # the first bucket of each run, and the number of buckets

    def run_of(self, bucket: NDArray[np.int64]) -> NDArray[np.unsignedinteger]:
        """The run that each bucket belongs to."""
        return np.repeat(_small(np.arange(len(self.runs) - 1)), np.diff(self.runs))[bucket]

    def path_of(self, bucket: int) -> str:
        """Where the shard of a bucket lies in the dataset."""
        for split, count in zip(SPLITS, self.shards, strict=True):
            if bucket < count:
                return f"{split}/part-{bucket:05d}.parquet"
            bucket -= count
        raise AssertionError("a bucket beyond the last")


def _small(numbers: NDArray[np.int64]) -> NDArray[np.unsignedinteger]:
    """Numbers from 0 on in as few bits as they need: NumPy sorts 16 in a tenth of the time that 64 take."""
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))))


def runs_of(
    rows: float, shards: Sequence[int], percents: Sequence[float], run_rows: float
) -> tuple[int, ...]:
    """The first bucket of each run, and the number of buckets: as many neighbours as hold ``run_rows`` of the
    ``rows`` drawings there are about, at least one."""
    run_rows = min(run_rows, rows / LEAST_RUNS)
    starts, held = [0], 0.0
    for bucket, size in enumerate(
        rows * percent / 100 / count
        for count, percent in zip(shards, percents, strict=True)
        for _ in range(count)
    ):
        if held and held + size > run_rows:
            starts.append(bucket)
            held = 0.0
        held += size
    return (*starts, sum(shards))


# --- scatter ----------------------------------------------------------------------------------------------


def _schema(exchange: Exchange) -> pa.Schema:
    """Columns of a part: a shard's, the country spelt out, and the line."""
    shard = columns(exchange.kind, exchange.side, exchange.channels)
    country = shard.get_field_index("countrycode")
    return shard.set(country, pa.field("countrycode", pa.string())).append(pa.field("line", pa.uint32()))


def _table(batch: Batch, kind: Kind, schema: pa.Schema) -> pa.Table:
    picture = batch.strokes if kind == "strokes" else batch.pixels
    country = batch.countrycode.cast(pa.string())
    return pa.table(
        [batch.key_id, batch.label, country, batch.recognized, picture, batch.line], names=schema.names
    ).cast(schema)


def scatter(exchange: Exchange, number: int, chunk: Chunk) -> int:
    """Parse chunk ``number`` and write its drawings to staging, run by run; the records read.

    Leaves the note chunk-NUMBER.json.
    """
    parts: list[list[int]] = []
    held: list[pa.Table] = []
    rejects: list[tuple[int, str]] = []
    lines = skipped = rows = 0
    is_cut_off = False
    schema = _schema(exchange)

    def flush() -> None:
        if held:
            parts.append(_write_part(exchange, _part_path(number, len(parts)), held))
            held.clear()

    for batch in read_chunk(chunk, exchange.categories):
        rejects += [(reject.line, reject.reason) for reject in batch.rejects]
        is_cut_off |= batch.is_cut_off
        table = _table(batch, exchange.kind, schema)
        if exchange.recognized_only:
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
    note = ChunkNote(
        lines=lines, rows=rows, skipped=skipped, rejects=rejects, is_cut_off=is_cut_off, parts=parts
    )
    storage.write_atomic(locations.join(exchange.staging, f"chunk-{number:06d}.json"), orjson.dumps(note))
    return rows + skipped + len(rejects)


def _part_path(chunk: int, part: int) -> str:
    return f"chunk-{chunk:06d}-{part:04d}.arrow"


def _write_part(exchange: Exchange, path: str, tables: list[pa.Table]) -> list[int]:
    """Write one message a run; where each begins in the file, and the file's length."""
    table = pa.concat_tables(tables).combine_chunks()
    run = exchange.run_of(bucket_of(table["key_id"].to_numpy(), exchange.split_percents, exchange.shards))
    order = np.argsort(run, kind="stable")
    table = table.take(pa.array(order)).combine_chunks()
    ends = np.searchsorted(run[order], np.arange(len(exchange.runs)))
    sink, starts = io.BytesIO(), []
    for start, stop in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        starts.append(sink.tell())
        if stop > start:
            (batch,) = table.slice(start, stop - start).to_batches()
            sink.write(batch.serialize())
    storage.write_atomic(locations.join(exchange.staging, path), sink.getvalue())
    return [*starts, sink.tell()]


# --- between the two --------------------------------------------------------------------------------------


def chunk_notes(exchange: Exchange, count: int) -> list[ChunkNote]:
    """What scatter left of ``count`` chunks, in order."""
    return _notes(exchange, "chunk", count)


def run_notes(exchange: Exchange, count: int) -> list[RunNote]:
    """What gather left of ``count`` runs, in order."""
    return _notes(exchange, "run", count)


def _notes(exchange: Exchange, name: str, count: int) -> list[Any]:
    def note(number: int) -> dict[str, Any]:
        where = locations.join(exchange.staging, f"{name}-{number:06d}.json")
        found: dict[str, Any] = orjson.loads(storage.read_bytes(where))
        for shard in found.get("shards", ()):
            shard["counts"] = np.array(shard["counts"], np.uint16)  # a twentieth of the lists' memory
        return found

    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(note, range(count)))


def write_index(exchange: Exchange, notes: Sequence[ChunkNote]) -> int:
    """Write where each run's messages lie, for the gather tasks: from all of scatter's notes; how many parts there
    are."""
    places = [(number, k) for number, note in enumerate(notes) for k in range(len(note["parts"]))]
    starts = np.array([part for note in notes for part in note["parts"]], np.int64)
    starts = starts.reshape(len(places), len(exchange.runs))  # [parts, runs + 1]
    index = np.zeros((len(exchange.runs) - 1, len(places)), _ENTRY)
    if places:
        index["chunk"], index["part"] = np.array(places).T
        index["start"], index["length"] = starts[:, :-1].T, np.diff(starts, axis=1).T
    storage.write_atomic(locations.join(exchange.staging, _INDEX), index.tobytes())
    return len(places)


def _entries(exchange: Exchange, run: int, parts: int) -> NDArray[np.void]:
    size = parts * _ENTRY.itemsize
    data = storage.read_bytes(locations.join(exchange.staging, _INDEX), run * size, size)
    entries = np.frombuffer(data, _ENTRY)
    return entries[entries["length"] > 0]


# --- gather -----------------------------------------------------------------------------------------------


def gather(exchange: Exchange, run: int, parts: int) -> int:
    """Write the shards of a run from its messages in all ``parts``; the drawings written.

    Leaves the note run-NUMBER.json.
    """
    entries = _entries(exchange, run, parts)
    first, stop = exchange.runs[run], exchange.runs[run + 1]
    notes: list[ShardNote] = []
    rejects: list[tuple[int, int, str]] = []
    if len(entries):
        # A thread reads many: to be asked takes it as long as a read.
        with ThreadPoolExecutor(_READERS) as pool:
            shares = pool.map(partial(_messages, exchange), np.array_split(entries, _READERS))
            batches = list(chain.from_iterable(shares))
        chunk = np.repeat(entries["chunk"], [len(batch) for batch in batches])
        table, bucket, rejects = _in_place(exchange, pa.Table.from_batches(batches).combine_chunks(), chunk)
        del batches
        ends = np.searchsorted(bucket, np.arange(first, stop + 1))
        for k, (start, end) in enumerate(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)):
            if end > start:
                notes.append(_write_shard(exchange, first + k, table.slice(start, end - start)))
    document = orjson.dumps(RunNote(shards=notes, rejects=rejects), option=orjson.OPT_SERIALIZE_NUMPY)
    storage.write_atomic(locations.join(exchange.staging, f"run-{run:06d}.json"), document)
    return sum(note["rows"] for note in notes)


def _messages(exchange: Exchange, entries: NDArray[np.void]) -> list[pa.RecordBatch]:
    schema, batches = _schema(exchange), []
    for chunk, part, start, length in entries.tolist():
        data = storage.read_bytes(locations.join(exchange.staging, _part_path(chunk, part)), start, length)
        batches.append(pa.ipc.read_record_batch(pa.py_buffer(data), schema))
    return batches


def _in_place(
    exchange: Exchange, table: pa.Table, chunk: NDArray[np.int64]
) -> tuple[pa.Table, NDArray[np.int64], list[tuple[int, int, str]]]:
    """The drawings in the order of their buckets and places, the first of each key_id only; their buckets; and
    (chunk, line, reason) of the others."""
    key_id, line = table["key_id"].to_numpy(), table["line"].to_numpy()
    bucket = bucket_of(key_id, exchange.split_percents, exchange.shards)
    # place_of is a bijection of key_id: the same ones lie side by side, and where there are none it is all there is to
    # sort by, which takes a quarter of the time.
    place = place_of(key_id)
    order = np.argsort(place)
    if _follows_itself(place[order]).any():
        order = np.lexsort((line, chunk, place))  # the earliest first
    order = order[np.argsort(_small(bucket[order]), kind="stable")]
    again = _follows_itself(key_id[order])
    rejects = [(int(chunk[row]), int(line[row]), f"key_id {key_id[row]} came before") for row in order[again]]
    kept = order[~again]
    return table.take(pa.array(kept)).combine_chunks(), bucket[kept], rejects


def _follows_itself(numbers: NDArray[np.uint64]) -> NDArray[np.bool_]:
    return np.concatenate([[False], numbers[1:] == numbers[:-1]])


def _write_shard(exchange: Exchange, bucket: int, table: pa.Table) -> ShardNote:
    """Write the shard of a bucket; its note."""
    country = table["countrycode"].combine_chunks().dictionary_encode()
    country = country.cast(pa.dictionary(pa.int16(), pa.string()))
    schema = columns(exchange.kind, exchange.side, exchange.channels)
    table = table.drop(["line"]).set_column(2, "countrycode", country).cast(schema)
    labels, size = table["label"].to_numpy(), exchange.group_rows
    groups = [labels[k : k + size] for k in range(0, len(labels), size)]
    kinds = len(exchange.categories.names)
    data = parquet(table, size)
    path = exchange.path_of(bucket)
    storage.write_atomic(locations.join(exchange.to, path), data)
    return ShardNote(
        bucket=bucket,
        shard={
            "path": path,
            "rows": len(table),
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "row_groups": [len(part) for part in groups],
        },
        rows=len(table),
        counts=np.array([np.bincount(part, minlength=kinds).tolist() for part in groups], np.uint16),
        recognized=int(np.count_nonzero(table["recognized"].to_numpy())),
    )


def parquet(table: pa.Table, row_group_rows: int) -> bytes:
    """A table as the bytes of a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        row_group_size=row_group_rows,
        # Strokes hardly get smaller (10 % with zstd), and what is beside them is small; each epoch reads them.
        compression={name: "none" if name in _AS_THEY_ARE else "zstd" for name in table.schema.names},
        use_dictionary=["countrycode", "label"],
        write_statistics=False,
        write_page_checksum=True,  # an altered byte is found by whoever reads it, not by `data verify` alone
    )
    return sink.getvalue()
