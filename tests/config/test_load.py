"""Presets and overrides: what is wrong is one line that names the key, the value and what is allowed."""

from operator import attrgetter
from pathlib import Path

import pytest

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import (
    ConfigError,
    build,
    from_toml,
    load_experiment,
    load_run,
    overlay,
    parse_override,
    parse_workers,
    preset_names,
    to_toml,
)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("optim.generator.lr=1e-4", "optim.generator.lr", 1e-4),
        ("data.audit=true", "data.audit", True),
        ('data.categories=["cat", "dog"]', "data.categories", ["cat", "dog"]),
        ("data.uri=s3://bucket/x", "data.uri", "s3://bucket/x"),
        ("run=a=b", "run", "a=b"),
    ],
)
def test_an_override_is_toml_or_else_a_string(text: str, key: str, value: object) -> None:
    assert parse_override(text) == (key, value)


def test_an_overlay_is_a_copy() -> None:
    tree = {"a": {"b": 1}}
    assert overlay(tree, {"a.b": 2, "c.d": 3}) == {"a": {"b": 2}, "c": {"d": 3}}
    assert tree == {"a": {"b": 1}}


def test_one_length_replaces_the_other() -> None:
    experiment = load_experiment("classifier-small", ["train.drawings=1000"])
    assert (experiment.train.drawings, experiment.train.epochs) == (1000, None)
    assert load_experiment("classifier-small", ["train.epochs=2"]).train.total_drawings(500) == 1000


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["optim.genrator.lr=1"], r"optim\.genrator is not a setting; did you mean optim\.generator\?"),
        (["train.global_bach=1"], r"did you mean train\.global_batch\?"),
        (["train.global_batch=abc"], r"train\.global_batch='abc'.*integer"),
        (["optim.generator.lr=-1"], r"optim\.generator\.lr=-1.*greater than 0"),
        (["gan.adversarial.loss=wgan"], r"gan\.adversarial\.loss='wgan'.*'hinge'"),
        (["train.global_batch=100"], r"train\.global_batch=100 must be a multiple of data\.lanes=8"),
        (["scaling.workers=9"], r"scaling\.workers=9 is more than data\.lanes=8"),
        (["train.epochs=1", "train.drawings=5"], r"one of train\.epochs and train\.drawings"),
        (["gan.noise.decay=linear"], r"decay_drawings"),
        (["run=../x"], r"run='\.\./x'"),
        (["seed"], r"'seed' is not key=value"),
        (["seed.x=1", "task=classifier"], r"seed"),
    ],
)
def test_what_is_wrong_is_named(overrides: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        load_experiment("doodle-gan-small", overrides)
    assert "\n" not in str(caught.value)


def test_a_preset_misspelt_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean cdcgan"):
        load_experiment("cdgan")
    with pytest.raises(ConfigError, match="no such file"):
        load_experiment("mine.toml")


def test_a_preset_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('task = "classifier"\n[model]\n')
    with pytest.raises(ConfigError, match=r"needs \[model\.classifier\]|is missing"):
        load_experiment(str(file))
    file.write_text("task = \n")
    with pytest.raises(ConfigError, match=r"mine\.toml"):
        load_experiment(str(file))
    file.write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"preset .*mine\.toml: should be UTF-8"):
        load_experiment(str(file))


def test_a_run_takes_its_data_from_the_environment_and_its_name_from_the_preset() -> None:
    experiment = load_run("cdcgan", [], {}, environ={"DOODLE_DATA": "s3://b/data"})
    assert (experiment.data.uri, experiment.run, experiment.storage) == ("s3://b/data", "cdcgan", "runs")
    there = {"DOODLE_DATA": "s3://b/data", "DOODLE_STORAGE": "s3://b/runs"}
    assert load_run("cdcgan", [], {}, environ=there).storage == "s3://b/runs"
    assert load_run("cdcgan", ["storage=mine"], {}, environ=there).storage == "mine"
    assert load_run("cdcgan", [], {"storage": "runs"}, environ=there).storage == "runs"
    given = load_run("cdcgan", [], {"data.uri": "here", "run": "x"}, environ={"DOODLE_DATA": "s3://b/data"})
    assert (given.data.uri, given.run) == ("here", "x")
    with pytest.raises(ConfigError, match="doodle-dist data prepare"):
        load_run("cdcgan", [], {}, environ={})


def test_what_was_resolved_resolves_to_itself() -> None:
    experiment = load_run("doodle-gan-small", ["seed=3"], {"data.uri": "d"})
    assert build(experiment.model_dump(mode="json")) == experiment


