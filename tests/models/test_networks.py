"""Networks: published parameter counts and starts, shapes and ranges, and that every part takes part."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from doodle_dist.config.load import load_experiment, preset_text
from doodle_dist.config.model import AugmentConfig, ClassifierConfig, CriticConfig, GeneratorConfig
from doodle_dist.losses import zero_centred_penalty
from doodle_dist.models import augment
from doodle_dist.models.base import Generator
from doodle_dist.models.doodle import DoodleCritic
from doodle_dist.models.heads import Critic
from doodle_dist.models.layers import GlobalBatchNorm1d, GlobalBatchNorm2d
from doodle_dist.models.registry import (
    CLASSIFIERS,
    CRITICS,
    GENERATORS,
    build_critic,
    build_generator,
)

LATENT = 8
# Narrower than published, for speed: (generator's width, critic's width).
WIDTHS = {
    "simple-gan": (8, 8),
    "dcgan": (8, 4),
    "doodle-wgan-gp": (8, 4),
    "cdcgan": (8, 8),
    "face-gan": (8, 4),
    "bird-dcgan": (4, 4),
    "image-dcgan": (4, 4),
    "image-simple": (4, 4),
    "sngan": (8, 8),
    "doodle-small": (24, 8),
    "doodle": (8, 8),
}
SIDES = [(name, side, channels) for name in GENERATORS for side, channels in ((28, 1), (32, 3), (64, 3))]
SIDES = [case for case in SIDES if case[0] != "bird-dcgan" or case[1] % 16 == 0]
# The label enters these generators and critics as they are published; the others are for one category.
CONDITIONAL = {"cdcgan", "sngan", "doodle-small", "doodle"}
WITHOUT_BATCH_NORM = {
    "generator": {"simple-gan", "doodle-small", "doodle"},
    "critic": {"simple-gan", "dcgan", "face-gan", "sngan", "doodle-small", "doodle"},
}
CLASSIFIER_CONFIGS = {
    "cnn-small": ClassifierConfig(name="cnn-small", width=8),
    "doodle-cnn": ClassifierConfig(name="doodle-cnn", width=9, feature_dim=72),
    "resnet": ClassifierConfig(name="resnet", width=8, blocks=(1, 1, 2), feature_dim=96),
}


def generator_for(name: str, side: int = 0, channels: int = 1, **settings: object) -> Generator:
    config = GeneratorConfig.model_validate(
        {"name": name, "width": WIDTHS[name][0], "latent_dim": LATENT, "embedding_dim": 4, **settings}
    )
    return wake(build_generator(config, num_categories=3, side=side or side_of(name), channels=channels))


def critic_for(name: str, side: int = 0, channels: int = 1, **settings: object) -> Critic:
    config = CriticConfig.model_validate(
        {"name": name, "width": WIDTHS[name][1], "feature_dim": 16, **settings}
    )
    critic = build_critic(config, num_categories=3, side=side or side_of(name), channels=channels)
    wake(critic)
    return critic


def side_of(name: str) -> int:
    return 32 if name == "bird-dcgan" else 28


def wake(network: nn.Module) -> nn.Module:
    """Random values in place of the zeros that hide a path before the first update."""
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, 0.0, 0.1)
    return network


def without_dropout(network: nn.Module) -> nn.Module:
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return network


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def count_with_statistics(network: nn.Module) -> int:
    return count(network) + sum(b.numel() for name, b in network.named_buffers() if "running" in name)


# (side, channels, trainable, with BatchNorm's running mean and variance where published)
PUBLISHED_GENERATORS = [
    ("simple-gan", 28, 1, 4_388_368, None),
    ("dcgan", 28, 1, 856_065, 856_705),
    ("doodle-wgan-gp", 28, 1, 1_028_289, None),
    ("cdcgan", 28, 1, 1_906_944, None),
    ("bird-dcgan", 64, 3, 5_135_363, None),
    ("image-dcgan", 28, 1, 92_913, 93_009),
    ("image-dcgan", 32, 3, 351_267, 351_427),
]
PUBLISHED_CRITICS = [
    ("simple-gan", 28, 1, 1_460_225, None),
    ("dcgan", 28, 1, 212_865, None),
    ("cdcgan", 28, 1, 560_128, None),
    ("bird-dcgan", 64, 3, 4_316_545, None),
    ("image-dcgan", 28, 1, 631_473, 633_073),
    ("image-dcgan", 32, 3, 3_173_297, 3_179_473),
]


@pytest.mark.parametrize(("name", "side", "channels", "trainable", "everything"), PUBLISHED_GENERATORS)
def test_a_generator_has_the_published_number_of_parameters(
    name: str, side: int, channels: int, trainable: int, everything: int | None
) -> None:
    config = GeneratorConfig(name=name, latent_dim=100)
    generator = build_generator(config, num_categories=10, side=side, channels=channels)
    assert count(generator) == trainable
    assert everything is None or count_with_statistics(generator) == everything


@pytest.mark.parametrize(("name", "side", "channels", "trainable", "everything"), PUBLISHED_CRITICS)
def test_a_critic_has_the_published_number_of_parameters(
    name: str, side: int, channels: int, trainable: int, everything: int | None
) -> None:
    critic = build_critic(CriticConfig(name=name), num_categories=10, side=side, channels=channels)
    assert count(critic) == trainable
    assert everything is None or count_with_statistics(critic) == everything


def test_the_doodle_nets_have_the_size_meant_for_a_gpu() -> None:
    config = GeneratorConfig(name="doodle", latent_dim=64)
    assert 10e6 < count(build_generator(config, num_categories=340, side=28, channels=1)) < 20e6
    critic = build_critic(CriticConfig(name="doodle"), num_categories=340, side=28, channels=1)
    assert 10e6 < count(critic) < 20e6


@pytest.mark.parametrize(
    ("name", "eps", "momentum"),
    [
        ("dcgan", 1e-3, 0.2),
        ("doodle-wgan-gp", 1e-3, 0.2),
        ("cdcgan", 1e-5, 0.1),
        ("face-gan", 1e-3, 0.1),
        ("bird-dcgan", 1e-3, 0.5),
        ("image-dcgan", 1e-3, 0.01),
        ("sngan", 2e-5, 0.1),
    ],
)
def test_batch_norm_is_the_published_one(name: str, eps: float, momentum: float) -> None:
    layers = [*generator_for(name).modules(), *critic_for(name).modules()]
    norms = [layer for layer in layers if isinstance(layer, GlobalBatchNorm1d | GlobalBatchNorm2d)]
    assert norms
    for layer in norms:
        assert layer.eps == eps
        assert layer.momentum == pytest.approx(momentum)


def test_cdcgan_starts_as_published() -> None:
    torch.manual_seed(0)
    config = GeneratorConfig(name="cdcgan", latent_dim=100)
    generator = build_generator(config, num_categories=10, side=28, channels=1)
    critic = build_critic(CriticConfig(name="cdcgan"), num_categories=10, side=28, channels=1)
    for layer in [*generator.modules(), *critic.modules()]:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            assert layer.bias is None
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        elif isinstance(layer, GlobalBatchNorm2d):
            assert layer.weight.mean().item() == pytest.approx(1.0, abs=0.01)
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize("name", ["simple-gan", "dcgan"])
def test_doodlegan_s_first_layers_start_from_a_narrow_normal_and_the_rest_from_glorot_s(name: str) -> None:
    torch.manual_seed(0)
    config = GeneratorConfig(name=name, latent_dim=100)
    generator = build_generator(config, num_categories=1, side=28, channels=1)
    for network in (generator, build_critic(CriticConfig(name=name), num_categories=1, side=28, channels=1)):
        first, *rest = (m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear))
        assert first.weight.std().item() == pytest.approx(0.02, rel=0.05)
        for layer in rest:
            taps = layer.weight[0, 0].numel() if layer.weight.dim() == 4 else 1
            limit = (6 / (taps * (layer.weight.shape[0] + layer.weight.shape[1]))) ** 0.5
            assert 0.9 * limit < layer.weight.abs().max().item() <= limit
            assert layer.bias is not None
            assert not layer.bias.any()


@pytest.mark.parametrize(("name", "side", "channels"), SIDES)
def test_a_generator_makes_pictures_in_range_and_all_its_parameters_learn(
    name: str, side: int, channels: int
) -> None:
    torch.manual_seed(0)
    generator = generator_for(name, side, channels)
    x = generator(torch.randn(6, LATENT), torch.tensor([0, 1, 2, 0, 1, 2]))
    assert x.shape == (6, channels, side, side)
    assert x.abs().max() <= 1
    assert x.min() < 0 < x.max()
    (x * torch.randn_like(x)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in generator.parameters())


@pytest.mark.parametrize(("name", "side", "channels"), SIDES)
def test_a_critic_returns_one_logit_a_picture_and_all_its_parameters_learn(
    name: str, side: int, channels: int
) -> None:
    torch.manual_seed(0)
    critic = critic_for(name, side, channels)
    x, y = torch.rand(6, channels, side, side) * 2 - 1, torch.tensor([0, 1, 2, 0, 1, 2])
    logits, classes = critic.verdicts(x, y)
    assert logits.shape == (6,)
    assert classes is None
    assert critic.trunk(x, y).shape == (6, critic.trunk.features_out)
    (logits * torch.randn(6)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in critic.parameters())


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("conditioning", [None, "none", "one-hot", "embedding"])
def test_a_label_matters_to_a_generator_that_is_conditional(name: str, conditioning: str | None) -> None:
    torch.manual_seed(0)
    generator = generator_for(name, conditioning=conditioning)
    for layer in generator.modules():
        if name == "sngan" and isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight)  # its scales are all 1 at the start
    generator.eval()
    z, y = torch.randn(4, LATENT), torch.tensor([0, 1, 2, 0])
    assert not torch.allclose(generator(z, y), generator(z.flip(0), y))
    if conditioning is None:
        matters = name in CONDITIONAL
    else:
        matters = conditioning != "none" or name == "sngan"
    assert torch.equal(generator(z, y), generator(z, y.roll(1))) is not matters
    assert generator.sees_label() is matters


@pytest.mark.parametrize("name", CRITICS)
@pytest.mark.parametrize("head", [None, "linear", "projection", "auxiliary"])
def test_a_label_matters_to_a_critic_that_is_conditional(name: str, head: str | None) -> None:
    torch.manual_seed(0)
    critic = critic_for(name, head=head).eval()
    x, y = torch.rand(4, 1, side_of(name), side_of(name)) * 2 - 1, torch.tensor([0, 1, 2, 0])
    matters = name in CONDITIONAL if head is None else head == "projection" or name == "cdcgan"
    assert torch.equal(critic(x, y), critic(x, y.roll(1))) is not matters


@pytest.mark.parametrize("name", GENERATORS)
def test_rows_are_independent_without_batch_norm(name: str) -> None:
    """So that workers, which only divide the rows, don't change the run."""
    torch.manual_seed(0)
    side = side_of(name)
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    z = torch.randn(6, LATENT, dtype=torch.float64)
    x = torch.rand(6, 1, side, side, dtype=torch.float64) * 2 - 1
    cases = (("generator", generator_for(name), z), ("critic", critic_for(name), x))
    for kind, network, rows in cases:
        # Evaluation mode would hide a BatchNorm; spectral norm's iteration needs it to stand still.
        network = without_dropout(network.double()).train(name != "sngan" or kind != "critic")
        whole = network(rows, y)
        apart = torch.cat([network(rows[:2], y[:2]), network(rows[2:], y[2:])])
        same = torch.allclose(whole, apart, rtol=1e-9, atol=1e-9)
        assert same is (name in WITHOUT_BATCH_NORM[kind]), kind


