"""Networks: published parameter counts, shapes and ranges, and that every part takes part."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from doodle_dist.config.load import load_experiment, preset_text
from doodle_dist.config.model import AugmentConfig, ClassifierConfig, CriticConfig, GeneratorConfig
from doodle_dist.losses import zero_centred_penalty
from doodle_dist.models.augment import augment
from doodle_dist.models.layers import GlobalBatchNorm2d
from doodle_dist.models.registry import CLASSIFIERS, CRITICS, GENERATORS

GENERATOR_CONFIGS = {
    "doodle-small": GeneratorConfig(name="doodle-small", width=24, latent_dim=8, embedding_dim=4),
    "cdcgan": GeneratorConfig(name="cdcgan", width=8, latent_dim=8),
}
CRITIC_CONFIGS = {
    "doodle-small": CriticConfig(name="doodle-small", width=8, feature_dim=16),
    "cdcgan": CriticConfig(name="cdcgan", width=8),
}
CLASSIFIER_CONFIGS = {
    "cnn-small": ClassifierConfig(name="cnn-small", width=8),
    "doodle-cnn": ClassifierConfig(name="doodle-cnn", width=9, feature_dim=72),
    "resnet": ClassifierConfig(name="resnet", width=8, blocks=(1, 1, 2), feature_dim=96),
}


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def wake(network: nn.Module) -> nn.Module:
    """Random values in place of the zeros that hide a path before the first update."""
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, 0.0, 0.1)
    return network


def test_registries_hold_what_the_config_allows() -> None:
    assert set(GENERATORS) == set(get_args(GeneratorConfig.model_fields["name"].annotation))
    assert set(CRITICS) == set(get_args(CriticConfig.model_fields["name"].annotation))
    assert {*CLASSIFIERS} == set(get_args(ClassifierConfig.model_fields["name"].annotation))
    assert set(GENERATOR_CONFIGS) == set(GENERATORS)
    assert set(CRITIC_CONFIGS) == set(CRITICS)
    assert set(CLASSIFIER_CONFIGS) == set(CLASSIFIERS)


def test_cdcgan_has_the_published_number_of_parameters_and_initial_weights() -> None:
    torch.manual_seed(0)
    config = GeneratorConfig(name="cdcgan", width=128, latent_dim=100)
    generator = GENERATORS["cdcgan"](config, num_categories=10)
    critic = CRITICS["cdcgan"](CriticConfig(name="cdcgan", width=128), num_categories=10)
    assert count(generator) == 1_906_944
    assert count(critic) == 560_128
    for layer in [*generator.modules(), *critic.modules()]:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            assert layer.bias is None
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        elif isinstance(layer, GlobalBatchNorm2d):
            assert layer.weight.mean().item() == pytest.approx(1.0, abs=0.01)
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3)])
def test_a_generator_makes_pictures_in_range_and_all_its_parameters_learn(
    name: str, side: int, channels: int
) -> None:
    torch.manual_seed(0)
    generator = GENERATORS[name](GENERATOR_CONFIGS[name], num_categories=3, side=side, channels=channels)
    wake(generator)
    x = generator(torch.randn(6, 8), torch.tensor([0, 1, 2, 0, 1, 2]))
    assert x.shape == (6, channels, side, side)
    assert x.abs().max() <= 1
    (x * torch.randn_like(x)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in generator.parameters())


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_uses_latent_and_label(name: str) -> None:
    torch.manual_seed(0)
    generator = wake(GENERATORS[name](GENERATOR_CONFIGS[name], num_categories=3)).eval()
    z, y = torch.randn(4, 8), torch.tensor([0, 1, 2, 0])
    assert not torch.allclose(generator(z, y), generator(z.flip(0), y))
    assert not torch.allclose(generator(z, y), generator(z, y.roll(1)))


@pytest.mark.parametrize("name", CRITICS)
@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3)])
def test_a_critic_returns_one_logit_a_picture_and_all_its_parameters_learn(
    name: str, side: int, channels: int
) -> None:
    torch.manual_seed(0)
    critic = CRITICS[name](CRITIC_CONFIGS[name], num_categories=3, side=side, channels=channels)
    wake(critic)
    x, y = torch.rand(6, channels, side, side) * 2 - 1, torch.tensor([0, 1, 2, 0, 1, 2])
    logits = critic(x, y)
    assert logits.shape == (6,)
    assert not torch.allclose(logits, critic(x, y.roll(1)))
    (logits * torch.randn(6)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in critic.parameters())


def test_rows_are_independent_without_batch_norm() -> None:
    """So that workers, which only divide the rows, don't change the run."""
    torch.manual_seed(0)
    config = GENERATOR_CONFIGS["doodle-small"]
    generator = wake(GENERATORS["doodle-small"](config, num_categories=3).double())
    critic = wake(CRITICS["doodle-small"](CRITIC_CONFIGS["doodle-small"], num_categories=3).double())
    z, y = torch.randn(6, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])

    def judge(rows: slice) -> Tensor:
        return critic(generator(z[rows], y[rows]), y[rows])

    apart = torch.cat([judge(slice(0, 1)), judge(slice(1, 6))])
    torch.testing.assert_close(judge(slice(0, 6)), apart, rtol=1e-10, atol=1e-10)


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


@pytest.mark.parametrize("name", GENERATORS)
def test_a_rank_without_rows_still_runs_forward_and_backward(name: str) -> None:
    torch.manual_seed(0)
    generator = GENERATORS[name](GENERATOR_CONFIGS[name], num_categories=3).eval()
    critic = CRITICS[name](CRITIC_CONFIGS[name], num_categories=3).eval()
    nobody = torch.zeros(0, dtype=torch.int64)
    x = generator(torch.zeros(0, 8), nobody)
    x = augment(x, AugmentConfig(translate_px=2, rotate_deg=5, cutout_px=4), torch.Generator())
    logits = critic(x, nobody)
    (logits.sum() + zero_centred_penalty(logits, x).sum()).backward()
    for network in (generator, critic):
        assert all(p.grad is None or not p.grad.any() for p in network.parameters())
