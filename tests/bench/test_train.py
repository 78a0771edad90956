"""The step's benchmark takes real steps of both loops, of GANs with and without a penalty and of classifiers."""

import pytest
import torch

from doodle_dist.bench import train
from doodle_dist.config.load import load_experiment


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["cdcgan-small", "doodle-gan-small", "classifier-small"])
def test_both_loops_take_steps_and_are_timed(preset: str) -> None:
    result = train.measure(preset, 8, 3, [], torch.device("cpu"))
    assert result.batch == 8
    assert result.ours_s > 0
    assert result.textbook_s > 0
    assert result.ratio > 0


def test_the_textbook_loop_learns() -> None:
    torch.manual_seed(0)
    small = load_experiment("classifier-small", ["model.classifier.width=4"])
    step = train.textbook_classifier(small, torch.device("cpu"))
    pictures, labels = torch.rand(8, 1, 28, 28) * 2 - 1, torch.arange(8)
    losses = [step(pictures, labels, k) for k in range(30)]
    assert losses[-1] < 0.7 * losses[0]


def test_a_preset_without_a_textbook_loop_is_refused() -> None:
    with pytest.raises(ValueError, match="face-critic is a critic; allowed: presets of gan or classifier"):
        train.measure("face-critic", 0, 3, [])
