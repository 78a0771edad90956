"""Whether the same name means the same search, and what differs where it doesn't."""

from pathlib import Path

import pytest

from doodle_dist.config.load import ConfigError, load_run
from doodle_dist.config.search import load_search
from doodle_dist.tuning.ledger import REQUEST, Ledger, Request
from doodle_dist.tuning.same_search import refuse_another


def request(
    *settings: str, extra: tuple[str, ...] = (), seed: int = 0, trials: int = 8, storage: str = "runs", cpus: int = 1,
) -> Request:  # fmt: skip
    options = {"data.uri": "/data", "run": "mine", "storage": storage, "scaling.cpus_per_worker": cpus}
    base = load_run("doodle-gan-small", settings, options)
    search = load_search("doodle-gan-small", base, extra=extra)
    experiment = base.model_dump(mode="json", exclude_unset=True)
    return Request(experiment, search.model_dump(mode="json"), trials, "asha", "random", seed)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    Ledger(str(tmp_path), request()).close()
    return str(tmp_path)


@pytest.mark.parametrize(
    "same",
    [
        request(trials=64),
        request(storage="elsewhere"),
        request(cpus=2),
        request("train.checkpoint_every_drawings=0", "train.log_every_drawings=900"),
        request("ema.rampup_fraction=0.05"),  # the preset's own, given
        request("data.buffer_bytes=2_000_000", "data.window_bytes=100_000", "data.read=tasks"),
        request("data.raster_threads=2", "train.pictures_every_drawings=100"),
        request("train.keep_checkpoints=2", "train.max_failures=9"),
    ],
)
def test_more_trials_and_other_machines_are_the_same_search(uri: str, same: Request) -> None:
    refuse_another(uri, same, resume=False)
    refuse_another(uri, same, resume=True)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (request("train.global_batch=32"), "train.global_batch is 64 there and 32 here"),
        (request("data.strokes.shear=0.1"), "data.strokes.shear is 0.0 there and 0.1 here"),
        (request(seed=5), "--seed is 0 there and 5 here"),
        (
            request(extra=["gan.adversarial.r1_gamma_start=uniform(1.0, 2.0)"]),
            "search.space.gan.adversarial.r1_gamma_start is loguniform(0.5, 30.0) also gan.adversarial.r2_gamma_start "
            "when gan.adversarial.loss in ['relativistic'] there and uniform(1.0, 2.0) also",
        ),
        (
            request(extra=["ema.rampup_fraction=uniform(0.1, 0.2)"]),
            "search.space.ema.rampup_fraction is not set there and uniform(0.1, 0.2) here",
        ),
    ],
)
def test_another_search_is_refused_with_what_differs(uri: str, other: Request, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        refuse_another(uri, other, resume=False)
    assert said in str(error.value)
    assert "give --run another name" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_evaluator_s_name_says_what_it_judges_by_wherever_it_lies(tmp_path: Path) -> None:
    def judged_by(judge: str) -> Request:
        return request(f"gan.judge={judge}")

    mine, uri = "evaluator-0123456789ab", str(tmp_path)
    Ledger(uri, judged_by(f"/here/{mine}")).close()
    refuse_another(uri, judged_by(f"s3://bucket/runs/{mine}"), resume=True)
    with pytest.raises(ConfigError, match=f"gan.judge is {mine} there and evaluator-ba9876543210 here"):
        refuse_another(uri, judged_by("/here/evaluator-ba9876543210"), resume=True)
    Ledger(f"{uri}/own", judged_by("/here/a-person-s")).close()
    with pytest.raises(ConfigError, match=r"gan\.judge is /here/a-person-s there"):
        refuse_another(f"{uri}/own", judged_by("/there/a-person-s"), resume=True)


def test_of_many_differences_the_first_are_named(uri: str) -> None:
    other = request("seed=1", "precision=bf16", "train.global_batch=32", "ema.halflife_drawings=1", seed=5)
    with pytest.raises(ConfigError, match=r"--seed is 0 there and 5 here; .*, and 2 more; give --run"):
        refuse_another(uri, other, resume=False)


def test_resuming_nothing_is_refused_and_another_release_is_named(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ConfigError, match=r"--resume: there is no search at .*nowhere"):
        refuse_another(str(tmp_path / "nowhere"), request(), resume=True)
    refuse_another(str(tmp_path / "nowhere"), request(), resume=False)
    text = Path(uri, REQUEST).read_text()
    Path(uri, REQUEST).write_text(text.replace('"warmup_drawings"', '"warm_up_drawings"'))
    with pytest.raises(ConfigError, match=r"of another release: .*warm_up_drawings is not a setting"):
        refuse_another(uri, request(), resume=False)
