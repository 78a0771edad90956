"""Tasks without Ray: the same run for any number of ranks, resumed as if never interrupted, NaN noticed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import load_experiment
from doodle_dist.config.model import AugmentConfig
from doodle_dist.data.order import lanes_of_rank
from doodle_dist.models import augment
from doodle_dist.training.checkpoint import save_checkpoint
from doodle_dist.training.classifier import ClassifierTask
from doodle_dist.training.critic import CriticTask
from doodle_dist.training.cursor import Cursor
from doodle_dist.training.gan import GanTask
from doodle_dist.training.metrics import Meter
from doodle_dist.training.task import Clock, DataShape, LaneRandom, StepInput, Task, step_at_once
from doodle_dist.training.without_compiler import data_parallel
from tests.ranks import two_ranks

CPU = torch.device("cpu")
LANES, ROWS = 4, 4
LAST = 3  # the step that is short and uneven, as an epoch's last one is
CATEGORIES = ("cat", "dog", "fish")

NARROW = ["model.generator.width=8", "model.critic.width=8"]
# name -> preset and overrides: together they use every loss, penalty, schedule and treatment of labels.
SMALL: dict[str, tuple[str, list[str]]] = {
    "classifier-small": ("classifier-small", ["model.classifier.width=4", "model.classifier.dropout=0.0"]),
    "doodle-cnn": ("doodle-cnn", ["model.classifier.width=6", "model.classifier.dropout=0.0"]),
    "classifier-340-small": (
        "classifier-340-small", ["model.classifier.width=4", "model.classifier.feature_dim=16"]
    ),
    "doodle-gan-small": ("doodle-gan-small", [*NARROW, "gan.adversarial.penalty_every=2"]),
    "cdcgan-small": ("cdcgan-small", [*NARROW, "gan.updates.critic_updates=2", "gan.updates.generator_batch=2"]),
    "least squares, one target a batch, swapped, latents reused": (
        "doodle-gan-small",
        [
            *NARROW, "gan.adversarial.loss=least-squares", "gan.updates.reuse_latents=true",
            "gan.labels.swap=true", "gan.labels.per=batch", "gan.labels.real_low=0.7",
            "gan.labels.real_flip_probability=0.3", "gan.noise.sigma_start=0.2", "gan.noise.decay=exponential",
            "gan.noise.decay_drawings=64", "model.generator.latent_distribution=uniform",
        ],
    ),
    "hinge, spectral norm, conditional batch norm": (
        "doodle-gan-small",
        [
            *NARROW, "gan.adversarial.loss=hinge", "gan.adversarial.r1_gamma_start=0",
            "gan.adversarial.r1_gamma_end=0", "gan.adversarial.r2_gamma_start=0",
            "gan.adversarial.r2_gamma_end=0", "model.generator.name=sngan", "model.critic.name=sngan",
            "model.augment.color=true", "model.augment.cutout_px=8", "model.augment.probability_start=0.0",
            "optim.generator.schedule=inverse-time", "optim.generator.halving_drawings=32",
            "optim.generator.clip_norm=0.5",
        ],
    ),
    "wasserstein, gradient penalty, bursts, auxiliary head": (
        "doodle-gan-small",
        [
            *NARROW, "gan.adversarial.loss=wasserstein", "gan.adversarial.gradient_penalty=10",
            "model.critic.head=auxiliary", "gan.updates.burst_updates=2", "gan.updates.burst_first=1",
            "optim.critic.name=rmsprop", "optim.generator.name=sgd", "optim.generator.lr=1",
        ],
    ),
    "batch norm under a gradient penalty, as published": (
        "doodle-gan-small",
        [
            *NARROW, "gan.adversarial.loss=wasserstein", "gan.adversarial.gradient_penalty=10",
            "gan.adversarial.r1_gamma_start=0", "gan.adversarial.r1_gamma_end=0",
            "gan.adversarial.r2_gamma_start=0", "gan.adversarial.r2_gamma_end=0",
            "gan.adversarial.penalty_every=1", "gan.adversarial.penalize_batch_norm=true",
            "model.generator.name=doodle-wgan-gp", "model.critic.name=doodle-wgan-gp",
            "model.critic.dropout=0", "optim.critic.lr=1e-4", "optim.generator.lr=1e-4",
        ],
    ),
    "weight clipping, one batch of real and generated": (
        "doodle-gan-small",
        [
            *NARROW, "gan.adversarial.loss=wasserstein", "gan.adversarial.weight_clip=0.05",
            "gan.adversarial.r1_gamma_start=0", "gan.adversarial.r1_gamma_end=0",
            "gan.adversarial.r2_gamma_start=0", "gan.adversarial.r2_gamma_end=0",
            "model.generator.name=image-dcgan", "model.critic.name=image-dcgan",
            "gan.updates.critic_batches=combined", "optim.critic.lr=1e-4", "optim.generator.lr=1e-4",
        ],
    ),
    "critic": (
        "doodle-gan-small",
        ["task=critic", "model.critic.width=8", "pretraining.positive=[\"cat\"]"],
    ),
}  # fmt: skip
GANS = [name for name, (preset, _) in SMALL.items() if "gan" in preset and name != "critic"]
TASKS = {"gan": GanTask, "classifier": ClassifierTask, "critic": CriticTask}


def experiment_for(name: str, *more: str) -> Experiment:
    preset, overrides = SMALL[name]
    rest = ["train.global_batch=16", "data.lanes=4", "train.drawings=1000"]
    return load_experiment(preset, [*overrides, *rest, *more])


def build(experiment: Experiment, world_size: int = 1) -> Task:
    torch.manual_seed(0)
    kind = TASKS[experiment.task]

    def wrap(module: nn.Module) -> nn.Module:
        return module if world_size == 1 else data_parallel(module, CPU)

    return kind(
        experiment, DataShape(CATEGORIES, (100, 100, 100)), device=CPU, world_size=world_size, wrap=wrap
    )


def global_batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(step)
    labels = torch.from_numpy(rng.integers(0, 3, LANES * ROWS))
    pictures = torch.full((LANES * ROWS, 1, 28, 28), -1.0)
    for k, label in enumerate(labels.tolist()):
        pictures[k, 0, 4 + 8 * label : 8 + 8 * label, rng.integers(2, 8) : 22] = 1.0
    return pictures, labels


def part(step: int, rank: int = 0, world_size: int = 1) -> StepInput:
    """A rank's part of a step."""
    lanes = lanes_of_rank(rank, world_size, LANES)
    sizes = [ROWS, ROWS, ROWS - 1, ROWS - 1] if step == LAST else [ROWS] * LANES
    pictures, labels = global_batch(step)
    rows = [lane * ROWS + row for lane in lanes for row in range(sizes[lane])]
    return StepInput(
        images=pictures[rows],
        labels=labels[rows],
        global_rows=sum(sizes),
        random=LaneRandom(7, step, tuple((lane, sizes[lane]) for lane in lanes), CPU),
    )


