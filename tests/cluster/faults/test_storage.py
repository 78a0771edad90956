"""Rows of the fault table: an S3 server that is away, overloaded, slow or refuses, and what lies in it damaged."""

import time
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from doodle_dist.data import locations, storage
from doodle_dist.training.checkpoint_store import stored_checkpoints
from tests.cluster.faults.conftest import Row
from tests.cluster.faults.hosts import Job, command, copy_dataset

pytestmark = [pytest.mark.faults, pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]
Submit = Callable[..., Job]


def test_s3_down_for_30_s(submit: Submit, row: Row) -> None:
    """The S3 server down for 30 s."""
    job = submit()
    kept = job.wait_for_checkpoint(after=3000)
    command("kill", "s3")
    time.sleep(30)
    command("start", "s3")
    row.strike()
    job.wait_for_the_next_checkpoint()
    row.recovered()
    job.succeeded()
    job.check(kept, attempts=1)


def _trains_on_with(submit: Submit, row: Row, *fault: str) -> None:
    """Under way, the S3 server's answers become what they are in ``fault``, to the end; the run never starts anew."""
    job = submit(settings={"train.checkpoint_every_drawings": "3000"})
    kept = job.wait_for_checkpoint()
    row.strike()
    command("s3", *fault)
    job.wait_for_the_next_checkpoint()
    row.recovered()
    job.succeeded(300)
    command("s3", "ok")
    job.check(kept, attempts=1)


def test_s3_answers_503_to_half(submit: Submit, row: Row) -> None:
    """503 SlowDown to half of all requests, to the end."""
    _trains_on_with(submit, row, "errors", "0.5")


def test_s3_answers_300_ms_later(submit: Submit, row: Row) -> None:
    """300 ms of latency in every request, to the end."""
    _trains_on_with(submit, row, "latency", "300")


def test_s3_refuses_the_key(submit: Submit, row: Row) -> None:
    """The key refused midway: stops, says so, and goes on once it is let in again."""
    job = submit()
    kept = job.wait_for_checkpoint(after=3000)
    row.strike()
    command("s3", "refuse")
    reason = job.failed()
    row.recovered("to the stop")
    assert "refused the key" in reason
    command("s3", "ok")
    job.submit().succeeded()
    job.check(kept)


def test_checkpoint_truncated(submit: Submit, row: Row) -> None:
    """The newest checkpoint truncated: named, and the one before it used."""
    job = submit(drawings=9000)
    job.succeeded()
    newest = stored_checkpoints(str(job.folder))[-1].name
    victim = locations.join(job.uri, newest, "state.pt")
    storage.write_atomic(victim, storage.read_bytes(victim, 0, storage.size(victim) // 2))
    job.drawings = 18_000
    row.strike()
    job.submit()
    job.wait_for_checkpoint(after=9000 + 64)
    row.recovered()
    assert newest in job.said(), "the damaged checkpoint is named"
    job.succeeded()
    job.check({"step": 1, "drawings_seen": 0})


def _failure_with_data(submit: Submit, row: Row, to: str, change: Callable[[str], None]) -> None:
    shards = copy_dataset(to)
    change(shards[-1])
    row.strike()
    reason = submit(data=to).failed()
    row.recovered("to the stop")
    assert locations.basename(shards[-1]) in reason


def test_shard_altered(submit: Submit, row: Row) -> None:
    """A shard altered, its length kept: named."""

    def alter(uri: str) -> None:
        content = bytearray(storage.read_bytes(uri))
        group = pq.ParquetFile(pa.BufferReader(bytes(content))).metadata.row_group(0)
        columns = {group.column(k).path_in_schema: group.column(k) for k in range(group.num_columns)}
        strokes = columns["strokes"]  # in a column that no run reads, nobody would see it
        middle = strokes.data_page_offset + strokes.total_compressed_size // 2
        content[middle : middle + 16] = bytes(byte ^ 0xFF for byte in content[middle : middle + 16])
        storage.write_atomic(uri, bytes(content))

    _failure_with_data(submit, row, "s3://doodles/altered", alter)


def test_shard_missing(submit: Submit, row: Row) -> None:
    """A shard missing: named."""
    _failure_with_data(submit, row, "s3://doodles/missing", storage.delete_prefix)
