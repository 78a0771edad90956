"""Search spaces: what may be written, what is refused before anything starts, what points they have."""

import math
from pathlib import Path

import pytest

from doodle_dist import cli
from doodle_dist.config.load import ConfigError, load_experiment
from doodle_dist.config.search import SearchConfig, experiment_with, load_search, search_names
from doodle_dist.config.search_check import checked_space
from doodle_dist.config.search_space import Axis, Draw, SearchSpace

BASE = load_experiment("doodle-gan-small")


def space_of(*axes: str) -> SearchSpace:
    return SearchSpace(
        tuple(Axis(key, Draw.parse(draw)) for key, draw in (text.split("=", 1) for text in axes))
    )


# --- draws ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["uniform(0.1, 0.9)", "loguniform(1e-5, 1e-2)", "int(2, 5)", "logint(10, 10_000)"]
)
def test_a_range_is_drawn_from_end_to_end_and_never_past_them(text: str) -> None:
    draw = Draw.parse(text)
    values = [draw.at(k / 1000) for k in range(1000)]
    assert draw.at(0.0) == pytest.approx(draw.low)
    assert values == sorted(values)
    assert min(values) >= draw.low * (1 - 1e-12)
    assert max(values) <= draw.high
    assert draw.at(0.9999999) == pytest.approx(draw.high, rel=1e-2)
    assert all(isinstance(value, int if "int" in draw.kind else float) for value in values)


def test_a_logarithmic_range_has_as_many_points_in_each_decade() -> None:
    draw = Draw.parse("loguniform(1e-5, 1e-2)")
    decades = [math.floor(math.log10(float(draw.at(k / 3000 + 1e-9)))) for k in range(3000)]
    assert {decades.count(decade) for decade in (-5, -4, -3)} == {1000}


def test_whole_numbers_are_drawn_equally_often() -> None:
    draw = Draw.parse("int(2, 5)")
    values = [draw.at(k / 400) for k in range(400)]
    assert [values.count(value) for value in (2, 3, 4, 5)] == [100] * 4


def test_choices_keep_their_types() -> None:
    assert Draw.parse("choice('none', 'linear')").values == ("none", "linear")
    assert Draw.parse("grid(1, 2.5, true)").values == (1, 2.5, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zipf(1, 2)", "is no draw: write one of uniform, loguniform"),
        ("uniform", "is no draw"),
        ("uniform(1)", "takes a lowest and a highest number"),
        ("uniform(2, 1)", "an empty range, 2 is not below 1"),
        ("int(1, 1)", "an empty range"),
        ("int(1, 2.5)", "whole numbers"),
        ("loguniform(0, 1)", "a range above 0"),
        ("choice()", "plain values"),
        ("choice(none)", "'quoted' words"),
        ("choice(1, 1)", "stands there twice"),
        ("uniform('a', 'b')", "takes a lowest and a highest number"),
    ],
)
def test_what_is_no_draw_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        Draw.parse(text)


# --- spaces ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", search_names())
def test_every_shipped_space_is_accepted_by_the_presets_it_is_for(name: str) -> None:
    presets = {
        "gan": ("doodle-gan-small", "dcgan", "cdcgan", "sngan-proj", "doodle-gan"),
        "pbt": ("doodle-gan-small",),
    }
    for preset in presets.get(name, ("classifier-small", "classifier-340", "doodle-cnn")):
        base = load_experiment(preset)
        space = checked_space(load_search(preset, base, space=name), base)
        for trial in range(50):
            experiment_with(base, space.sampled(base, seed=1, trial=trial))


def test_a_point_is_the_same_whenever_it_is_asked_for_and_another_for_another_trial_or_seed() -> None:
    space = checked_space(load_search("doodle-gan-small", BASE), BASE)
    points = [space.sampled(BASE, 0, trial) for trial in range(20)]
    assert points == [space.sampled(BASE, 0, trial) for trial in range(20)]
    assert len({repr(point) for point in points}) == 20
    assert points[0] != space.sampled(BASE, 1, 0)


def test_one_more_axis_leaves_the_others_values_as_they_were() -> None:
    few = space_of("optim.generator.lr=loguniform(1e-4, 1e-2)")
    more = space_of("optim.generator.lr=loguniform(1e-4, 1e-2)", "optim.critic.lr=loguniform(1e-4, 1e-2)")
    for trial in range(5):
        assert few.sampled(BASE, 0, trial).items() <= more.sampled(BASE, 0, trial).items()