def weights(task: Task) -> dict[str, torch.Tensor]:
    nets = {k: v for k, v in task.state_dict().items() if k in ("net", "ema", "generator", "critic")}
    return {f"{name}.{k}": v.clone() for name, net in nets.items() for k, v in net.items()}  # type: ignore[attr-defined]


def run_steps(task: Task, first: int, stop: int, rank: int = 0, world_size: int = 1) -> None:
    for step in range(first, stop):
        step_at_once(task, part(step, rank, world_size), Clock(step, step * LANES * ROWS, 1000))


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    try:
        for number, preset in enumerate(SMALL):
            task = build(experiment_for(preset), 2)
            run_steps(task, 0, 4, rank, 2)
            torch.save(weights(task), f"{folder}/{number}-{rank}.pt")
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def of_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks make of each of SMALL, NUMBER-RANK.pt; starting them takes ten times as long as one's steps."""
    folder = tmp_path_factory.mktemp("ranks")
    two_ranks(_rank, str(folder))
    return folder


# In float64, since Adam's first steps blow rounding up: a gradient of 1e-9 moves a weight as far as one of 1.
@pytest.mark.slow
@pytest.mark.parametrize("preset", list(SMALL))
@pytest.mark.usefixtures("float64")
def test_two_ranks_train_the_same_weights_as_one(preset: str, of_two_ranks: Path) -> None:
    alone = build(experiment_for(preset))
    run_steps(alone, 0, 4)
    number = list(SMALL).index(preset)
    ranks = [torch.load(of_two_ranks / f"{number}-{rank}.pt", weights_only=True) for rank in range(2)]
    for name, tensor in weights(alone).items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        torch.testing.assert_close(
            ranks[0][name], tensor, atol=1e-7, rtol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("preset", list(SMALL))
def test_resumed_equals_uninterrupted(preset: str, tmp_path: Path) -> None:
    whole = build(experiment_for(preset))
    run_steps(whole, 0, 6)
    first = build(experiment_for(preset))
    run_steps(first, 0, 3)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = build(experiment_for(preset))
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    run_steps(second, 3, 6)
    expected = weights(whole)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(second).items())


