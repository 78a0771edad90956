"""The networks by name, and building one from its section of the config.

The classes are built by ``(config, *, num_categories, side=28, channels=1)``. A name with a colon is an import
path, ``module:Class``: a generator derives from base.Generator, a critic's trunk from base.Trunk, a classifier from
classifiers.Classifier. Importing it runs its module, so a run with a network of one's own is trusted as code is.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import TypeVar

from torch import nn

from doodle_dist.config.model import ClassifierConfig, CriticConfig, GeneratorConfig
from doodle_dist.models.base import Generator, Trunk
from doodle_dist.models.birds import BirdCritic, BirdGenerator
from doodle_dist.models.cdcgan import CdcganCritic, CdcganGenerator
from doodle_dist.models.classifiers import Classifier, CnnSmall, DoodleCnn, DoodleResnet
from doodle_dist.models.doodle import DoodleCritic, DoodleGenerator
from doodle_dist.models.doodle_small import DoodleSmallCritic, DoodleSmallGenerator
from doodle_dist.models.doodlegan import (
    DcganCritic,
    DcganGenerator,
    DoodleWganCritic,
    DoodleWganGenerator,
    SimpleGanCritic,
    SimpleGanGenerator,
)
from doodle_dist.models.faces import FaceCritic, FaceGenerator
from doodle_dist.models.heads import Critic, build_head
from doodle_dist.models.layers import initialise_all_normal
from doodle_dist.models.normalization import (
    apply_spectral_norm,
    replace_normalization,
    set_dropout,
    tune_normalization,
)
from doodle_dist.models.sngan import SnganCritic, SnganGenerator
from doodle_dist.models.two_d_image_gans import (
    ImageDcganCritic,
    ImageDcganGenerator,
    ImageSimpleCritic,
    ImageSimpleGenerator,
)

T = TypeVar("T", bound=nn.Module)


class ImportPathError(ValueError):
    """An import path leads to no network on this machine; on others, with other files, it may."""


GENERATORS: dict[str, type[Generator]] = {
    "simple-gan": SimpleGanGenerator,
    "dcgan": DcganGenerator,
    "doodle-wgan-gp": DoodleWganGenerator,
    "cdcgan": CdcganGenerator,
    "face-gan": FaceGenerator,
    "bird-dcgan": BirdGenerator,
    "image-dcgan": ImageDcganGenerator,
    "image-simple": ImageSimpleGenerator,
    "sngan": SnganGenerator,
    "doodle-small": DoodleSmallGenerator,
    "doodle": DoodleGenerator,
}

CRITICS: dict[str, type[Trunk]] = {
    "simple-gan": SimpleGanCritic,
    "dcgan": DcganCritic,
    "doodle-wgan-gp": DoodleWganCritic,
    "cdcgan": CdcganCritic,
    "face-gan": FaceCritic,
    "bird-dcgan": BirdCritic,
    "image-dcgan": ImageDcganCritic,
    "image-simple": ImageSimpleCritic,
    "sngan": SnganCritic,
    "doodle-small": DoodleSmallCritic,
    "doodle": DoodleCritic,
}

CLASSIFIERS: dict[str, type[Classifier]] = {
    "cnn-small": CnnSmall,
    "doodle-cnn": DoodleCnn,
    "resnet": DoodleResnet,
}


def build_generator(config: GeneratorConfig, *, num_categories: int, side: int, channels: int) -> Generator:
    """The generator of a config: (z [B, latent_dim], y int64 [B]) -> [B, channels, side, side] in [-1, 1].

    Raises ValueError where the architecture can't have that side, or lacks what the config changes.
    """
    where = "model.generator"
    build = _class_of(config.name, GENERATORS, Generator, where)
    net = build(config, num_categories=num_categories, side=side, channels=channels)
    _dress(net, config, where)
    return net


def build_critic(config: CriticConfig, *, num_categories: int, side: int, channels: int) -> Critic:
    """The critic of a config: its trunk and head. See heads.Critic. Raises ValueError as build_generator."""
    where = "model.critic"
    build = _class_of(config.name, CRITICS, Trunk, where)
    trunk = build(config, num_categories=num_categories, side=side, channels=channels)
    spectral = trunk.published_spectral_norm if config.spectral_norm is None else config.spectral_norm
    head = build_head(
        config.head or trunk.published_head,
        trunk.features_out,
        num_categories,
        bias=trunk.head_bias,
        unit=spectral,
    )
    trunk.initialise_head(head)
    critic = Critic(trunk, head)
    _dress(critic, config, where)
    if config.dropout is not None and not set_dropout(critic, config.dropout) and config.dropout > 0:
        raise ValueError(f"{where}.dropout={config.dropout}: {config.name} has no dropout; leave it out")
    if spectral:
        apply_spectral_norm(critic)
    return critic


def build_classifier(
    config: ClassifierConfig, *, num_categories: int, side: int, channels: int
) -> Classifier:
    """The classifier of a config: x [B, channels, side, side] in [-1, 1] -> logits [B, K]."""
    build = _class_of(config.name, CLASSIFIERS, Classifier, "model.classifier")
    return build(config, num_categories=num_categories, side=side, channels=channels)


def _dress(net: nn.Module, config: GeneratorConfig | CriticConfig, where: str) -> None:
    """Apply what a config changes in any network: the start of its weights and its normalisation."""
    if config.init is not None:
        initialise_all_normal(net, config.init)
    kind = config.normalization or "batch"
    found = replace_normalization(net, kind)
    if config.normalization not in (None, "none") and not found:
        raise ValueError(
            f"{where}.normalization={kind!r}: {config.name} has no normalisation layers to replace; "
            "should be none, or left out"
        )
    for key, value, there in (
        ("batch_momentum", config.batch_momentum, kind == "batch"),
        ("batch_eps", config.batch_eps, kind != "none"),
    ):
        if value is not None and not (found and there):
            raise ValueError(f"{where}.{key}={value}: this {config.name} has no such layer; leave it out")
    tune_normalization(net, momentum=config.batch_momentum, eps=config.batch_eps)


def _class_of(name: str, registry: Mapping[str, type[T]], base: type[T], where: str) -> Callable[..., T]:
    """The class of a registry's name or of an import path ``module:Class``.

    Raises ValueError where there is none, or it doesn't derive from ``base``: then nothing of it is called. Of an
    import path that is an ImportPathError.
    """
    if name in registry:
        return registry[name]
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(f"{where}.name={name!r} is unknown; known: {', '.join(registry)}, or module:Class")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ImportPathError(f"{where}.name={name!r}: {error}") from error
    if not isinstance(found, type) or not issubclass(found, base):
        raise ImportPathError(f"{where}.name={name!r}: should derive from {base.__module__}.{base.__name__}")
    return found
