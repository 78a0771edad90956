"""A run's figures as a file for programs: ``metrics.jsonl``, one JSON object a line, continuous over restarts.

Where the run lies in an object store, whose files can't be appended to, lines are kept on a local disk and the
whole file is put at every checkpoint: what a checkpoint counts has been put before it, wherever rank 0 starts next.
"""

import tempfile
from pathlib import Path

import orjson

from doodle_dist.data import storage
from doodle_dist.evaluation.runs import METRICS_LOG, read_metrics_log


class MetricsLog:
    """Writes to ``<run>/metrics.jsonl``. Each line has ``drawings_seen`` and the figures of a log or evaluation."""

    def __init__(self, run_uri: str, drawings_seen: int) -> None:
        """Go on from a checkpoint: lines past its ``drawings_seen``, and a line cut short, are dropped."""
        self.uri = storage.join(run_uri, METRICS_LOG)
        self.is_remote = "://" in run_uri
        kept = b"".join(
            orjson.dumps(line) + b"\n"
            for line in read_metrics_log(run_uri)
            if drawings_seen and line["drawings_seen"] <= drawings_seen
        )
        if self.is_remote:
            self.path = Path(tempfile.mkdtemp(prefix="doodle-dist-metrics-")) / METRICS_LOG
            self.path.write_bytes(kept)
        else:
            storage.write_atomic(self.uri, kept)
            self.path = Path(self.uri)
        self.file = self.path.open("ab")

    def add(self, figures: dict[str, float], drawings_seen: int) -> None:
        """Append a line. A figure that is not finite is written as null: JSON has no other name for it."""
        self.file.write(orjson.dumps({"drawings_seen": drawings_seen, **figures}) + b"\n")
        self.file.flush()

    def flush(self) -> None:
        """Make what was written durable. Call it before each checkpoint."""
        if self.is_remote:
            storage.put_file(self.path, self.uri)

    def close(self) -> None:
        self.flush()
        self.file.close()