def test_a_checkpoint_is_gone_on_from_with_the_configs_decay_and_betas() -> None:
    """Population based training changes them on the way: what was in force before is not what is loaded."""
    settings = ((0.0, 0.5), (0.25, 0.9))
    first, second = (
        build(
            experiment_for(
                "classifier-small",
                f"optim.classifier.weight_decay={decay}",
                f"optim.classifier.beta1={beta1}",
            )
        )
        for decay, beta1 in settings
    )
    run_steps(first, 0, 2)
    second.load_state_dict(first.state_dict())
    (group,) = second.optimizer.inner.param_groups  # type: ignore[union-attr]
    assert (group["weight_decay"], group["betas"][0]) == settings[1]
    before = weights(second)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(first).items())
    run_steps(first, 2, 3)
    run_steps(second, 2, 3)
    assert any(not torch.equal(tensor, weights(second)[name]) for name, tensor in weights(first).items())


@pytest.mark.parametrize("preset", list(SMALL))
def test_training_changes_every_weight_and_health_stays_finite(preset: str) -> None:
    task = build(experiment_for(preset))
    before = weights(task)
    run_steps(task, 0, 8)
    assert torch.isfinite(task.health())
    # Counters; a singular vector of a single row; the bias that cancels between real and generated pictures.
    kept = ("num_batches", "._u", "._v", "verdict.bias")
    after = weights(task)
    still = [n for n, t in after.items() if torch.equal(t, before[n]) and not any(k in n for k in kept)]
    assert still == []


@pytest.mark.parametrize("preset", list(SMALL))
def test_a_nan_in_the_pictures_shows_in_the_health(preset: str) -> None:
    task = build(experiment_for(preset))
    batch = part(0)
    batch.images[3] = float("nan")
    step_at_once(task, batch, Clock(1, 16, 1000))
    assert not torch.isfinite(task.health())


@pytest.mark.parametrize("preset", ["classifier-small", "critic", "doodle-gan-small"])
def test_the_share_of_augmented_pictures_begins_where_it_is_told_to(preset: str) -> None:
    def first_health(*settings: str) -> float:
        task = build(experiment_for(preset, "model.augment.rotate_deg=90", *settings))
        run_steps(task, 0, 1)
        return float(task.health())

    none = first_health("model.augment.probability=0")
    ramped = first_health("model.augment.probability=1", "model.augment.probability_start=0.0")
    assert ramped == none
    assert first_health("model.augment.probability=1") != none