def test_a_condition_decides_whether_an_axis_is_drawn() -> None:
    space = checked_space(load_search("doodle-gan-small", BASE), BASE)
    lengths = set()
    for trial in range(100):
        point = space.sampled(BASE, 0, trial)
        has_noise, decay = point["gan.noise.sigma_start"] > 0, point.get("gan.noise.decay")
        assert has_noise == (decay is not None)
        assert ("gan.noise.decay_drawings" in point) == (decay in ("linear", "exponential"))
        assert point["gan.adversarial.r1_gamma_start"] == point["gan.adversarial.r2_gamma_start"]
        lengths.add(len(point))
    assert len(lengths) >= 3


def test_axes_that_a_preset_has_no_use_for_are_left_out() -> None:
    keys = {}
    for preset in ("doodle-gan-small", "dcgan"):
        base = load_experiment(preset)
        keys[preset] = {axis.key for axis in checked_space(load_search(preset, base), base).axes}
    assert "gan.labels.real_low" not in keys["doodle-gan-small"]
    assert "gan.labels.real_low" in keys["dcgan"]
    assert "gan.adversarial.r1_gamma_start" not in keys["dcgan"]


def test_a_setting_that_a_person_gave_is_not_searched() -> None:
    search = load_search("doodle-gan-small", BASE)
    space = checked_space(search, BASE, fixed=("gan.updates.critic_updates",))
    assert "gan.updates.critic_updates" not in space.sampled(BASE, 0, 0)


def test_the_axis_that_an_error_gives_as_an_example_is_one() -> None:
    with pytest.raises(ConfigError, match="is not key=draw, such as") as refusal:
        load_search("doodle-gan-small", BASE, extra=["optim.generator.lr"])
    example = str(refusal.value).rpartition("such as ")[2]
    space = checked_space(load_search("doodle-gan-small", BASE, extra=[example]), BASE)
    assert example.partition("=")[0] in {axis.key for axis in space.axes}


