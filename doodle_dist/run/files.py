"""What the files of a run, and of its checkpoints' folders, are called, and what one says of its dataset."""

import re
from typing import TypedDict

# The snapshot: the experiment, the EMA weights, and what they were trained on.
EXPERIMENT, SNAPSHOT, META = "experiment.json", "snapshot.safetensors", "meta.json"
# What a run goes on from: tensors and plain values, and its place in its stream.
STATE, CURSOR = "state.pt", "cursor.json"
# A checkpoint's folder in storage has this name, and is one once this file is there, which is written last and deleted
# first (training/checkpoint_store.py).
COMMIT, COMMITTED_NAME = "commit.json", re.compile(r"checkpoint_(?P<seen>\d{12})_f\d+_[0-9a-f]{8}")
# Beside the checkpoints: which start of a run's workers may write them.
WORKERS = "workers.json"
# And what the run says of itself: its settings, its figures, its fortunes, why it stopped itself.
CONFIG, METRICS_LOG, EVENTS, STOPPED = "config.toml", "metrics.jsonl", "events.jsonl", "stopped.json"


class AboutData(TypedDict, total=False):
    """What META says, as ``data``, of the dataset that was trained on; nothing where nobody wrote it down.

    ``sources`` are the kinds of its sources, ``drawings`` how many of it were trained on.
    """

    uri: str
    manifest_sha256: str
    sources: list[str]
    drawings: int
