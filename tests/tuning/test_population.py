"""Population based training without a cluster: who runs, who copies whom, and what a copy's settings become."""

import random
from dataclasses import dataclass, field

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from doodle_dist.config.load import ConfigError, load_experiment
from doodle_dist.config.search import SearchConfig, experiment_with, load_search
from doodle_dist.config.search_check import checked_space
from doodle_dist.config.search_space import Settings
from doodle_dist.tuning.ledger import trial_name
from doodle_dist.tuning.population import Population, Turns, check_population, mutated
from doodle_dist.tuning.trial import POINT, TRIAL

BASE = load_experiment("doodle-gan-small")
SEARCH = load_search("doodle-gan-small", BASE, scheduler="pbt")
SPACE = checked_space(SEARCH, BASE)


# --- settings ---------------------------------------------------------------------------------------------


def test_mutated_settings_stay_in_their_space_and_move() -> None:
    space = {
        "optim.generator.lr": "loguniform(1e-4, 1e-3)",
        "gan.updates.critic_updates": "int(1, 3)",
        "gan.adversarial.penalty_every": "choice(1, 4, 16)",
        "gan.adversarial.r1_gamma_start": {
            "draw": "uniform(0.5, 1.0)",
            "also": ("gan.adversarial.r2_gamma_start",),
        },
    }
    axes = checked_space(SearchConfig.model_validate({"space": space}), BASE)
    settings = axes.sampled(BASE, 0, 0)
    seen: dict[str, set[object]] = {key: set() for key in settings}
    for number in range(300):
        before, settings = settings, mutated(settings, axes, BASE, random.Random(number))
        experiment_with(BASE, settings)
        for axis in axes.axes:
            assert axis.draw.holds(settings[axis.key])
            seen[axis.key].add(settings[axis.key])
        assert settings["gan.adversarial.r2_gamma_start"] == settings["gan.adversarial.r1_gamma_start"]
        assert settings != before
    assert seen["gan.updates.critic_updates"] == {1, 2, 3}
    assert seen["gan.adversarial.penalty_every"] == {1, 4, 16}


def test_a_value_outside_of_its_space_is_drawn_anew() -> None:
    settings = mutated({"optim.generator.lr": 5.0}, SPACE, BASE, random.Random(1))
    assert set(settings) == {axis.key for axis in SPACE.axes}
    assert all(axis.draw.holds(settings[axis.key]) for axis in SPACE.axes)


# --- who runs, and who copies whom ------------------------------------------------------------------------


@dataclass(eq=False)
class FakeTrial:
    """As much of Ray Tune's trial as the scheduler touches."""

    number: int
    config: dict
    status: str = Trial.PENDING
    experiment_tag: str = ""
    checkpoint: object = "a checkpoint"
    run_metadata: object = field(
        default_factory=lambda: type(
            "M",
            (),
            {
                "checkpoint_manager": type(
                    "C", (), {"checkpoint_config": type("K", (), {"num_to_keep": None})}
                )()
            },
        )()
    )

    def __str__(self) -> str:
        return trial_name(self.number)

    @property
    def trial_id(self) -> str:
        return str(self)

    def is_finished(self) -> bool:
        return self.status in (Trial.TERMINATED, Trial.ERROR)

    def set_config(self, config: dict) -> None:
        self.config = config

    def set_experiment_tag(self, tag: str) -> None:
        self.experiment_tag = tag


class FakeController:
    """Runs no trial: what the scheduler asks of it is done at once."""

    search_alg = None

    def __init__(self, trials: list[FakeTrial]) -> None:
        self.trials = trials

    def get_trials(self) -> list[FakeTrial]:
        return self.trials

    def pause_trial(self, trial: FakeTrial, should_checkpoint: bool) -> None:
        trial.status = Trial.PAUSED

    def _schedule_trial_save(self, trial: FakeTrial, result: object) -> object:
        return trial.checkpoint


class Handed(Turns):
    """Turns whose trials are made by hand."""

    def __init__(self, places: int, trials: list[FakeTrial]) -> None:
        super().__init__(places)
        self.begun = trials  # type: ignore[assignment]
        self._total_samples = len(trials)


def population(trials: int, places: int, seed: int = 0) -> tuple[Population, FakeController]:
    made = [FakeTrial(n, {POINT: {TRIAL: n} | SPACE.sampled(BASE, 0, n)}) for n in range(trials)]
    scheduler = Population(SEARCH, SPACE, BASE, seed, Handed(places, made))
    controller = FakeController(made)
    for trial in made:
        scheduler.on_trial_add(controller, trial)  # type: ignore[arg-type]
        trial.status = Trial.RUNNING
    return scheduler, controller


def report(scheduler: Population, controller: FakeController, number: int, seen: int) -> str:
    """Trial ``number`` reports: the higher its number the worse it is."""
    result = {"drawings_seen": seen, SEARCH.objective: 100.0 + number}
    return scheduler.on_trial_result(controller, controller.trials[number], result)  # type: ignore[arg-type]


