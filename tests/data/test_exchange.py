"""prepare's exchange: each drawing to its shard, and no more work for more shards than their files are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doodle_dist.bench.made_up import RealDrawings, key_ids, write_category
from doodle_dist.data import exchange, storage
from doodle_dist.data.buckets import bucket_of
from doodle_dist.data.exchange import (
    Exchange,
    RunNote,
    chunk_notes,
    gather,
    run_notes,
    runs_of,
    scatter,
    write_index,
)
from doodle_dist.data.shards import PrepareRequest
from doodle_dist.data.sources import categories_of, find_sources
from doodle_dist.data.split import place_of
from doodle_dist.data.strokes import pack_strokes

ROWS = 3000


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of the binary format."""
    folder = tmp_path_factory.mktemp("raw")
    packed = [pack_strokes([([10 * k, 200], [0, 255])]) for k in range(1, 5)]
    for number, name in enumerate(("cat", "dog", "fish")):
        real = RealDrawings(
            name,
            np.frombuffer(b"".join(packed), np.uint8),
            np.cumsum([0, *map(len, packed)]).astype(np.int32),
            np.tile(np.frombuffer(b"CH", np.uint8), (4, 1)),
            np.ones(4, np.uint8),
        )
        write_category(real, number * ROWS // 3, ROWS // 3, folder / f"{name}.bin")
    return folder


def exchange_of(raw: Path, to: Path | str, shards: int) -> tuple[Exchange, PrepareRequest]:
    sources = tuple(find_sources([str(raw)]))
    request = PrepareRequest(sources, categories_of(sources), str(to), (80.0, 10.0, 10.0), shards=shards)
    return request.exchange(), request


def run_all(plan: Exchange, request: PrepareRequest) -> list[RunNote]:
    """Both rounds, without Ray; the notes of the second."""
    chunks, runs = request.chunks(), len(plan.runs) - 1
    for number, chunk in enumerate(chunks):
        scatter(plan, number, chunk)
    parts = write_index(plan, chunk_notes(plan, len(chunks)))
    assert sum(gather(plan, run, parts) for run in range(runs)) == ROWS
    return run_notes(plan, runs)


@pytest.mark.slow
@pytest.mark.parametrize(("shards", "run_rows"), [(4, 10_000), (30, 500), (100, 1), (300, 100_000)])
def test_each_drawing_is_in_its_shard_in_its_place_whatever_the_runs(
    raw: Path, tmp_path: Path, shards: int, run_rows: int
) -> None:
    plan, request = exchange_of(raw, tmp_path, shards)
    plan = replace(plan, runs=runs_of(ROWS, plan.shards, plan.split_percents, run_rows))
    notes = [shard for note in run_all(plan, request) for shard in note["shards"]]
    keys = key_ids(0, ROWS)
    bucket = bucket_of(keys, plan.split_percents, plan.shards)
    found = {note["bucket"]: pq.read_table(tmp_path / note["shard"]["path"]) for note in notes}
    assert sorted(found) == np.unique(bucket).tolist()
    for k, table in found.items():
        mine = keys[bucket == k]
        assert table["key_id"].to_pylist() == mine[np.argsort(place_of(mine))].tolist()
    assert [note["bucket"] for note in notes] == sorted(found), "in order"


def test_of_a_key_id_that_comes_again_the_earliest_stays(raw: Path, tmp_path: Path) -> None:
    plan, _ = exchange_of(raw, tmp_path, 40)
    rng = np.random.default_rng(0)
    key = rng.integers(0, 700, 5000).astype(np.uint64)
    chunk, line = rng.integers(0, 9, 5000), rng.permutation(5000).astype(np.uint32)
    kept, bucket, rejects = exchange._in_place(plan, pa.table({"key_id": key, "line": line}), chunk)
    buckets = bucket_of(key, plan.split_percents, plan.shards)
    order = np.lexsort((line, chunk, place_of(key), buckets))
    first = np.concatenate([[True], key[order][1:] != key[order][:-1]])
    assert kept["line"].to_pylist() == line[order][first].tolist()
    assert bucket.tolist() == buckets[order][first].tolist()
    assert [row[1] for row in rejects] == line[order][~first].tolist()


def test_columns_of_strokes_are_stored_as_they_are_and_pictures_are_compressed() -> None:
    table = pa.table(
        {"key_id": np.arange(9, dtype=np.uint64), "strokes": [b"abc"] * 9, "pixels": [b"\0" * 784] * 9}
    )
    group = pq.ParquetFile(pa.BufferReader(exchange.parquet(table, 9))).metadata.row_group(0)
    assert [group.column(k).compression for k in range(3)] == ["UNCOMPRESSED", "UNCOMPRESSED", "ZSTD"]


def test_an_object_store_holds_the_same_shards(raw: Path, tmp_path: Path, s3_bucket: str) -> None:
    here, there = (
        [shard["shard"] for note in run_all(*exchange_of(raw, to, 30)) for shard in note["shards"]]
        for to in (tmp_path, f"{s3_bucket}/data")
    )
    assert here == there
    assert (
        storage.read_bytes(f"{s3_bucket}/data/{there[3]['path']}")
        == (tmp_path / here[3]["path"]).read_bytes()
    )


@given(
    rows=st.floats(0, 1e9),
    shards=st.tuples(*[st.integers(1, 400)] * 3),
    run_rows=st.floats(1, 1e6),
)
def test_runs_are_neighbours_and_cover_all_buckets(rows: float, shards: tuple, run_rows: float) -> None:
    runs = runs_of(rows, shards, (98.0, 1.0, 1.0), run_rows)
    assert runs[0] == 0
    assert runs[-1] == sum(shards)
    assert list(runs) == sorted(set(runs))


def test_the_messages_do_not_grow_with_the_shards() -> None:
    drawings, parts = 50_000_000, 345
    counts = []
    for shards in (200, 2_000, 20_000):
        split = (round(0.98 * shards), round(0.01 * shards), round(0.01 * shards))
        counts.append(parts * (len(runs_of(drawings, split, (98.0, 1.0, 1.0), 262_144)) - 1))
    assert max(counts) < 1.1 * parts * drawings / 262_144
    bytes_of_all = drawings * 120
    assert bytes_of_all / max(counts) > 4096, "each message is worth a read"


def test_large_sources_are_read_in_few_chunks_and_small_ones_in_enough(tmp_path: Path, raw: Path) -> None:
    _, request = exchange_of(raw, tmp_path, 4)

    def chunks(total: int) -> int:
        sources = tuple(replace(s, uri="x.ndjson", kind="ndjson", size=total // 3) for s in request.sources)
        return len(replace(request, sources=sources).chunks())

    assert chunks(64 << 30) == pytest.approx((64 << 30) / (128 << 20), rel=0.02)
    assert 24 < chunks(1 << 30) < 36


def test_a_task_reads_its_own_lines_of_the_index(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, request = exchange_of(raw, tmp_path, 40)
    run_all(plan, request)
    read: list[tuple[str, int | None]] = []
    whole = exchange.storage.read_bytes

    def counted(uri: str, start: int = 0, length: int | None = None) -> bytes:
        data = whole(uri, start, length)
        read.append((Path(uri).suffix, len(data)))
        return data

    monkeypatch.setattr(exchange.storage, "read_bytes", counted)
    gather(plan, 0, 3)
    assert [kind for kind, _ in read].count(".arrow") == 3
    assert [size for kind, size in read if kind == ".bin"] == [3 * exchange._ENTRY.itemsize]
