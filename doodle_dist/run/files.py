"""What the files of a checkpoint's folder are called. Without torch, so that a driver can look at once."""

import re

# The snapshot: the experiment, the EMA weights, and what they were trained on.
EXPERIMENT, SNAPSHOT, META = "experiment.json", "snapshot.safetensors", "meta.json"
# What a run goes on from: tensors and plain values, and its place in its stream.
STATE, CURSOR = "state.pt", "cursor.json"
# A checkpoint's folder in storage has this name, and is one once this file is there, which is written last and deleted
# first (training/checkpoint_store.py).
COMMIT, COMMITTED_NAME = "commit.json", re.compile(r"checkpoint_\d{12}_f\d+_[0-9a-f]{8}")
# Beside the checkpoints: which start of a run's workers may write them.
WORKERS = "workers.json"
