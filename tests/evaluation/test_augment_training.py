"""GANs and classifiers of the experiment: fair arms, repeatable, and generated drawings really used."""

import numpy as np
import pytest

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import load_experiment
from doodle_dist.errors import WorkFailedError
from doodle_dist.evaluation.augment_drawings import Drawings
from doodle_dist.evaluation.augment_training import Score, train_classifier, train_gan
from tests.runs import SMALL

CATEGORIES = ("left", "right")


def classifier(drawings: int) -> Experiment:
    length = [f"train.drawings={drawings}", "optim.classifier.warmup_drawings=200"]
    return load_experiment("classifier-small", ["model.classifier.width=8", *length])


def gan(*settings: str) -> Experiment:
    return load_experiment("doodle-gan-small", [*SMALL["doodle-gan-small"], "train.drawings=130", *settings])


def bars(count: int, seed: int, *, told: bool = True) -> Drawings:
    """A bar on the left or the right, as the label says; anywhere if the picture doesn't tell."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    pixels = np.zeros((count, 1, 28, 28), np.uint8)
    for row, label in enumerate(labels if told else random.integers(0, 2, count)):
        left = int(random.integers(3, 8)) + 13 * int(label)
        pixels[row, 0, 4:24, left : left + 3] = 255
    return Drawings(pixels, labels, np.arange(count, dtype=np.uint64))


def score(
    real: Drawings, generated: Drawings | None, *, augmented: bool = False, drawings: int = 300
) -> Score:
    test = bars(200, seed=99)
    return train_classifier(
        classifier(drawings), real, generated, test, CATEGORIES, augmented=augmented, share=0.5, seed=3
    )


@pytest.mark.slow
def test_every_arm_sees_as_many_drawings() -> None:
    real, made = bars(20, 0), bars(60, 1)
    arms = [
        score(real, None),
        score(real, None, augmented=True),
        score(real, made),
        score(real, made, augmented=True),
    ]
    assert {arm.seen for arm in arms} == {320}, "full batches of 64 for 300 drawings"
    assert [arm.seen_generated for arm in arms] == [0, 0, 160, 160]
    again = score(real, made)
    assert (again.accuracy, again.macro_f1) == (arms[2].accuracy, arms[2].macro_f1)


@pytest.mark.slow
def test_generated_drawings_teach_what_real_ones_do_not() -> None:
    mute = bars(60, 0, told=False)
    with_made, alone = (score(mute, made, drawings=4000).accuracy for made in (bars(200, 1), None))
    assert with_made > 0.9 > 0.75 > alone


def test_a_gan_draws_so_many_of_each_category_the_same_each_time() -> None:
    made = train_gan(gan(), bars(20, 0), CATEGORIES, per_category=5, seed=1)
    assert made.seen == 192
    assert made.drawings.pixels.shape == (10, 1, 28, 28)
    assert made.drawings.labels.tolist() == [0] * 5 + [1] * 5
    again = train_gan(gan(), bars(20, 0), CATEGORIES, per_category=5, seed=1)
    assert np.array_equal(made.drawings.pixels, again.drawings.pixels)
    other = train_gan(gan(), bars(20, 0), CATEGORIES, per_category=5, seed=2)
    assert not np.array_equal(made.drawings.pixels, other.drawings.pixels)


def test_a_gan_that_diverges_says_where() -> None:
    # An infinite penalty of the first critic update.
    wild = gan("gan.adversarial.r1_gamma_start=1e300", "gan.adversarial.gamma_ramp_drawings=100")
    with pytest.raises(WorkFailedError, match="not finite at step 0, drawing 0"):
        train_gan(wild, bars(20, 0), CATEGORIES, per_category=5, seed=1)