def test_a_classifier_learns_and_its_report_says_so() -> None:
    task = build(experiment_for("classifier-small"))
    held_out = [part(1000 + k) for k in range(4)]
    before = task.evaluate(held_out)
    run_steps(task, 0, 40)
    after = task.evaluate(held_out)
    assert after.score is not None
    assert before.score is not None
    assert after.score > max(before.score, 0.8)
    assert after.scalars["val/top3"] == 1.0  # of three categories
    assert after.pictures["val/confusion"].ndim == 3


def test_a_gan_without_a_judge_draws_the_same_grid_and_claims_no_score() -> None:
    task = build(experiment_for("doodle-gan-small"))
    one, again = (task.evaluate([]) for _ in range(2))
    assert one.score is again.score is None
    assert one.scalars == {}
    first, second = task.pictures()["samples"], task.pictures()["samples"]
    assert np.array_equal(first, second)
    assert first.shape == (3 * 30 + 2, 8 * 30 + 2)


def test_random_numbers_belong_to_lanes_not_to_ranks() -> None:
    together = LaneRandom(0, 5, ((0, 2), (1, 3), (2, 1)), CPU)
    apart = LaneRandom(0, 5, ((1, 3), (2, 1)), CPU)
    assert torch.equal(together.normal(4)[2:], apart.normal(4))
    assert torch.equal(together.uniform(-1, 1)[2:], apart.uniform(-1, 1))
    assert torch.equal(together.shared_uniform(0, 1), apart.shared_uniform(0, 1))
    assert not torch.equal(together.normal(4), LaneRandom(0, 6, ((0, 2), (1, 3), (2, 1)), CPU).normal(4))


def test_wider_random_numbers_belong_to_lanes_too() -> None:
    together = LaneRandom(0, 5, ((0, 2), (1, 3)), CPU).times(2).normal(4)
    assert together.shape == (10, 4)
    assert torch.equal(together[4:], LaneRandom(0, 5, ((1, 3),), CPU).times(2).normal(4))


def test_a_generator_update_comes_after_its_critic_updates() -> None:
    task = build(experiment_for("cdcgan-small"))
    for step in range(4):
        before = weights(task)
        figures = step_at_once(task, part(step), Clock(step, step * 16, 1000))
        moved = {
            name.partition(".")[0]
            for name, t in weights(task).items()
            # Running statistics move with every forward.
            if not ("running" in name or "num_batches" in name or torch.equal(t, before[name]))
        }
        assert ("loss/generator" in figures) == (step % 2 == 1)
        assert ("generator" in moved) == (step % 2 == 1)
        assert "critic" in moved
        assert ("ema" in moved) == (step % 2 == 1)


def test_clipped_weights_stay_within_their_bound() -> None:
    task = build(experiment_for("weight clipping, one batch of real and generated"))
    run_steps(task, 0, 3)
    critic = {n: t for n, t in weights(task).items() if n.startswith("critic.") and "running" not in n}
    assert max(float(t.abs().max()) for n, t in critic.items() if "num_batches" not in n) <= 0.05 + 1e-7


def test_a_penalty_on_batch_statistics_is_refused_unless_asked_for() -> None:
    name = "batch norm under a gradient penalty, as published"
    with pytest.raises(ValueError, match=r"model\.critic\.normalization=layer"):
        build(experiment_for(name, "gan.adversarial.penalize_batch_norm=false"))
    build(
        experiment_for(name, "gan.adversarial.penalize_batch_norm=false", "model.critic.normalization=layer")
    )


@pytest.mark.parametrize("name", GANS)
def test_what_a_gan_logs_says_how_the_critic_does(name: str) -> None:
    task = build(experiment_for(name))
    figures = {k: float(v) for k, v in step_at_once(task, part(1), Clock(1, 16, 1000)).items()}
    assert figures["critic/mean_difference"] == pytest.approx(
        figures["critic/mean_on_real"] - figures["critic/mean_on_fake"], abs=1e-5
    )
    bounded = task.gan.adversarial.loss != "wasserstein"  # type: ignore[attr-defined]
    assert ("critic/accuracy_on_real" in figures) == bounded
    if bounded:
        assert 0 <= figures["critic/accuracy_on_real"] <= 1
        assert figures["critic/loss_above_least"] >= -1e-5


