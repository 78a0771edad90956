"""The audit: which drawings each step consumed, written beside a run, to be checked from outside.

    <run>/audit/attempt-0002/rank-001/000000000200.arrow      (the first step in the file)

Each file holds rows (step, epoch, lane, key_id), in the order of the steps and of a step's lanes. An attempt is
one start of the worker group. A later attempt supersedes every step from its first on: what an earlier one
consumed after the checkpoint that the later one began from never reached the weights.
"""

import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from doodle_dist.data import locations, storage

_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("epoch", pa.int32()),
        ("lane", pa.int32()),
        ("key_id", pa.uint64()),
    ]
)


def next_attempt(run_uri: str) -> int:
    """The number of the attempt that is about to start: one more than any that left a trace."""
    where = locations.join(run_uri, "audit")
    if not storage.exists(where):
        return 0
    files = storage.list_files(where, (".arrow",), recursive=True)
    return max((_attempt_of(file.uri) for file in files), default=-1) + 1


def _attempt_of(uri: str) -> int:
    """The attempt that wrote a file."""
    return int(uri.split("/")[-3].removeprefix("attempt-"))


class AuditWriter:
    """Collects a rank's rows and writes them as one file at each ``flush``."""

    def __init__(self, run_uri: str, attempt: int, rank: int, flush_rows: int = 65536) -> None:
        self.prefix = locations.join(run_uri, "audit", f"attempt-{attempt:04d}", f"rank-{rank:03d}")
        self.flush_rows = flush_rows
        self.rows: list[pa.RecordBatch] = []
        self.held = 0
        self.first_step = 0

    def add(
        self, step: int, epoch: int, lane_rows: tuple[tuple[int, int], ...], key_ids: NDArray[np.uint64]
    ) -> None:
        """Note what a step consumed. Call it once the step is done."""
        if not self.rows:
            self.first_step = step
        n = len(key_ids)
        lanes = np.repeat([lane for lane, _ in lane_rows], [rows for _, rows in lane_rows])
        columns = [np.full(n, step), np.full(n, epoch, np.int32), lanes.astype(np.int32), key_ids]
        arrays = [pa.array(column, type_.type) for column, type_ in zip(columns, _SCHEMA, strict=True)]
        self.rows.append(pa.record_batch(arrays, schema=_SCHEMA))
        self.held += n
        if self.held >= self.flush_rows:
            self.flush()

    def flush(self) -> None:
        """Write what is held; nothing that a checkpoint counts may be missing, so call it before each."""
        if not self.rows:
            return
        sink = io.BytesIO()
        with pa.ipc.new_file(sink, _SCHEMA) as writer:
            writer.write_table(pa.Table.from_batches(self.rows))
        storage.write_atomic(locations.join(self.prefix, f"{self.first_step:012d}.arrow"), sink.getvalue())
        self.rows, self.held = [], 0


def read_audit(run_uri: str) -> pa.Table:
    """What the run's weights really consumed: (step, epoch, lane, key_id), superseded steps left out.

    Rows are ordered by step and lane. Raises ValueError where the run has no audit.
    """
    where = locations.join(run_uri, "audit")
    files = storage.list_files(where, (".arrow",), recursive=True, missing_ok=True)
    if not files:
        raise ValueError(f"{run_uri} has no audit: train it with --set data.audit=true")
    attempts: dict[int, list[pa.Table]] = {}
    for file in files:
        table = pa.ipc.open_file(io.BytesIO(storage.read_bytes(file.uri))).read_all()
        attempts.setdefault(_attempt_of(file.uri), []).append(table)
    kept = []
    superseded_from = np.iinfo(np.int64).max
    for number in sorted(attempts, reverse=True):
        table = pa.concat_tables(attempts[number])
        steps = table["step"].to_numpy()
        kept.append(table.filter(pa.array(steps < superseded_from)))
        superseded_from = min(superseded_from, int(steps.min(initial=superseded_from)))
    return pa.concat_tables(kept).sort_by([("step", "ascending"), ("lane", "ascending")])


@dataclass(frozen=True)
class AuditResult:
    """``complete_epochs`` whole ones were checked; ``partial_rows`` are of the epoch under way."""

    steps: int
    rows: int
    complete_epochs: int
    partial_rows: int
    problems: tuple[str, ...]


def check_audit(run_uri: str, split_key_ids: NDArray[np.uint64]) -> AuditResult:
    """Check exactly-once against the key_ids of the training split, in which each is once (see data/shards.py)."""
    table = read_audit(run_uri)
    steps, epochs = table["step"].to_numpy(), table["epoch"].to_numpy()
    key_ids = table["key_id"].to_numpy()
    problems = []
    present = np.unique(steps)
    if len(present) and not np.array_equal(present, np.arange(len(present))):
        missing = np.setdiff1d(np.arange(int(present[-1]) + 1), present)
        problems.append(f"steps without a record: {missing[:10].tolist()} ({len(missing)} in all)")
    complete, partial = 0, 0
    wanted = np.sort(split_key_ids)
    last = int(epochs.max(initial=-1))
    for epoch in range(last + 1):
        seen = np.sort(key_ids[epochs == epoch])
        twice = seen[1:][seen[1:] == seen[:-1]]
        if len(twice):
            problems.append(f"epoch {epoch}: {len(twice)} drawings seen twice, such as {twice[0]}")
        if len(strange := np.setdiff1d(seen, wanted)):
            problems.append(f"epoch {epoch}: {len(strange)} drawings not of the split, such as {strange[0]}")
        if len(seen) == len(wanted) and not len(twice):
            complete += 1
        elif epoch < last:
            left_out = np.setdiff1d(wanted, seen)
            problems.append(f"epoch {epoch}: {len(left_out)} of {len(wanted)} drawings never seen")
        else:
            partial = len(seen)
    return AuditResult(len(present), len(key_ids), complete, partial, tuple(problems))
