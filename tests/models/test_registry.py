"""Names, import paths of one's own networks, and the start that a config sets."""

from pathlib import Path

import pytest
import torch
from torch import nn

from doodle_dist.config.load import ConfigError, load_experiment
from doodle_dist.config.model import (
    CLASSIFIER_NAMES,
    CRITIC_NAMES,
    GENERATOR_NAMES,
    ClassifierConfig,
    CriticConfig,
    GeneratorConfig,
)
from doodle_dist.models.base import Generator
from doodle_dist.models.registry import (
    CLASSIFIERS,
    CRITICS,
    GENERATORS,
    build_classifier,
    build_critic,
    build_generator,
)
from tests.models.test_networks import WIDTHS, critic_for, generator_for

SHAPE = {"num_categories": 3, "side": 28, "channels": 1}


def test_registries_hold_what_the_config_allows() -> None:
    assert tuple(GENERATORS) == GENERATOR_NAMES
    assert tuple(CRITICS) == CRITIC_NAMES
    assert tuple(CLASSIFIERS) == CLASSIFIER_NAMES
    assert set(WIDTHS) == set(GENERATORS) == set(CRITICS)


def test_a_network_of_ones_own_is_built_by_its_import_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_networks.py").write_text(
        "from torch import nn\n"
        "from doodle_dist.models.base import Generator, Trunk\n\n"
        "class Flat(Generator):\n"
        "    published_width = 4\n"
        "    published_conditioning = 'one-hot'\n\n"
        "    def __init__(self, config, **shape):\n"
        "        super().__init__(config, **shape)\n"
        "        self.layers = nn.Sequential(nn.Linear(self.latent_in, self.side ** 2 * self.channels),\n"
        "            nn.Tanh(), nn.Unflatten(1, (self.channels, self.side, self.side)))\n\n"
        "class Seen(Trunk):\n"
        "    published_width = 4\n\n"
        "    def __init__(self, config, **shape):\n"
        "        super().__init__(config, **shape)\n"
        "        self.layers = nn.Conv2d(self.channels, self.width, 4, 4)\n"
        "        self.features_out = self.width * (self.side // 4) ** 2\n\n"
        "class Whole(nn.Module):\n"
        "    def __init__(self, config, **shape):\n"
        "        super().__init__()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    generator = build_generator(GeneratorConfig(name="own_networks:Flat", latent_dim=5), **SHAPE)
    assert isinstance(generator, Generator)
    assert generator.latent_in == 8
    critic = build_critic(CriticConfig(name="own_networks:Seen", head="projection"), **SHAPE)
    y = torch.tensor([0, 2])
    assert critic(generator(torch.randn(2, 5), y), y).shape == (2,)
    with pytest.raises(ValueError, match=r"model\.critic\.name='own_networks:Whole': should derive from"):
        build_critic(CriticConfig(name="own_networks:Whole"), **SHAPE)
    with pytest.raises(ValueError, match=r"model\.generator\.name='own_networks:Whole': .*base\.Generator"):
        build_generator(GeneratorConfig(name="own_networks:Whole"), **SHAPE)
    with pytest.raises(ValueError, match=r"model\.generator\.name='own_networks:Nobody'.*Nobody"):
        build_generator(GeneratorConfig(name="own_networks:Nobody"), **SHAPE)
    with pytest.raises(ValueError, match=r"model\.generator\.name='nowhere_at_all:Flat'.*nowhere_at_all"):
        build_generator(GeneratorConfig(name="nowhere_at_all:Flat"), **SHAPE)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.generator.name=dcgna",
            r"model\.generator\.name: 'dcgna' is unknown; did you mean dcgan\? \(or module:Class",
        ),
        ("model.critic.name=doodel", r"model\.critic\.name: 'doodel' is unknown; did you mean doodle\?"),
        ("model.critic.name=qqq", r"'qqq' is unknown; known: simple-gan, dcgan, .*, doodle \(or"),
        ("model.critic.name=not a path:X", r"is unknown"),
        ("model.critic.head=projecton", r"model\.critic\.head='projecton'.*'projection'"),
    ],
)
def test_a_name_misspelt_is_one_line_with_the_nearest(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_experiment("doodle-gan-small", [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["bird-dcgan", "doodle-small", "cdcgan"])
def test_init_is_the_start_of_every_weight(name: str) -> None:
    torch.manual_seed(0)
    config = GeneratorConfig(name=name, init=0.01)
    generator = build_generator(config, num_categories=3, side=32, channels=1)
    critic = build_critic(CriticConfig(name=name, init=0.01), num_categories=3, side=32, channels=1)
    for network in (generator, critic):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                assert layer.weight.std().item() == pytest.approx(0.01, rel=0.15)
                assert layer.bias is None or not layer.bias.any()


def test_narrower_networks_are_smaller() -> None:
    for name in GENERATORS:
        side = 32
        wide = build_generator(GeneratorConfig(name=name), num_categories=3, side=side, channels=1)
        narrow = generator_for(name, side)
        critic = build_critic(CriticConfig(name=name), num_categories=3, side=side, channels=1)
        pairs = ((wide, narrow), (critic, critic_for(name, side)))
        for large, small in pairs:
            if name != "image-simple" or large is critic:  # its generator's 4 is the least there is
                assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in large.parameters())


def test_a_classifier_is_built_from_its_section() -> None:
    classifier = build_classifier(ClassifierConfig(width=4), num_categories=5, side=28, channels=1)
    assert classifier(torch.zeros(2, 1, 28, 28)).shape == (2, 5)


@pytest.mark.parametrize(
    ("build", "config"),
    [
        (build_generator, GeneratorConfig),
        (build_critic, CriticConfig),
        (build_classifier, ClassifierConfig),
    ],
)
@pytest.mark.parametrize("name", ["own_calls:called", "own_calls:Called", "own_calls:instance"])
def test_what_is_no_network_is_refused_before_it_is_called(
    build, config, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_calls.py").write_text(
        "def called(*_, **__):\n    raise AssertionError('called')\n\n"
        "class Called:\n    def __init__(self, *_, **__):\n        called()\n\n"
        "instance = object()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=f"name='{name}': should derive from doodle_dist"):
        build(config(name=name), **SHAPE)