def test_a_pretrained_critic_is_where_a_gan_s_begins(tmp_path: Path) -> None:
    trained = experiment_for("critic", "model.critic.head=linear")
    task = build(trained)
    held_out = [part(1000 + k) for k in range(4)]
    run_steps(task, 0, 30)
    report = task.evaluate(held_out)
    assert report.score is not None
    assert report.score > 0.9
    folder = tmp_path / "critic" / "checkpoint_1"
    folder.mkdir(parents=True)
    save_checkpoint(
        folder, state={}, cursor=Cursor(0, 16), snapshot=task.snapshot(),
        experiment=trained.model_dump(mode="json"),
        meta={"categories": CATEGORIES, "side": 28, "channels": 1, "metrics": {"drawings_seen": 0.0}},
    )  # fmt: skip
    start = f"gan.critic_from={tmp_path / 'critic'}"
    gan = build(experiment_for("doodle-gan-small", "model.critic.head=linear", start))
    gan.begin()
    theirs = task.snapshot()
    assert all(
        torch.equal(t, theirs[n.removeprefix("critic.")])
        for n, t in weights(gan).items()
        if n.startswith("critic.")
    )
    with pytest.raises(ValueError, match="another shape"):
        build(
            experiment_for("doodle-gan-small", "model.critic.head=linear", "model.critic.width=12", start)
        ).begin()
    with pytest.raises(ValueError, match="should name some of the data's"):
        build(experiment_for("critic", "pretraining.positive=[]"))
    with pytest.raises(
        ValueError, match=r"pretraining\.positive: unknown category 'dgo'; did you mean 'dog'"
    ):
        build(experiment_for("critic", 'pretraining.positive=["cat","dgo"]'))


def test_every_weight_of_a_critic_that_is_pretrained_has_a_gradient() -> None:
    """DistributedDataParallel waits for each, also of the head that this loss has no use for."""
    task = build(experiment_for("critic", "model.critic.head=auxiliary"))
    run_steps(task, 0, 1)
    assert all(p.grad is not None for p in task.net.parameters())  # type: ignore[attr-defined]


def failures_of(task: Task, until: Callable[[set[str]], bool] = lambda named: False) -> set[str]:
    """Failures named in a run of some steps, logged at every third: in 120, or until the wanted are named."""
    named: set[str] = set()
    meter = Meter()
    for step in range(120):
        meter.add(step_at_once(task, part(step), Clock(step, step * 16, 16 * 120)))
        if step % 3 == 2:
            named |= set(task.failures(meter.take() | dict(task.gauges())))
        if until(named):
            break
    return named


# The run's own settings, but without a warm-up, which would fill a run of a hundred steps.
AT_ONCE = ["optim.generator.warmup_drawings=0", "optim.critic.warmup_drawings=0"]


@pytest.mark.slow
def test_a_healthy_run_raises_no_failure() -> None:
    assert failures_of(build(experiment_for("doodle-gan-small", *AT_ONCE))) == set()


def test_a_learning_rate_a_hundred_times_too_high_is_named() -> None:
    rates = ["optim.generator.lr=0.1", "optim.critic.lr=0.1"]
    wanted = {"gradient-norm", "critic-loss-variance", "critic-loss-zero"}
    task = build(experiment_for("doodle-gan-small", *AT_ONCE, *rates))
    assert failures_of(task, lambda named: bool(named & wanted)) & wanted


def test_a_critic_far_too_strong_is_named() -> None:
    weak = ["optim.generator.lr=1e-7", "optim.critic.lr=5e-3", "gan.updates.critic_updates=4"]
    free = [f"gan.adversarial.{r}_gamma_{at}=0" for r in ("r1", "r2") for at in ("start", "end")]
    wanted = {"critic-loss-zero", "critic-too-strong"}
    task = build(experiment_for("doodle-gan-small", *AT_ONCE, *weak, *free))
    assert wanted <= failures_of(task, lambda named: wanted <= named)


