"""Checkpoints of tiny untrained nets, laid down as a run would."""

from pathlib import Path

import pytest
import torch

from doodle_dist.config.load import load_experiment
from doodle_dist.data import locations, storage
from doodle_dist.run.snapshot import build_net
from doodle_dist.training.checkpoint import save_checkpoint
from doodle_dist.training.checkpoint_store import new_name, store
from doodle_dist.training.cursor import Cursor

SMALL = {
    "classifier-small": ["model.classifier.width=4"],
    "doodle-gan": ["model.generator.width=8", "model.critic.width=8"],
    "doodle-gan-small": ["model.generator.width=8", "model.critic.width=8"],
}


def save_run(
    run: Path,
    preset: str,
    categories: tuple[str, ...] = ("cat", "dog"),
    *,
    seen: int = 1000,
    score: float | None = None,
    data: str = "",
    settings: tuple[str, ...] = (),
) -> Path:
    """A checkpoint of ``run`` after ``seen`` drawings; its weights differ from those of another ``seen``."""
    torch.manual_seed(seen)
    experiment = load_experiment(preset, [*SMALL[preset], f"data.uri={data}", *settings])
    folder = run / f"checkpoint_{seen:06d}"
    folder.mkdir(parents=True)
    metrics = {"drawings_seen": float(seen)} | ({} if score is None else {"score": score})
    save_checkpoint(
        folder,
        state={},
        cursor=Cursor(seed=0, global_batch=64),
        snapshot=build_net(experiment, len(categories), 28, 1).state_dict(),
        experiment=experiment.model_dump(mode="json"),
        meta={"categories": list(categories), "side": 28, "channels": 1, "metrics": metrics},
    )
    return folder


def local_checkpoint(folder: Path, seen: int, score: float | None = None) -> Path:
    """A checkpoint's folder as the loop leaves it."""
    folder.mkdir(parents=True)
    metrics = {"drawings_seen": float(seen)} | ({} if score is None else {"score": score})
    save_checkpoint(
        folder,
        state={"w": torch.arange(1000)},
        cursor=Cursor(0, 10, drawings_seen=seen),
        snapshot={"w": torch.zeros(3)},
        experiment={},
        meta={"metrics": metrics},
    )
    return folder


def stored_checkpoint(run_uri: str, tmp_path: Path, seen: int, score: float | None = None) -> str:
    """A committed checkpoint of the run; its URI."""
    uri = locations.join(run_uri, new_name(seen, 1))
    store(local_checkpoint(tmp_path / locations.basename(uri), seen, score), uri)
    return uri


def sweep_before_reading(checkpoint: str, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the run's writer deletes a checkpoint just before its ``file`` is read."""
    read = storage.read_bytes

    def sweep_first(uri: str, *rest: int) -> bytes:
        if uri == f"{checkpoint}/{file}":
            storage.delete_prefix(checkpoint)
        return read(uri, *rest)

    monkeypatch.setattr(storage, "read_bytes", sweep_first)
