"""Schedules: their end points, that they don't overshoot, and that they know nothing of steps."""

import pytest

from doodle_dist import schedules
from doodle_dist.config.model import AdversarialConfig, EmaConfig, NoiseConfig, OptimizerConfig


@pytest.mark.parametrize("ramp", [schedules.linear, schedules.cosine])
def test_ramps_start_end_and_stay(ramp: object) -> None:
    assert callable(ramp)
    assert ramp(3.0, 1.0, 0, 100) == 3.0
    assert ramp(3.0, 1.0, 50, 100) == pytest.approx(2.0)
    assert ramp(3.0, 1.0, 100, 100) == pytest.approx(1.0)
    assert ramp(3.0, 1.0, 900, 100) == pytest.approx(1.0)
    values = [ramp(3.0, 1.0, seen, 100) for seen in range(100)]
    assert values == sorted(values, reverse=True)
    assert ramp(3.0, 1.0, 5, 0) == pytest.approx(1.0)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "one-cycle"])
def test_learning_rate_peaks_after_the_warm_up_and_ends_at_its_fraction(schedule: str) -> None:
    config = OptimizerConfig(lr=0.1, schedule=schedule, warmup_drawings=200, final_lr_fraction=0.05)  # type: ignore[arg-type]
    rates = [schedules.learning_rate(config, seen, 1000) for seen in range(0, 1001, 10)]
    assert rates[0] == pytest.approx(0.1 / 25 if schedule == "one-cycle" else 0.0)
    assert rates[20] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(0.1 if schedule == "constant" else 0.005)
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)


def test_a_warm_up_longer_than_the_run_is_cut_to_it() -> None:
    config = OptimizerConfig(lr=0.1, schedule="cosine", warmup_drawings=5000)
    assert schedules.learning_rate(config, 500, 1000) == pytest.approx(0.05)


def test_beta2_ramps_only_when_asked() -> None:
    assert schedules.beta2(OptimizerConfig(lr=1, beta2=0.9), 500, 1000) == 0.9
    ramped = OptimizerConfig(lr=1, beta2=0.9, beta2_end=0.99)
    assert schedules.beta2(ramped, 0, 1000) == 0.9
    assert schedules.beta2(ramped, 1000, 1000) == pytest.approx(0.99)


def test_gammas_ramp_over_their_own_length() -> None:
    config = AdversarialConfig(r1_gamma_start=1, r1_gamma_end=0.1, r2_gamma_start=2, gamma_ramp_drawings=100)
    assert schedules.penalty_gammas(config, 0, 1000) == (1, 2)
    assert schedules.penalty_gammas(config, 100, 1000) == pytest.approx((0.1, 0.0))
    whole_run = config.model_copy(update={"gamma_ramp_drawings": None})
    assert schedules.penalty_gammas(whole_run, 500, 1000) == pytest.approx((0.55, 1.0))


def test_lazy_penalties_are_due_every_nth_update_and_never_without_gamma() -> None:
    config = AdversarialConfig(r1_gamma_start=1, penalty_every=4)
    assert [n for n in range(9) if schedules.penalty_is_due(config, n)] == [0, 4, 8]
    assert not schedules.penalty_is_due(AdversarialConfig(penalty_every=4), 0)


def test_noise_decays_linearly_to_nothing_or_by_halves() -> None:
    line = NoiseConfig(sigma_start=0.1, decay="linear", decay_drawings=100)
    assert [schedules.noise_sigma(line, s) for s in (0, 50, 100, 200)] == pytest.approx([0.1, 0.05, 0, 0])
    halves = NoiseConfig(sigma_start=0.1, decay="exponential", decay_drawings=100)
    assert [schedules.noise_sigma(halves, s) for s in (0, 100, 200)] == pytest.approx([0.1, 0.05, 0.025])
    assert schedules.noise_sigma(NoiseConfig(sigma_start=0.1), 10**9) == 0.1
    with pytest.raises(ValueError, match="needs decay_drawings"):
        NoiseConfig(sigma_start=0.1, decay="linear")


def test_the_ema_half_life_grows_with_the_run_up_to_its_own() -> None:
    config = EmaConfig(halflife_drawings=1000, rampup_fraction=0.05)
    assert schedules.ema_halflife(config, 0) == 0
    assert schedules.ema_halflife(config, 10_000) == pytest.approx(500)
    assert schedules.ema_halflife(config, 10**6) == 1000
    assert schedules.ema_halflife(EmaConfig(halflife_drawings=1000, rampup_fraction=None), 0) == 1000