@pytest.mark.parametrize("preset", ["cdcgan", "doodle-gan"])
def test_340_categories_take_one_step_in_little_memory(preset: str) -> None:
    """A picture's 340 label planes would take a megabyte: with 64 pictures, forward and backward, 70 at once."""
    experiment = load_experiment(
        preset, [*NARROW, "train.global_batch=16", "data.lanes=4", "train.drawings=1000"]
    )
    names = tuple(f"category {k:03d}" for k in range(340))
    torch.manual_seed(0)
    task = GanTask(experiment, DataShape(names, (10,) * 340), device=CPU, world_size=1, wrap=lambda net: net)
    batch = part(0)
    batch.labels.copy_(torch.arange(16) * 20)
    with torch.profiler.profile(
        profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]
    ) as seen:
        step_at_once(task, batch, Clock(0, 0, 1000))
    largest = max(event.self_cpu_memory_usage for event in seen.events())
    assert torch.isfinite(task.health())
    assert largest < 16 * 340 * 28 * 28 * 4 / 4, "no tensor as large as a quarter of the label planes"


def test_half_precision_pictures_are_turned_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    turned = augment.apply

    def watched(pictures: Tensor, changes: augment.Augmentation, config: AugmentConfig) -> Tensor:
        seen.append(pictures.dtype)
        return turned(pictures, changes, config)

    monkeypatch.setattr(augment, "apply", watched)
    task = build(experiment_for("doodle-gan-small", "precision=bf16", "model.augment.rotate_deg=10"))
    drawn = []
    task.generator.register_forward_hook(lambda net, given, drawing: drawn.append(drawing.dtype))
    step_at_once(task, part(0), Clock(0, 0, 1000))
    assert drawn == [torch.bfloat16] * 2
    assert seen == [torch.float32] * 3, "the real ones, and those of the critic's and the generator's update"


@pytest.mark.parametrize("reused", [True, False])
def test_of_reused_latents_the_generator_draws_once(reused: bool) -> None:
    settings = [f"gan.updates.reuse_latents={str(reused).lower()}", "optim.generator.warmup_drawings=0"]
    task = build(experiment_for("doodle-gan-small", *settings))
    drawn = []
    task.generator.register_forward_hook(lambda net, given, drawing: drawn.append(drawing.requires_grad))
    before = [weight.detach().clone() for weight in task.generator.parameters()]
    step_at_once(task, part(0), Clock(0, 0, 1000))
    assert drawn == ([True] if reused else [False, True])
    moved = [not torch.equal(a, b) for a, b in zip(before, task.generator.parameters(), strict=True)]
    assert any(moved)


class Questions(TorchDispatchMode):
    """What a step asks of its device, and would wait for on a GPU: values, whether all went well, constants brought."""

    ASKED = ("_local_scalar_dense", "_linalg_check_errors", "lift_fresh", "nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def,override]
        name = str(function)
        if any(one in name for one in self.ASKED):
            self.asked.add(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", SMALL)
def test_a_step_waits_for_nothing_of_its_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # On CPUs alone it looks whether its labels are in range.
    monkeypatch.setattr(functional, "one_hot", lambda y, number: (y[:, None] == torch.arange(number)).long())
    changes = ["rotate_deg=10", "scale_log=0.1", "translate_px=2", "color=true", "cutout_px=4"]
    task = build(experiment_for(name, *(f"model.augment.{one}" for one in changes)))
    given = [(part(step), Clock(step, step * LANES * ROWS, 1000)) for step in range(5)]
    step_at_once(task, *given[0])  # the first has what is made once
    with Questions() as questions:
        for one in given[1:]:
            step_at_once(task, *one)
    assert questions.asked == set()
