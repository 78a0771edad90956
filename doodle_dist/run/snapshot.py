"""Loading a run's snapshot: EMA weights, the experiment, and what they were trained on."""

import hashlib
import sys
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import nn

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.model import GeneratorConfig
from doodle_dist.data import locations, storage
from doodle_dist.data.storage_errors import StorageError
from doodle_dist.models.base import Generator
from doodle_dist.models.classifiers import Classifier
from doodle_dist.models.registry import build_classifier, build_critic, build_generator
from doodle_dist.run.checkpoints import complete_checkpoints, saved_experiment, standing
from doodle_dist.run.files import EXPERIMENT, SNAPSHOT, AboutData

# What a drawing is said to be of whose generator doesn't see the category, beside a category's name.
ANY = "any"


@dataclass(frozen=True)
class Snapshot:
    """A trained net in evaluation mode. ``metrics`` are the ones it was checkpointed with.

    ``data`` is what is known of the dataset. ``sha256`` is of the weights.
    """

    uri: str
    experiment: Experiment
    categories: tuple[str, ...]
    side: int
    channels: int
    metrics: dict[str, float]
    net: nn.Module
    data: AboutData
    sha256: str

    @property
    def kind(self) -> Literal["classifier", "gan", "critic"]:
        """What the net is: a classifier, a GAN's generator, or a critic."""
        return self.experiment.task

    @property
    def classifier(self) -> Classifier:
        """The net of a classifier's run. Raises ValueError for another."""
        return cast(Classifier, self._net_of("classifier"))

    @property
    def generator(self) -> Generator:
        """The net of a GAN's run. Raises ValueError for another."""
        return cast(Generator, self._net_of("gan"))

    @property
    def draws_by_category(self) -> bool:
        """Whether a GAN's drawing is of the category that is asked for. Raises ValueError for the run of another.

        One of a generator that doesn't see the label is of any, unless there is only one.
        """
        return self.generator.sees_label() or len(self.categories) == 1

    @property
    def generator_config(self) -> GeneratorConfig:
        """The settings of a GAN's generator. Raises ValueError for the run of another."""
        self._check_kind("gan")
        config = self.experiment.model.generator
        assert config is not None
        return config

    @property
    def critic(self) -> nn.Module:
        """The net of a critic's run. Raises ValueError for another."""
        return self._net_of("critic")

    def _net_of(self, kind: str) -> nn.Module:
        self._check_kind(kind)
        return self.net

    def _check_kind(self, kind: str) -> None:
        if self.kind != kind:
            raise ValueError(f"{self.uri} is of a {_NAMES[self.kind]}; a {_NAMES[kind]}'s run is needed here")


_NAMES = {"classifier": "classifier", "gan": "GAN", "critic": "critic"}


def best_device() -> torch.device:
    """The GPU where there is one, else the CPU; in a task of Ray's only a GPU that it was given.

    Ray hides no GPU from a task that asked for none: all such tasks of a node would meet on its first one.
    """
    return torch.device("cuda" if torch.cuda.is_available() and not _was_given_none() else "cpu")


def device_name(device: torch.device) -> str:
    """A device as records and results say it: a GPU by its name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _was_given_none() -> bool:
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return False
    return ray.get_runtime_context().worker.mode == ray.WORKER_MODE and not ray.get_gpu_ids()


def load_snapshot(run: str, *, device: torch.device | None = None, which: str = "best") -> Snapshot:
    """The ``best`` (by score, else the latest) or the ``latest`` snapshot of a run, or of a checkpoint's folder.

    Raises ValueError where there is none, or where it is damaged or of a version that this release doesn't read.
    """
    if which not in ("best", "latest"):
        raise ValueError(f"--checkpoint {which!r}: should be best or latest")
    where, meta, experiment, weights = _read(run, which)
    net = build_net(experiment, len(meta["categories"]), meta["side"], meta["channels"])
    file = locations.join(where, SNAPSHOT)
    try:
        net.load_state_dict(load_safetensors(weights))
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged, or still being written: {error}") from None
    except RuntimeError as error:
        what = str(error).partition("\n")[2].strip() or str(error)
        raise ValueError(f"{file} holds other weights than its {EXPERIMENT} describes: {what}") from None
    net = net.to(device or torch.device("cpu")).eval().requires_grad_(False)
    return Snapshot(
        uri=where,
        experiment=experiment,
        categories=tuple(meta["categories"]),
        side=meta["side"],
        channels=meta["channels"],
        metrics=meta["metrics"],
        net=net,
        data=meta.get("data", {}),
        sha256=hashlib.sha256(weights).hexdigest(),
    )


_TRIES = 5  # of a run whose writer deletes checkpoints while they are read


def _read(run: str, which: str) -> tuple[str, dict[str, Any], Experiment, bytes]:
    """The chosen checkpoint's URI, meta and experiment, and the bytes of its weights."""

    def place(item: tuple[str, dict[str, Any]]) -> tuple[float, float]:
        metrics = item[1]["metrics"]
        score = metrics.get("score") if which == "best" else None
        return standing(score, metrics.get("drawings_seen", 0.0))

    for _ in range(_TRIES):
        found = complete_checkpoints(run)
        if not found:
            raise ValueError(
                f"{run} has no snapshot: it is no run, or it has not reached its first checkpoint"
            )
        where, meta = max(found, key=place)
        experiment = saved_experiment([(where, meta)])
        weights = storage.read_if_there(locations.join(where, SNAPSHOT))
        if experiment is not None and weights is not None:
            return where, meta, experiment, weights
    raise StorageError(f"{where}: not all of it is there any more, and its folder says that it is")


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
