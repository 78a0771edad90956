"""Schedules: their end points, that they don't overshoot, and that they know nothing of steps."""

import pytest

from doodle_dist import schedules
from doodle_dist.config.gan import AdversarialConfig, NoiseConfig, UpdatesConfig
from doodle_dist.config.model import AugmentConfig
from doodle_dist.config.optim import EmaConfig, OptimizerConfig


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


@pytest.mark.parametrize(
    ("schedule", "start"), [("constant", 0.0), ("linear", 0.0), ("cosine", 0.0), ("one-cycle", 0.1 / 25)]
)
@pytest.mark.parametrize("drawings", [501, 5000])
def test_a_warm_up_takes_at_most_half_of_the_run(schedule: str, start: float, drawings: int) -> None:
    config = OptimizerConfig(lr=0.1, schedule=schedule, warmup_drawings=drawings, final_lr_fraction=0.5)  # type: ignore[arg-type]
    rates = [schedules.learning_rate(config, seen, 1000) for seen in (0, 250, 500, 750, 1000)]
    after = [0.1, 0.1, 0.1] if schedule == "constant" else [0.1, 0.075, 0.05]
    assert rates == pytest.approx([start, (start + 0.1) / 2, *after])


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
    assert schedules.ema_share(config, 0, 64) == 1
    assert schedules.ema_share(config, 10_000, 500) == pytest.approx(0.5)
    assert schedules.ema_share(config, 10**6, 2000) == pytest.approx(0.75)


def test_inverse_time_is_keras_decay_in_drawings() -> None:
    decay, batch = 3e-4, 256
    config = OptimizerConfig(lr=0.01, schedule="inverse-time", halving_drawings=batch / decay)
    for step in (0, 1, 10_000):
        assert schedules.learning_rate(config, step * batch, 10**9) == pytest.approx(
            0.01 / (1 + decay * step)
        )
    with pytest.raises(ValueError, match="halving_drawings"):
        OptimizerConfig(lr=0.01, schedule="inverse-time")


@pytest.mark.parametrize(
    "config",
    [
        UpdatesConfig(),
        UpdatesConfig(critic_updates=5),
        UpdatesConfig(critic_updates=5, burst_updates=100, burst_first=25, burst_every=500),
        UpdatesConfig(critic_updates=2, burst_updates=7, burst_first=3, burst_every=4),
        UpdatesConfig(critic_updates=3, burst_updates=1, burst_every=2),
        UpdatesConfig(critic_updates=2, burst_updates=9, burst_first=8, burst_every=3),
    ],
)
def test_the_critic_s_schedule_in_closed_form_is_the_sum_of_its_parts(config: UpdatesConfig) -> None:
    done, due = 0, []
    for number in range(1200):
        done += schedules.critic_updates_for(config, number)
        assert schedules.critic_updates_before(config, number) == done
        due.append(done - 1)
    for number, step in enumerate(due[:60]):
        assert schedules.generator_update_after(config, step) == number
    between = set(range(due[40])) - set(due)
    assert all(schedules.generator_update_after(config, step) is None for step in between)


def test_the_published_schedule_of_the_bird_wgan() -> None:
    config = UpdatesConfig(critic_updates=5, burst_updates=100, burst_first=25, burst_every=500)
    counts = [schedules.critic_updates_for(config, k) for k in range(1001)]
    assert counts[:25] == [100] * 25
    assert [k for k, n in enumerate(counts) if n == 100][25:] == [500, 1000]


def test_the_share_of_augmented_pictures_ramps_only_when_asked() -> None:
    assert schedules.augment_probability(AugmentConfig(probability=0.5), 0, 100) == 0.5
    ramped = AugmentConfig(probability=0.55, probability_start=0.0, ramp_drawings=100)
    assert [schedules.augment_probability(ramped, s, 10**6) for s in (0, 50, 100, 500)] == pytest.approx(
        [0.0, 0.275, 0.55, 0.55]
    )
