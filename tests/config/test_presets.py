"""Presets by name: they are their systems, in the published number of parameters and in their procedures."""

import re

import pytest
from torch import nn

from doodle_dist.config.load import ConfigError, load_experiment, preset_names, preset_text
from doodle_dist.models.registry import build_classifier, build_critic, build_generator

# preset, side, channels, categories, generator's and critic's trainable parameters as published.
PUBLISHED = [
    ("simple-gan", 28, 1, 1, 4_388_368, 1_460_225),
    ("dcgan", 28, 1, 1, 856_065, 212_865),
    ("doodle-wgan-gp", 28, 1, 1, 1_028_289, None),
    ("cdcgan", 28, 1, 10, 1_906_944, 560_128),
    ("bird-dcgan", 64, 3, 200, 5_135_363, 4_316_545),
    ("bird-wgan", 64, 3, 200, 5_135_363, 4_316_545),
    ("mnist-dcgan", 28, 1, 10, 92_913, 631_473),
    ("fashion-dcgan", 28, 1, 10, 92_913, 631_473),
    ("cifar10-dcgan", 32, 3, 10, 351_267, 3_173_297),
]


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize(("preset", "side", "channels", "categories", "generator", "critic"), PUBLISHED)
def test_a_preset_has_its_system_s_number_of_parameters(
    preset: str, side: int, channels: int, categories: int, generator: int, critic: int | None
) -> None:
    model = load_experiment(preset).model
    shape = {"num_categories": categories, "side": side, "channels": channels}
    assert model.generator is not None
    assert model.critic is not None
    assert count(build_generator(model.generator, **shape)) == generator
    assert critic is None or count(build_critic(model.critic, **shape)) == critic


def test_doodle_cnn_has_its_number_of_parameters() -> None:
    classifier = load_experiment("doodle-cnn").model.classifier
    assert classifier is not None
    assert count(build_classifier(classifier, num_categories=10, side=28, channels=1)) == 104_176


@pytest.mark.parametrize("preset", preset_names())
def test_a_preset_opens_with_what_it_is_its_command_and_its_hardware(preset: str) -> None:
    head = preset_text(preset).split("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert re.search(rf"#   doodle-dist train {preset}\b", head) or preset == "doodle-gan-small"
    assert "Hardware:" in head
    assert load_experiment(preset).preset == preset


def test_the_procedures_are_the_published_ones() -> None:
    simple, cdcgan, face = (load_experiment(name) for name in ("simple-gan", "cdcgan", "face-gan"))
    bird, clipped, digits = (load_experiment(name) for name in ("bird-dcgan", "bird-wgan", "mnist-dcgan"))
    assert (simple.gan.labels.per, simple.gan.updates.reuse_latents) == ("batch", True)
    assert (cdcgan.gan.labels.per, cdcgan.gan.labels.fake_flip_probability) == ("drawing", 0.05)
    assert cdcgan.gan.noise.decay_drawings == 35_000 * cdcgan.train.global_batch
    assert (face.gan.updates.critic_batches, face.train.drawings) == ("combined", 10_000 * 256)
    assert (bird.gan.updates.generator_batch, bird.train.pictures_every_drawings) == (2, 50 * 64)
    updates = clipped.gan.updates
    assert (updates.critic_updates, updates.burst_updates, updates.burst_first) == (5, 100, 25)
    assert (updates.burst_every, clipped.gan.adversarial.weight_clip) == (500, 0.01)
    assert (digits.gan.labels.swap, digits.gan.labels.fake_high) == (True, 0.1)
    for name in ("bird-dcgan", "acgan"):
        assert load_experiment(name).gan.labels.generator_low == 0.8
    assert load_experiment("acgan").model.critic.head == "auxiliary"  # type: ignore[union-attr]


def test_a_preset_of_one_s_own_extends_another_and_circles_are_said(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "mine.toml").write_text(
        'extends = "cdcgan-small"\n[train]\nepochs = 2\n[model.critic]\nwidth = 16\n'
    )
    mine = load_experiment(str(tmp_path / "mine.toml"))
    assert (mine.train.epochs, mine.train.drawings) == (2, None), "one length replaces the other"
    assert mine.model.critic is not None
    assert (mine.model.critic.name, mine.model.critic.width) == ("cdcgan", 16)
    circle = tmp_path / "circle.toml"
    circle.write_text(f'extends = "{circle}"\n')
    with pytest.raises(ConfigError, match="extends itself"):
        load_experiment(str(circle))
    circle.write_text('extends = "cdcgna"\n')
    with pytest.raises(ConfigError, match="did you mean cdcgan"):
        load_experiment(str(circle))
