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


def test_a_gradient_penalty_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gradient_penalty=10 .* allowed: presets where it is 0"):
        train.measure("doodle-wgan-gp", 8, 3, [], torch.device("cpu"))


def test_the_ratio_is_of_all_steps_and_not_of_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def costs(usual: float, every_fourth: float) -> train.Step:
        def step(pictures: torch.Tensor, labels: torch.Tensor, number: int) -> float:
            nonlocal now
            now += usual if number % 4 else every_fourth
            return 0.0

        return step

    monkeypatch.setattr(train, "_clock", lambda device: now)
    monkeypatch.setattr(train, "our_step", lambda *_, **__: costs(1.0, 9.0))
    monkeypatch.setattr(train, "textbook_classifier", lambda *_: costs(3.0, 9.0))
    found = train.measure("classifier-small", 8, 16, [], torch.device("cpu"))
    assert (found.ours_s, found.textbook_s) == (3.0, 4.5)
    assert found.ratio == 1.5


@pytest.mark.slow
def test_the_textbook_loop_updates_the_generator_as_often_as_the_preset_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    averages: list[int] = []
    monkeypatch.setattr(train, "_average", lambda *_: averages.append(1))
    twice = load_experiment("doodle-gan-small", ["gan.updates.critic_updates=2"])
    step = train.textbook_gan(twice, torch.device("cpu"))
    pictures, labels = torch.rand(4, 1, 28, 28) * 2 - 1, torch.arange(4)
    for number in range(6):
        step(pictures, labels, number)
    assert len(averages) == 3