@pytest.mark.parametrize("name", GENERATORS)
def test_a_rank_without_rows_still_runs_forward_and_backward(name: str) -> None:
    torch.manual_seed(0)
    # BatchNorm of no rows needs the other ranks (tests of layers.py); here it has its running statistics.
    generator, critic = generator_for(name), critic_for(name)
    generator.train("generator" in kinds_without_batch_norm(name))
    critic.train("critic" in kinds_without_batch_norm(name))
    nobody = torch.zeros(0, dtype=torch.int64)
    x = generator(torch.zeros(0, LATENT), nobody)
    config = AugmentConfig(translate_px=2, rotate_deg=5, cutout_px=4)
    x = augment.apply(x, augment.changes(torch.rand(len(x), augment.NUMBERS), config), config)
    logits = critic(x, nobody)
    (logits.sum() + zero_centred_penalty(logits, x).sum()).backward()
    for network in (generator, critic):
        assert all(p.grad is None or not p.grad.any() for p in network.parameters())


def kinds_without_batch_norm(name: str) -> set[str]:
    return {kind for kind, names in WITHOUT_BATCH_NORM.items() if name in names}


@pytest.mark.parametrize("name", GENERATORS)
def test_networks_run_in_bfloat16_and_channels_last(name: str) -> None:
    torch.manual_seed(0)
    generator, critic = generator_for(name), critic_for(name)
    for network in (generator, critic):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    y = torch.tensor([0, 1, 2, 0])
    with torch.autocast("cpu", torch.bfloat16):
        logits = critic(generator(torch.randn(4, LATENT), y), y)
    assert logits.isfinite().all()
    logits.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in generator.parameters())