def settings_after(seed: int, order: tuple[int, ...]) -> list[Settings]:
    """Settings of all trials after an interval, at whose end they report in ``order``."""
    scheduler, controller = population(8, places=8, seed=seed)
    for number in order:
        report(scheduler, controller, number, SEARCH.perturb_every + 32)
    return [trial.config[POINT] for trial in controller.trials]


def test_the_worst_go_on_from_the_best_and_the_same_seed_changes_settings_alike() -> None:
    order = (7, 0, 1, 2, 3, 4, 5, 6)
    random.seed(1)
    first = settings_after(0, order)
    random.seed(2)
    assert settings_after(0, order) == first
    assert settings_after(1, order) != first
    # Each is judged among those that had reported; the first was alone, and waits for its next interval.
    donors = {number: point[TRIAL] for number, point in enumerate(first) if point[TRIAL] != number}
    assert 7 not in donors
    assert 6 in donors
    assert set(donors.values()) <= {0, 1}


def test_every_interval_counts_though_batches_end_a_little_later_than_its_multiple() -> None:
    scheduler, controller = population(4, places=4)
    batch = 64
    for interval in range(1, 5):
        seen = -(-interval * SEARCH.perturb_every // batch) * batch
        for number in range(4):
            report(scheduler, controller, number, seen)
            controller.trials[number].status = Trial.RUNNING
    assert scheduler._num_perturbations == 4


def test_a_trial_at_its_end_copies_nobody() -> None:
    scheduler, controller = population(4, places=4)
    for number in range(3):
        report(scheduler, controller, number, SEARCH.drawings)
    before = dict(controller.trials[3].config[POINT])
    assert report(scheduler, controller, 3, SEARCH.drawings + 32) == TrialScheduler.CONTINUE
    assert controller.trials[3].config[POINT] == before
    assert scheduler._num_perturbations == 0


def test_trials_take_turns_in_as_many_places_as_there_are() -> None:
    scheduler, controller = population(6, places=2)
    for trial in controller.trials[2:]:
        trial.status = Trial.PAUSED
    seen = dict.fromkeys(range(6), 0)
    for _ in range(60):
        running = [trial for trial in controller.trials if trial.status == Trial.RUNNING]
        assert len(running) <= 2
        chosen = scheduler.choose_trial_to_run(controller)  # type: ignore[arg-type]
        if chosen is not None:
            assert len(running) < 2
            chosen.status = Trial.RUNNING
            continue
        trial = min(running, key=lambda trial: seen[trial.number])
        now = seen[trial.number] + SEARCH.perturb_every
        if report(scheduler, controller, trial.number, now) == TrialScheduler.PAUSE:
            trial.status = Trial.PAUSED
        seen[trial.number] = scheduler._trial_state[trial].last_train_time  # type: ignore[index]
    assert max(seen.values()) - min(seen.values()) <= 2 * SEARCH.perturb_every, "all get on alike"


def test_places_are_given_to_trials_that_have_not_begun() -> None:
    class Endless(Turns):
        def __init__(self) -> None:
            super().__init__(places=2)
            self._trial_generator = (FakeTrial(n, {}) for n in range(3))
            self._total_samples = 3

    turns = Endless()
    first, second = turns.next_trial(), turns.next_trial()
    assert first is not None
    assert second is not None
    assert turns.next_trial() is None
    assert not turns.is_finished()
    assert turns.some_wait
    first.status = Trial.PAUSED
    assert str(turns.next_trial()) == trial_name(2)
    assert turns.is_full
    second.status = Trial.TERMINATED
    assert turns.some_wait, "the first is paused"
    assert turns.next_trial() is None
    assert turns.is_finished()


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "trials", "workers", "message"),
    [
        ([], 2, 1, "takes 4 or more"),
        ([], 8, 2, "one worker each"),
        (["seed=grid(1, 5)"], 8, 1, "seed can't change during a run"),
        (["model.generator.width=choice(32, 64)"], 8, 1, "can't change during a run"),
        (["optim.critic.name=choice('adam', 'sgd')"], 8, 1, "optim.critic.name can't change during a run"),
    ],
)
def test_what_a_population_cannot_do_is_refused(
    extra: list[str], trials: int, workers: int, message: str
) -> None:
    search = load_search("doodle-gan-small", BASE, scheduler="pbt", extra=extra)
    with pytest.raises(ConfigError, match=message):
        check_population(checked_space(search, BASE), trials, workers)


def test_a_population_takes_no_conditions() -> None:
    space = checked_space(load_search("doodle-gan-small", BASE, space="gan", scheduler="pbt"), BASE)
    with pytest.raises(ConfigError, match="has a condition"):
        check_population(space, 8, 1)


def test_what_pictures_go_through_may_change_during_a_run() -> None:
    base = load_experiment("classifier-small")
    space = checked_space(load_search("classifier-small", base, scheduler="pbt"), base)
    assert any(axis.key.startswith("model.augment.") for axis in space.axes)
    check_population(space, 8, 1)
