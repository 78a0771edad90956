"""Failure detectors: each finds its own failure, none finds one in healthy figures, and windows are whole."""

import pytest

from doodle_dist.config.gan import FailuresConfig
from doodle_dist.training.failures import DETECTORS, FailureWatch

HEALTHY = [
    {
        "loss/critic": 1.1 + 0.05 * (k % 3), "loss/generator": 0.9 - 0.01 * k + 0.05 * (k % 2),
        "critic/loss_above_least": 0.8, "critic/accuracy_on_real": 0.8, "critic/accuracy_on_fake": 0.85,
        "optim/gradient_norm_max_critic": 3.0, "optim/gradient_norm_max_generator": 2.0,
    }
    for k in range(12)
]  # fmt: skip

FAILING = {
    "critic-loss-zero": [{"critic/loss_above_least": 0.001}] * 12,
    "critic-too-strong": [{"critic/accuracy_on_real": 1.0, "critic/accuracy_on_fake": 0.999}] * 12,
    "gradient-norm": [{"optim/gradient_norm_max_generator": 101.0}] * 12,
    "critic-loss-variance": [{"loss/critic": 0.1 if k % 3 else 9.0} for k in range(12)],
    "generator-loss-falling": [{"loss/generator": 4.0 * 0.8**k} for k in range(12)],
}


def found(moments: list[dict[str, float]], **config: object) -> list[dict[str, str]]:
    watch = FailureWatch(FailuresConfig(**config))  # type: ignore[arg-type]
    return [watch.look(moment) for moment in moments]


def test_each_failure_has_a_case() -> None:
    assert set(FAILING) == set(DETECTORS)


def test_healthy_figures_raise_none() -> None:
    assert not any(found(HEALTHY))


@pytest.mark.parametrize("name", FAILING)
def test_a_failure_is_named_once_its_window_is_whole(name: str) -> None:
    moments = [healthy | failing for healthy, failing in zip(HEALTHY, FAILING[name], strict=True)]
    named = found(moments)
    assert set(named[-1]) == {name}
    first = next(k for k, failures in enumerate(named) if failures)
    assert first == (0 if name == "gradient-norm" else 5)


def test_figures_that_a_loss_doesn_t_have_are_no_failure() -> None:
    assert not any(found([{"loss/critic": -2.0, "loss/generator": 1.0}] * 12))


def test_a_failure_ends_when_its_figures_do() -> None:
    named = found([*FAILING["critic-loss-zero"][:6], *HEALTHY[:1]])
    assert "critic-loss-zero" in named[5]
    assert not named[6]


def test_what_a_watch_remembers_makes_another_go_on_alike() -> None:
    moments = [healthy | bad for healthy, bad in zip(HEALTHY, FAILING["generator-loss-falling"], strict=True)]
    whole = found(moments)
    first, second = FailureWatch(FailuresConfig()), FailureWatch(FailuresConfig())
    parts = [first.look(moment) for moment in moments[:4]]
    second.history = list(first.history)
    assert parts + [second.look(moment) for moment in moments[4:]] == whole
