"""What `bench scale --measure` finds on a machine: a shard of real drawings, read as the stream reads it, and how fast
two processes add up gradients over the loopback."""

import io
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist
from pydantic import BaseModel, ConfigDict
from torch.multiprocessing.spawn import spawn

from doodle_dist.bench.machine import Machine
from doodle_dist.data import locations, storage
from doodle_dist.data.exchange import chunk_notes, gather, scatter, write_index
from doodle_dist.data.shards import PrepareRequest
from doodle_dist.data.sources import categories_of, find_sources


class Here(BaseModel):
    """What was found, as it stands in a file of benchmarks/results."""

    model_config = ConfigDict(frozen=True)

    drawings: int
    shard_bytes_per_drawing: float
    requests_per_open: float  # the store is asked for the file's length too
    bytes_per_open: float
    requests_per_group: float
    bytes_per_row: float
    loopback_bytes_per_s: float
    machine: Machine


class _CountedFile(io.BytesIO):
    """A file in memory that notes how long each read was."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: list[int] = []

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.reads.append(len(data))
        return data


def shard_of(drawings: str, folder: Path) -> bytes:
    """One shard of the official drawings at ``drawings``, as `data prepare` writes it."""
    sources = tuple(find_sources([drawings]))
    request = PrepareRequest(
        sources, categories_of(sources), str(folder), split_percents=(100, 0, 0), shards=1
    )
    exchange = request.exchange()
    chunks = request.chunks()
    for number, chunk in enumerate(chunks):
        scatter(exchange, number, chunk)
    gather(exchange, 0, write_index(exchange, chunk_notes(exchange, len(chunks))))
    return storage.read_bytes(locations.join(exchange.to, exchange.path_of(0)))


def measure_here(drawings: str) -> Here:
    """Lay out and read a shard of real drawings; add up gradients over the loopback."""
    with tempfile.TemporaryDirectory(prefix="doodle-dist-scale-") as folder:
        data = shard_of(drawings, Path(folder))
    counted = _CountedFile(data)
    # As the stream opens what lies in an object store.
    file = pq.ParquetFile(pa.PythonFile(counted, mode="r"), pre_buffer=True, page_checksum_verification=True)
    opened = list(counted.reads)
    counted.reads.clear()
    full = list(range(file.num_row_groups - 1)) or [0]
    rows = sum(
        len(file.read_row_group(k, columns=["key_id", "label", "strokes"], use_threads=False)) for k in full
    )
    return Here(
        drawings=file.metadata.num_rows,
        shard_bytes_per_drawing=len(data) / file.metadata.num_rows,
        requests_per_open=1 + len(opened),
        bytes_per_open=sum(opened),
        requests_per_group=len(counted.reads) / len(full),
        bytes_per_row=sum(counted.reads) / rows,
        loopback_bytes_per_s=measure_loopback(),
        machine=Machine.here(),
    )


_LOOPBACK_BYTES, _LOOPBACK_ROUNDS = 32 << 20, 5


def _add_up(rank: int, meeting: str, result: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    gradients = torch.ones(_LOOPBACK_BYTES // 4)
    times = []
    for _ in range(_LOOPBACK_ROUNDS):
        dist.barrier()
        began = time.perf_counter()
        dist.all_reduce(gradients)
        times.append(time.perf_counter() - began)
    if rank == 0:
        Path(result).write_text(str(float(np.median(times))))
    dist.destroy_process_group()


def measure_loopback() -> float:
    """Bytes/s at which each of two processes of this machine sends in an all-reduce (gloo): of n ranks, each sends
    2(n - 1)/n of the gradients (Patarasuk & Yuan 2009, ring all-reduce)."""
    with tempfile.TemporaryDirectory(prefix="doodle-dist-loopback-") as folder:
        result = f"{folder}/seconds"
        spawn(_add_up, (f"{folder}/meeting", result), nprocs=2)
        return _LOOPBACK_BYTES / float(Path(result).read_text())
