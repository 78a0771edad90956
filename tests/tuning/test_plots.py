"""Pictures of a search: what has to be seen is there, in the colour that only it has."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageColor

from doodle_dist.config.load import build, overlay
from doodle_dist.tuning import plots
from doodle_dist.tuning.importance import importance_of
from doodle_dist.tuning.ledger import SearchRecord
from tests.tuning.records import asha, base_of, pbt, request


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def has(png: bytes, colour: str) -> bool:
    return bool((pixels(png) == ImageColor.getrgb(colour)).all(axis=-1).any())


def of_one_axis(record: SearchRecord) -> SearchRecord:
    """The record as a search of the critic's rate alone would have left it: one panel is drawn, not seven."""
    for trial in record.trials.values():
        trial.settings = {"optim.critic.lr": trial.settings["optim.critic.lr"]}
        trial.results = [replace(result, settings=trial.settings) for result in trial.results]
    return record


@pytest.mark.slow
def test_failed_trials_and_the_best_are_marked() -> None:
    record = of_one_axis(asha(32))
    picture = plots.objective_by_axis(record, base_of(record))
    assert has(picture, plots._FAILED)
    assert has(picture, plots._BEST)
    for trial in record.trials.values():
        trial.status = "stopped"
    assert not has(plots.objective_by_axis(record, base_of(record)), plots._FAILED)


@pytest.mark.slow
def test_each_axis_has_a_panel() -> None:
    record = asha(16)
    wide = pixels(plots.objective_by_axis(record, base_of(record)))
    narrow = pixels(plots.objective_by_axis(of_one_axis(record), base_of(record)))
    assert narrow.shape[0] < wide.shape[0] / 2
    assert narrow.shape[1] < wide.shape[1] / 2


def test_a_preset_s_value_of_0_has_no_place_on_a_logarithmic_axis() -> None:
    record = asha(8)
    space = {"optim.generator.warmup_drawings": "logint(250, 8_000)"}
    record.request = request("asha", 8, space=space)
    for number, trial in record.trials.items():
        trial.settings = {"optim.generator.warmup_drawings": 250 * (number + 1)}
        trial.results = [replace(result, settings=trial.settings) for result in trial.results]
    base = build(overlay(record.request.experiment, {"optim.generator.warmup_drawings": 0}))
    assert has(plots.objective_by_axis(record, base), plots._BEST)


def test_labels_of_the_colour_bar_stand_apart() -> None:
    assert plots._apart([2016, 2048, 6016, 18_024, 18_056]) == [2016, 6016, 18_056]
    assert plots._apart([2000, 6000, 18_000]) == [2000, 6000, 18_000]
    assert plots._apart([18_024, 18_056]) == [18_024, 18_056]


def test_bars_are_as_long_as_their_shares() -> None:
    picture = pixels(plots.importance_bars({"optim.a.lr": 0.8, "optim.b.lr": 0.2}, 1_250))
    blue = (picture == ImageColor.getrgb("#3d6fb4")).all(axis=-1).sum(axis=1)
    lengths = sorted(set(blue[blue > 20].tolist()))
    assert max(lengths) / min(lengths) == pytest.approx(4, rel=0.05)


@pytest.mark.slow
def test_the_way_of_the_best_is_drawn_over_the_population() -> None:
    record = pbt()
    picture = plots.pbt_schedules(record, base_of(record))
    reds = pixels(picture).astype(int)
    assert ((reds[..., 0] > 180) & (reds[..., 1] < 130) & (reds[..., 2] < 140)).sum() > 1_000


@pytest.mark.slow
def test_categories_numbers_of_zero_and_a_lonely_trial_can_be_drawn() -> None:
    record = asha(1)
    base = base_of(record)
    assert pixels(plots.objective_by_axis(record, base)).size
    assert pixels(plots.best_so_far_picture(record)).size
    negative = of_one_axis(asha(4))
    for trial in negative.trials.values():
        trial.results = [replace(one, objective=-1.0, elapsed_s=0.0) for one in trial.results]
    assert pixels(plots.objective_by_axis(negative, base)).size


def test_nothing_to_draw_is_said() -> None:
    empty = asha(0)
    base = base_of(empty)
    for draw in (plots.objective_by_axis, plots.pbt_schedules):
        with pytest.raises(ValueError, match="no trial"):
            draw(empty, base)
    with pytest.raises(ValueError, match="no trial"):
        plots.best_so_far_picture(empty)
    with pytest.raises(ValueError, match="no axis"):
        plots.importance_bars(importance_of(empty, base).shares, 0)