@pytest.mark.parametrize("name", ["bird-dcgan", "dcgan", "doodle", "cdcgan", "image-dcgan", "sngan"])
def test_a_side_that_does_not_fit_is_named(name: str) -> None:
    for build in (generator_for, critic_for):
        with pytest.raises(ValueError, match="side: 30 is not allowed; it must be a multiple of"):
            build(name, 30)


def test_faces_are_seen_in_0_to_1_inside() -> None:
    torch.manual_seed(0)
    critic, generator = critic_for("face-gan").eval(), generator_for("face-gan").eval()
    seen: list[Tensor] = []
    assert isinstance(critic.trunk.layers, nn.Sequential)
    critic.trunk.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    critic(torch.tensor([-1.0, 1.0]).repeat(1, 1, 28, 14), torch.zeros(1, dtype=torch.int64))
    assert seen[0].unique().tolist() == [0.0, 1.0]
    z, y = torch.randn(2, LATENT), torch.zeros(2, dtype=torch.int64)
    torch.testing.assert_close((generator(z, y) + 1) / 2, torch.sigmoid(generator.layers(z)))  # type: ignore[operator]


@pytest.mark.slow
def test_a_doodle_net_starts_as_the_identity_and_is_the_same_when_compiled() -> None:
    torch.manual_seed(0)
    config = GeneratorConfig(name="doodle", width=8, latent_dim=LATENT)
    generator = build_generator(config, num_categories=3, side=28, channels=1)
    for stage in generator.stages:  # type: ignore[union-attr]
        x = torch.randn(1, stage[0].expand.in_channels, 7, 7)  # type: ignore[index]
        assert torch.equal(stage(x), x)  # type: ignore[operator]
    wake(generator)
    z, y = torch.randn(2, LATENT), torch.tensor([0, 2])
    torch._dynamo.reset()
    whole = torch.compile(generator, backend="eager", fullgraph=True)  # fails where a graph would break
    torch.testing.assert_close(whole(z, y), generator(z, y))
    critic = critic_for("doodle")
    x = generator(z, y).detach()
    torch.testing.assert_close(torch.compile(critic, backend="eager", fullgraph=True)(x, y), critic(x, y))