def test_a_grid_is_gone_through_value_by_value() -> None:
    space = space_of("seed=grid(1, 2, 3)", "gan.updates.critic_updates=grid(1, 2)")
    points = [tuple(space.sampled(BASE, 0, trial).values()) for trial in range(6)]
    assert sorted(points) == [(s, c) for s in (1, 2, 3) for c in (1, 2)]


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ("optim.lr=loguniform(1e-5, 1e-2)", "optim.lr is not a setting; did you mean optim.critic.lr"),
        ("optim.generator.lr=loguniform(1e-2, 1e-5)", "an empty range"),
        ("optim.generator.lr=uniform(1.0, 20.0)", "at 20.0, .*should be less than or equal to 10"),
        ("gan.noise.decay=choice('none', 'square')", "at 'square'"),
        ("train.global_batch=choice(64, 65)", "must be a multiple of data.lanes"),
        ("optim.generator.lr", "is not key=draw"),
        # Both ends are taken, and most of what lies between is not.
        ("model.generator.width=int(8, 96)", "model.generator.width = int.*: at .*multiple of 4"),
        ("data.lanes=logint(1, 64)", "data.lanes = logint.*: at .*must be a multiple of data.lanes"),
        (
            "storage=choice('here', 'there')",
            "storage can't be an axis: all trials lie in the search's folder",
        ),
        ("run=choice('a', 'b')", "run can't be an axis"),
        ("train.drawings=int(100, 200)", "train.drawings can't be an axis: .*--drawings"),
        ("data.uri=choice('a', 'b')", "data.uri can't be an axis: .*can't be compared"),
        ("gan.judge=choice('a', 'b')", "gan.judge can't be an axis"),
        ("scaling.workers=int(1, 2)", "scaling.workers can't be an axis: .*--workers-per-trial"),
        ("seed=int(1, 100)", "seeds are not drawn, or luck would be searched for"),
        ("data.window_bytes=int(1, 100)", "data.window_bytes can't be an axis: it changes nothing that is"),
    ],
)
def test_what_the_experiment_would_refuse_is_refused_before_anything_starts(axis: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        checked_space(load_search("doodle-gan-small", BASE, extra=[axis]), BASE)
    assert "\n" not in str(error.value)


def test_settings_that_follow_an_axis_are_refused_like_the_axis() -> None:
    space = {"gan.noise.sigma_start": {"draw": "uniform(0.0, 0.5)", "also": ["train.epochs"]}}
    with pytest.raises(ConfigError, match=r"train\.epochs can't be an axis"):
        checked_space(SearchConfig.model_validate({"space": space}), BASE)


def test_axes_that_are_refused_together_are_found_before_anything_starts() -> None:
    base = load_experiment("dcgan")
    space = {"gan.labels.real_low": "uniform(0.0, 0.6)", "gan.labels.real_high": "uniform(0.5, 1.0)"}
    with pytest.raises(
        ConfigError, match=r"gan\.labels\.real_low = .* don't go together: .*is above real_high"
    ) as error:
        checked_space(SearchConfig.model_validate({"space": space}), base)
    assert "\n" not in str(error.value)
    # Not refused for what the preset has in an axis' place: no point has that.
    space["gan.labels.real_low"] = "uniform(0.0, 0.5)"
    checked_space(SearchConfig.model_validate({"space": space}), base)


def test_a_grid_of_seeds_repeats_settings_on_purpose() -> None:
    space = checked_space(SearchConfig.model_validate({"space": {"seed": "grid(11, 12, 13)"}}), BASE)
    assert [space.sampled(BASE, 0, trial)["seed"] for trial in range(3)] == [11, 12, 13]
    assert space.size == 3


def test_a_grid_has_no_point_twice_where_a_condition_leaves_an_axis_out() -> None:
    turned, moved = "model.augment.rotate_deg", "model.augment.translate_px"
    space = {
        "seed": "grid(1, 2)",
        turned: "grid(0.0, 5.0)",
        moved: {"draw": "grid(1.0, 2.0)", "when": {turned: [5.0]}},
    }
    axes = checked_space(SearchConfig.model_validate({"space": space}), load_experiment("classifier-small"))
    points = axes.points(BASE, seed=0, trials=64)
    without, one, other = {turned: 0.0}, {turned: 5.0, moved: 1.0}, {turned: 5.0, moved: 2.0}
    assert points == [{"seed": seed} | point for point in (without, one, other) for seed in (1, 2)]
    assert axes.points(BASE, seed=0, trials=4) == points[:4]


def test_a_drawn_point_is_had_with_each_seed_of_a_grid() -> None:
    space = space_of("optim.critic.lr=loguniform(1e-4, 1e-2)", "seed=grid(1, 2, 3)")
    points = [space.sampled(BASE, 0, trial) for trial in range(6)]
    assert [point["seed"] for point in points] == [1, 2, 3, 1, 2, 3]
    rates = [point["optim.critic.lr"] for point in points]
    assert rates[:3] == [rates[0]] * 3
    assert rates[3:] == [rates[3]] * 3
    assert rates[0] != rates[3]
    assert space.size is None


def test_another_draw_keeps_an_axis_conditions_and_what_follows_it() -> None:
    changed = load_search(
        "doodle-gan-small", BASE,
        extra=["gan.adversarial.r1_gamma_start=uniform(1.0, 2.0)", "gan.noise.decay_drawings=int(50, 60)"],
    )  # fmt: skip
    axes = {axis.key: axis for axis in checked_space(changed, BASE).axes}
    shipped = {axis.key: axis for axis in load_search("doodle-gan-small", BASE).axes().axes}
    for key in ("gan.adversarial.r1_gamma_start", "gan.noise.decay_drawings"):
        assert axes[key].draw != shipped[key].draw
        assert (axes[key].also, axes[key].when) == (shipped[key].also, shipped[key].when)
    assert axes["gan.adversarial.r1_gamma_start"].also == ("gan.adversarial.r2_gamma_start",)
    assert str(axes["gan.noise.decay_drawings"].draw) == "int(50, 60)"


@pytest.mark.parametrize(
    ("preset", "name"), [("doodle-gan-small", "pbt"), ("classifier-small", "pbt-classifier")]
)
def test_population_based_training_has_a_space_for_each_task(preset: str, name: str) -> None:
    base = load_experiment(preset)
    search = load_search(preset, base, scheduler="pbt")
    assert search == load_search(preset, base, space=name)
    assert search.scheduler == "pbt"


def test_a_task_without_a_shipped_space_says_what_to_give() -> None:
    base = load_experiment("face-critic", ["pretraining.positive=['face']"])
    with pytest.raises(ConfigError, match="a critic no shipped space: give --space"):
        load_search("face-critic", base)


def test_a_condition_stands_before_what_it_holds_for(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        '[search.space]\n"gan.noise.decay_drawings" = { draw = "logint(10, 100)", when = { "gan.noise.decay" = '
        '"linear" } }\n"gan.noise.decay" = "choice(\'none\', \'linear\')"\n'
    )
    with pytest.raises(ConfigError, match=r"depends on gan\.noise\.decay, which should stand before it"):
        checked_space(load_search("doodle-gan-small", BASE, space=str(file)), BASE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", r"has no \[search\] table"),
        ("[search]\nspaces = 1", "search: .*space"),
        ("[search", "own.toml"),
        (
            '[search]\ndrawings = 10\nfirst_rung = 20\n[search.space]\nseed = "int(1, 2)"',
            "first_rung=20 is more than",
        ),
        ("[search]\n[search.space]", "at least 1"),
        ("[search]\nspace = 3", "search: space=3: should be a valid dictionary"),
        ("search = 3", r"has no \[search\] table"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_search("doodle-gan-small", BASE, space=str(file))


def test_an_unknown_space_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean classifier"):
        load_search("doodle-gan-small", BASE, space="clasifier")


def test_a_presets_own_search_is_taken_and_inherited(tmp_path: Path) -> None:
    own, below = tmp_path / "own.toml", tmp_path / "below.toml"
    own.write_text(
        'extends = "doodle-gan-small"\n[search]\ndrawings = 3_000\n[search.space]\nseed = "int(1, 9)"\n'
    )
    below.write_text(f'extends = "{own}"\n[optim.generator]\nlr = 2e-3\n')
    for preset in (own, below):
        base = load_experiment(str(preset))
        search = load_search(str(preset), base)
        assert (search.drawings, list(search.space)) == (3_000, ["seed"])


def test_rungs_end_at_the_trials_length() -> None:
    space = {"seed": "int(1, 2)"}
    assert SearchConfig(space=space, drawings=20_000, first_rung=1_250, reduction=4).rungs() == (
        1_250,
        5_000,
        20_000,
    )
    assert SearchConfig(space=space, drawings=6_000, first_rung=1_250, reduction=4).rungs() == (
        1_250,
        5_000,
        6_000,
    )


@pytest.mark.parametrize(
    ("scheduler", "used"), [("asha", "first_rung"), ("pbt", "perturb_every"), ("none", "")]
)
def test_a_length_that_the_scheduler_has_no_use_for_may_be_any(scheduler: str, used: str) -> None:
    table = {"space": {"seed": "grid(1, 2)"}, "scheduler": scheduler, "drawings": 100}
    table |= {"first_rung": 300, "perturb_every": 300}
    if used:
        with pytest.raises(ValueError, match=rf"search\.{used}=300 is more than search\.drawings=100"):
            SearchConfig.model_validate(table)
        table[used] = 50
    SearchConfig.model_validate(table)


def test_a_shorter_search_is_judged_at_the_same_shares_of_its_trials() -> None:
    search = load_search("doodle-gan-small", BASE)
    short = load_search("doodle-gan-small", BASE, drawings=search.drawings // 10)
    assert [10 * rung for rung in short.rungs()] == list(search.rungs())


def test_the_preset_itself_is_a_point_of_its_space() -> None:
    space = checked_space(load_search("doodle-gan-small", BASE), BASE)
    point = space.of_base(BASE)
    assert point is not None
    assert experiment_with(BASE, point) == BASE
    narrow = space_of("optim.generator.lr=loguniform(1e-5, 1e-4)")
    assert narrow.of_base(BASE) is None


def test_what_is_wrong_with_an_axis_table_is_said(tmp_path: Path) -> None:
    base = load_experiment("doodle-gan-small")

    def said(axis: str) -> str:
        file = tmp_path / "space.toml"
        file.write_text(f"[search.space]\n{axis}\n")
        with pytest.raises(ConfigError) as failed:
            load_search("doodle-gan-small", base, space=str(file))
        return str(failed.value)

    assert "wen is not a setting; did you mean when?" in said('"seed" = { draw = "grid(1, 2)", wen = {} }')
    assert "a dotted key stands in quotes" in said('optim.critic.lr = "loguniform(1e-5, 1e-2)"')


def test_a_space_that_is_not_utf_8_is_refused_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"--space .*space\.toml: should be UTF-8"):
        load_search("doodle-gan-small", load_experiment("doodle-gan-small"), space=str(file))


@pytest.mark.parametrize("draw", ["int(1, inf)", "uniform(0, inf)", "loguniform(1e-3, inf)"])
def test_a_range_without_an_end_is_no_draw(draw: str) -> None:
    with pytest.raises(ValueError, match="finite"):
        Draw.parse(draw)


@pytest.mark.parametrize(
    ("table", "code", "said"),
    [
        ('[search.space]\n"optim.generator.lr" = "loguniform(1e-3, 1e-2)"', 0, ""),
        ('[search.space]\n"optim.generator.lr" = "loguniform(1e-2, 1e-3)"', 2, "an empty range"),
        ('[search]\ndrawngs = 3\n[search.space]\nseed = "grid(0, 1)"', 2, "did you mean drawings?"),
        ('[search.space]\n"optim.genrator.lr" = "uniform(0.1, 1)"', 2, "did you mean optim.generator"),
        ("[search.space]\n\"gan.judge\" = \"choice('a', 'b')\"", 2, "gan.judge can't be an axis"),
        ("search = 3", 2, "search=3 should be a table"),
    ],
)
def test_a_preset_of_one_s_own_is_validated_with_its_search(
    table: str, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'extends = "doodle-gan-small"\n{table}\n')
    with pytest.raises(SystemExit) as stop:
        cli.main(["config", "validate", str(file)])
    assert int(stop.value.code or 0) == code
    out, err = capsys.readouterr()
    assert (out == f"{file}: fine\n") is (code == 0)
    assert said in err
