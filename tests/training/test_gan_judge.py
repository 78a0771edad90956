"""The judge of a GAN in training: what it says of pictures whose answer is known, however batches are cut."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from doodle_dist.metrics.gan import gaussian_of
from doodle_dist.metrics.moments import frechet
from doodle_dist.run.snapshot import load_snapshot
from doodle_dist.training.gan_judge import Judge
from doodle_dist.training.task import LaneRandom, StepInput
from tests.evaluation.readers import PROJECTION
from tests.runs import save_run

CPU = torch.device("cpu")
SCALARS = {
    "judge/conditional_accuracy",
    "judge/frechet_distance",
    "judge/diversity_ratio",
    "judge/diversity_ratio_lowest",
}


@pytest.fixture
def judge(tmp_path: Path) -> Callable[[], Judge]:
    save_run(tmp_path, "classifier-small", settings=(PROJECTION,))
    return lambda: Judge(load_snapshot(str(tmp_path)), ("cat", "dog"), (28, 1), CPU)


class _Fixed(nn.Module):
    """The picture of each latent's number."""

    def __init__(self, pictures: Tensor) -> None:
        super().__init__()
        self.pictures = pictures

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.pictures[z[:, 0].long()]


def numbers(count: int) -> Tensor:
    return torch.arange(count).float()[:, None]


def batches(pictures: Tensor, size: int) -> list[StepInput]:
    labels = torch.arange(len(pictures)) % 2
    random = LaneRandom(0, 0, ((0, size),), CPU)
    parts = zip(pictures.split(size), labels.split(size), strict=True)
    return [StepInput(x, y, len(y), random) for x, y in parts]


def pictures(count: int, seed: int, scale: float = 1.0) -> Tensor:
    blots = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed)) * scale
    return nn.functional.interpolate(blots, size=28) * 2 - 1


def test_the_figures_are_those_of_all_pictures_at_once(judge: Callable[[], Judge]) -> None:
    real, fake = pictures(300, 0), pictures(1200, 1, scale=0.7)
    by_seven = judge().figures(_Fixed(fake), numbers, batches(real, 7))
    at_once = judge().figures(_Fixed(fake), numbers, batches(real, 300))
    assert set(by_seven) == set(at_once) == SCALARS
    assert by_seven == pytest.approx(at_once, rel=1e-5)
    features = judge().classifier.features
    expected = frechet(gaussian_of(features(fake)), gaussian_of(features(real)))
    assert at_once["judge/frechet_distance"] == pytest.approx(expected, rel=1e-6)
    labels = torch.arange(2).repeat_interleave(600)
    read = judge().classifier(fake).argmax(1) == labels
    assert at_once["judge/conditional_accuracy"] == pytest.approx(float(read.double().mean()))


def test_the_real_drawings_again_are_near_and_one_picture_is_far(judge: Callable[[], Judge]) -> None:
    real = pictures(1200, 0)
    the_same = judge().figures(_Fixed(real), numbers, batches(real, 100))
    collapsed = judge().figures(_Fixed(real[:1].repeat(1200, 1, 1, 1)), numbers, batches(real, 100))
    assert the_same["judge/frechet_distance"] == pytest.approx(0, abs=1e-6)
    assert the_same["judge/diversity_ratio"] == pytest.approx(1, abs=0.1)
    assert collapsed["judge/frechet_distance"] > 1
    assert collapsed["judge/diversity_ratio"] == pytest.approx(0, abs=1e-3)


def test_the_real_drawings_are_read_once_and_none_are_no_figures(judge: Callable[[], Judge]) -> None:
    one = judge()
    first = one.figures(_Fixed(pictures(1200, 1)), numbers, batches(pictures(50, 0), 10))
    assert one.figures(_Fixed(pictures(1200, 1)), numbers, []) == first
    assert judge().figures(_Fixed(pictures(1200, 1)), numbers, []) == {}
    assert judge().figures(_Fixed(pictures(1200, 1)), numbers, batches(pictures(1, 0), 1)) == {}


def test_a_judge_of_other_categories_is_refused(tmp_path: Path) -> None:
    save_run(tmp_path, "classifier-small", ("bird", "cat"), settings=(PROJECTION,))
    with pytest.raises(ValueError, match=r"gan\.judge: the judge was trained on other categories"):
        Judge(load_snapshot(str(tmp_path)), ("cat", "dog"), (28, 1), CPU)


@pytest.mark.parametrize("shape", [(32, 1), (28, 3)])
def test_a_judge_of_other_pictures_is_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    save_run(tmp_path, "classifier-small", settings=(PROJECTION,))
    said = (
        rf"gan\.judge: .* of side 28 with 1 channels; this GAN makes them with side {shape[0]} and {shape[1]}"
    )
    with pytest.raises(ValueError, match=said):
        Judge(load_snapshot(str(tmp_path)), ("cat", "dog"), shape, CPU)


def test_categories_of_unlike_sizes_count_as_they_do_among_the_real_drawings(
    judge: Callable[[], Judge],
) -> None:
    cat, dog = pictures(600, 0), pictures(600, 1, scale=0.3)
    real = torch.cat([cat, cat, cat, dog])
    labels = torch.tensor([0, 1]).repeat_interleave(torch.tensor([1800, 600]))
    batch = StepInput(real, labels, 2400, LaneRandom(0, 0, ((0, 2400),), CPU))
    found = judge().figures(_Fixed(torch.cat([cat, dog])), numbers, [batch])["judge/frechet_distance"]
    features = judge().classifier.features
    equal_shares = frechet(gaussian_of(features(torch.cat([cat, dog]))), gaussian_of(features(real)))
    assert equal_shares > 0.1
    assert found < 0.01 * equal_shares