@pytest.mark.parametrize("name", preset_names())
def test_an_experiment_goes_to_toml_and_back(name: str, tmp_path: Path) -> None:
    experiment = load_experiment(
        name, ['data.uri="a \\"b\\" \\\\ \\n é \\u007f"', 'data.categories=["t-shirt", "x"]']
    )
    assert "\x7f" in experiment.data.uri
    assert from_toml(to_toml(experiment)) == experiment
    file = tmp_path / "config.toml"
    file.write_text(to_toml(experiment), encoding="utf-8")
    assert load_experiment(str(file)).model_copy(update={"preset": name}) == experiment


@pytest.mark.parametrize(
    ("preset", "settings", "key"),
    [
        ("face-gan", ["optim.generator.schedule=cosine"], "optim.generator.halving_drawings"),
        ("doodle-gan", [], "ema.rampup_fraction"),
        ("bird-wgan", [], "gan.adversarial.weight_clip"),
    ],
)
def test_a_setting_may_be_none_by_that_word(preset: str, settings: list[str], key: str) -> None:
    section, _, name = key.rpartition(".")

    def value(experiment: Experiment) -> object:
        return getattr(attrgetter(section)(experiment), name)

    assert value(load_experiment(preset)) is not None
    experiment = load_experiment(preset, [*settings, f"{key}=none"])
    assert value(experiment) is None
    assert from_toml(to_toml(experiment)) == experiment
    assert build(experiment.model_dump(mode="json")) == experiment


@pytest.mark.parametrize("key", ["model.generator.normalization", "gan.noise.decay", "run"])
def test_none_stays_a_word_where_it_is_one(key: str) -> None:
    experiment = load_experiment("doodle-gan-small", [f"{key}=none"])
    assert attrgetter(key)(experiment) == "none"
    assert from_toml(to_toml(experiment)) == experiment


def test_what_cannot_be_none_is_not() -> None:
    with pytest.raises(ConfigError, match=r"optim\.critic\.lr='none': should be a valid number"):
        load_experiment("doodle-gan-small", ["optim.critic.lr=none"])


def test_toml_of_another_release_says_which_setting_it_does_not_know() -> None:
    text = to_toml(load_experiment("classifier-small"))
    with pytest.raises(ConfigError, match=r"train\.tempo is not a setting"):
        from_toml(text.replace("[train]", "[train]\ntempo = 3"))
    with pytest.raises(ConfigError, match="Expected"):
        from_toml(text[:-10] + "[")


def test_workers_are_a_number_or_a_range() -> None:
    assert parse_workers("") == {}
    assert parse_workers("4") == {"scaling.workers": 4, "scaling.workers_min": 0}
    assert parse_workers("2:8") == {"scaling.workers": 8, "scaling.workers_min": 2}
    for wrong in ("two", "2:", ":8", "0:8", "2:8:9", "1.5"):
        with pytest.raises(
            ConfigError, match=f"--workers '{wrong}' is neither a number of workers nor MIN:MAX"
        ):
            parse_workers(wrong)
    elastic = ["scaling.workers=8", "scaling.workers_min=2"]
    assert load_experiment("classifier-small", elastic).scaling.is_elastic
    with pytest.raises(ConfigError, match=r"scaling\.workers_min=9 is more than scaling\.workers=8"):
        load_experiment("classifier-small", ["scaling.workers=8", "scaling.workers_min=9"])


def test_a_presets_file_that_cannot_name_a_run_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "my preset.toml"
    file.write_text('extends = "cdcgan"\n')
    with pytest.raises(ConfigError, match="'my preset' can't be a run's name: give --run"):
        load_run(str(file), (), {"data.uri": "d"}, {})
    assert load_run(str(file), (), {"data.uri": "d", "run": "mine"}, {}).run == "mine"


@pytest.mark.parametrize(
    "setting", ["gan.failures.gradient_norm=inf", "train.epochs=inf", "seed=18446744073709551616"]
)
def test_what_cannot_be_saved_with_a_run_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"finite number|less than or equal"):
        load_experiment("doodle-gan-small", [setting])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("storage = s3://b/runs", "s3://b/runs"),
        ("run=2024-05-01", "2024-05-01"),
        ("run = a", "a"),
        ("seed = 3", 3),
        ('run=" a"', " a"),
    ],
)
def test_overrides_of_words(text: str, value: object) -> None:
    assert parse_override(text)[1] == value