def test_sngan_has_the_authors_number_of_parameters_for_cifar10() -> None:
    """4.28 M without labels (one category: each conditional norm has one scale and shift a channel)."""
    config = GeneratorConfig(name="sngan", latent_dim=128)
    assert count(build_generator(config, num_categories=1, side=32, channels=3)) == 4_276_739


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3)])
def test_a_classifier_s_logits_come_from_its_features(name: str, side: int, channels: int) -> None:
    torch.manual_seed(0)
    config = CLASSIFIER_CONFIGS[name]
    classifier = CLASSIFIERS[name](config, num_categories=5, side=side, channels=channels)
    wake(classifier).eval()
    x = torch.rand(6, channels, side, side) * 2 - 1
    features = classifier.features(x)
    assert features.shape == (6, config.feature_dim)
    assert features.min() >= 0
    torch.testing.assert_close(classifier.head(features), classifier(x))
    assert not torch.allclose(classifier(x), classifier(x.flip(0)))
    classifier.train()
    assert not torch.equal(classifier(x), classifier(x))  # dropout
    (classifier(x) * torch.randn(6, 5)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in classifier.parameters())


def test_doodle_cnn_has_the_published_number_of_parameters_and_keras_initial_weights() -> None:
    torch.manual_seed(0)
    config = load_experiment("doodle-cnn").model.classifier
    assert config is not None
    network = CLASSIFIERS["doodle-cnn"](config, num_categories=10)
    assert count(network) == 104_176
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            area = layer.weight[0, 0].numel() if layer.weight.dim() == 4 else 1
            bound = (6 / (area * (layer.weight.shape[0] + layer.weight.shape[1]))) ** 0.5
            assert 0.9 * bound < layer.weight.abs().max() <= bound
            assert layer.bias is not None
            assert not layer.bias.any()


