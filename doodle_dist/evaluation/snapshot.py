"""Finding and loading a run's snapshot: EMA weights, the experiment, and what they were trained on."""

import contextlib
from dataclasses import dataclass
from typing import Literal, cast

import orjson
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import nn

from doodle_dist.config.experiment import Experiment
from doodle_dist.data import storage
from doodle_dist.models.classifiers import Classifier
from doodle_dist.models.registry import build_classifier, build_critic, build_generator

# The snapshot's files in a checkpoint's folder; training/checkpoint.py writes them.
EXPERIMENT, SNAPSHOT, META = "experiment.json", "snapshot.safetensors", "meta.json"


@dataclass(frozen=True)
class Snapshot:
    """A trained net in evaluation mode. ``metrics`` are the ones it was checkpointed with."""

    uri: str
    experiment: Experiment
    categories: tuple[str, ...]
    side: int
    channels: int
    metrics: dict[str, float]
    net: nn.Module

    @property
    def kind(self) -> Literal["classifier", "gan", "critic"]:
        """What the net is: a classifier, a GAN's generator, or a critic."""
        return self.experiment.task

    @property
    def classifier(self) -> Classifier:
        """The net of a classifier's run. Raises ValueError for another."""
        return cast(Classifier, self._net_of("classifier"))

    @property
    def generator(self) -> nn.Module:
        """The net of a GAN's run. Raises ValueError for another."""
        return self._net_of("gan")

    @property
    def critic(self) -> nn.Module:
        """The net of a critic's run. Raises ValueError for another."""
        return self._net_of("critic")

    def _net_of(self, kind: str) -> nn.Module:
        if self.kind != kind:
            raise ValueError(f"{self.uri} is of a {_NAMES[self.kind]}; a {_NAMES[kind]}'s run is needed here")
        return self.net


_NAMES = {"classifier": "classifier", "gan": "GAN", "critic": "critic"}


def load_snapshot(run: str, *, device: torch.device | None = None, which: str = "best") -> Snapshot:
    """The ``best`` (by score, else the latest) or the ``latest`` snapshot of a run, or of a checkpoint's folder.

    Raises ValueError where there is none.
    """
    found = _checkpoints(run)
    if not found:
        raise ValueError(f"{run} has no snapshot: it is no run, or it has not reached its first checkpoint")

    def rank(item: tuple[str, dict]) -> tuple[float, float]:
        metrics = item[1]["metrics"]
        score = metrics.get("score", float("-inf")) if which == "best" else 0.0
        return score, metrics["drawings_seen"]

    where, meta = max(found, key=rank)
    experiment = Experiment.model_validate_json(storage.read_bytes(storage.join(where, EXPERIMENT)))
    net = build_net(experiment, len(meta["categories"]), meta["side"], meta["channels"])
    weights = storage.join(where, SNAPSHOT)
    try:
        net.load_state_dict(load_safetensors(storage.read_bytes(weights)))
    except SafetensorError as error:
        raise ValueError(f"{weights} is damaged, or still being written: {error}") from None
    net = net.to(device or torch.device("cpu")).eval().requires_grad_(False)
    return Snapshot(
        uri=where,
        experiment=experiment,
        categories=tuple(meta["categories"]),
        side=meta["side"],
        channels=meta["channels"],
        metrics=meta["metrics"],
        net=net,
    )


def build_net(experiment: Experiment, categories: int, side: int, channels: int) -> nn.Module:
    """The net that a snapshot of this experiment holds: the generator, the classifier or the critic."""
    model, shape = experiment.model, {"num_categories": categories, "side": side, "channels": channels}
    match experiment.task:
        case "gan":
            assert model.generator is not None
            return build_generator(model.generator, **shape)
        case "classifier":
            assert model.classifier is not None
            return build_classifier(model.classifier, **shape)
        case "critic":
            assert model.critic is not None
            return build_critic(model.critic, **shape)


def _checkpoints(run: str) -> list[tuple[str, dict]]:
    """(URI, meta) of every complete checkpoint at ``run``, which may be one itself."""
    if not storage.exists(run):
        return []
    files = {file.uri for file in storage.list_files(run, (".json", ".safetensors"), recursive=True)}
    found = []
    for uri in sorted(files):
        folder, _, name = uri.rpartition("/")
        if name == META and {f"{folder}/{other}" for other in (EXPERIMENT, SNAPSHOT)} <= files:
            with contextlib.suppress(orjson.JSONDecodeError):  # being written at this moment
                found.append((folder, orjson.loads(storage.read_bytes(uri))))
    return found