def test_classifier_340_has_the_parameters_and_operations_that_its_preset_states() -> None:
    for preset in ("classifier-340", "classifier-340-small"):
        config = load_experiment(preset).model.classifier
        assert config is not None
        network = CLASSIFIERS[config.name](config, num_categories=340).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 1, 28, 28))
        assert f"# {count(network):,} parameters" in preset_text(preset)
        flops = counter.get_total_flops()
        stated = f"{flops / 1e9:.3f} GFLOP" if flops > 1e9 else f"{flops / 1e6:.1f} MFLOP"
        assert stated in preset_text(preset)


def test_a_residual_block_starts_as_the_identity() -> None:
    torch.manual_seed(0)
    network = CLASSIFIERS["resnet"](CLASSIFIER_CONFIGS["resnet"], num_categories=5)
    blocks = [module for module in network.modules() if type(module).__name__ == "_Block"]
    assert len(blocks) == 4
    x = torch.rand(2, 8, 28, 28)
    torch.testing.assert_close(blocks[0](x), x)


def test_a_judge_has_few_features_and_a_side_must_survive_the_pooling() -> None:
    with pytest.raises(ValueError, match="feature_dim=65: should be at most 64 for cnn-small"):
        ClassifierConfig(feature_dim=65)
    with pytest.raises(ValueError, match="side: 12 is not allowed"):
        CLASSIFIERS["doodle-cnn"](CLASSIFIER_CONFIGS["doodle-cnn"], num_categories=5, side=12)


@pytest.mark.parametrize("name", sorted(GENERATORS))
@pytest.mark.parametrize("conditioning", ["one-hot", "embedding"])
def test_weights_in_place_of_labels_are_the_label_at_the_ends_and_change_smoothly_between(
    name: str, conditioning: str
) -> None:
    net = generator_for(name, conditioning=conditioning).eval()
    z, y = torch.randn(1, LATENT).expand(3, -1), torch.tensor([0, 1, 2])
    with torch.no_grad():
        assert torch.allclose(net(z, torch.eye(3)), net(z, y), atol=1e-5)
        t = torch.linspace(0, 1, 65)[:, None]
        way = net(z[:1].expand(65, -1), torch.cat([1 - t, t, 0 * t], dim=1))
    jumps = (way[1:] - way[:-1]).abs().amax()
    assert 0 < jumps < 0.5 * (way[-1] - way[0]).abs().amax()


def test_the_basis_of_a_doodle_critic_is_a_convolution_over_the_whole_picture() -> None:
    critic = DoodleCritic(CriticConfig(name="doodle", width=8, feature_dim=8), num_categories=3)
    y = torch.zeros(2, dtype=torch.int64)
    seen: list[Tensor] = []
    critic.features.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    critic.stages[-1].register_forward_hook(lambda _, __, x: seen.append(critic.basis(x).flatten(1)))
    critic(torch.randn(2, 1, 28, 28), y)
    torch.testing.assert_close(*seen)


@pytest.mark.parametrize(
    ("name", "weighted"),
    [
        ("dcgan", [0, 3, 5, 7, 9, 11, 12]),
        ("doodle-wgan-gp", [0, 4, 5, 8, 9, 11]),
        ("face-gan", [0, 1, 6, 7, 9, 10, 12, 13, 15]),
    ],
)
def test_weights_have_the_names_that_snapshots_know_them_by(name: str, weighted: list[int]) -> None:
    net = build_generator(GeneratorConfig(name=name, width=8), num_categories=2, side=28, channels=1)
    found = dict.fromkeys(int(key.split(".")[1]) for key in net.state_dict() if key.startswith("layers."))
    assert list(found) == weighted
