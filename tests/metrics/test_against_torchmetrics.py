"""Our figures beside torchmetrics', where it has them. It holds all features or none per category, so it judges
here and is not what `evaluate` runs on."""

import pytest
import torch
from torch import nn

from doodle_dist.metrics.classifier import Calibration, Confusion
from doodle_dist.metrics.gan import gaussian_of
from doodle_dist.metrics.moments import KernelMoments, frechet, kernel_distance

pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")

from torchmetrics.classification import MulticlassCalibrationError, MulticlassF1Score
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance


class _Features(nn.Module):
    """Pictures [N, 1, 2, 4] that are their own eight features."""

    num_features = 8

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


def normal(rows: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))


def test_frechet_distance() -> None:
    x, y = normal(400, 0) * 2 + 1, normal(300, 1)
    theirs = FrechetInceptionDistance(feature=_Features(), normalize=True, input_img_size=(1, 2, 4))
    theirs.set_dtype(torch.float64)
    theirs.update(x.view(-1, 1, 2, 4), real=True)
    theirs.update(y.view(-1, 1, 2, 4), real=False)
    assert frechet(gaussian_of(x), gaussian_of(y)) == pytest.approx(float(theirs.compute()), rel=1e-4)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`")
def test_kernel_distance() -> None:
    x, y = normal(400, 0), normal(400, 1) + 0.3
    theirs = KernelInceptionDistance(feature=_Features(), normalize=True, subsets=1, subset_size=400)
    theirs.update(x.view(-1, 1, 2, 4), real=True)
    theirs.update(y.view(-1, 1, 2, 4), real=False)
    one, other = KernelMoments(8), KernelMoments(8)
    one.add(x, torch.arange(400))
    other.add(y, torch.arange(400))
    assert kernel_distance(one, other).value == pytest.approx(float(theirs.compute()[0]), rel=1e-4)


def test_macro_f1_and_calibration_error() -> None:
    labels = torch.randint(6, (500,), generator=torch.Generator().manual_seed(0))
    logits = torch.randn(500, 6, generator=torch.Generator().manual_seed(1))
    logits += 2 * nn.functional.one_hot(labels, 6)
    confusion, calibration = Confusion(6, torch.device("cpu")), Calibration()
    confusion.add(logits, labels)
    calibration.add(logits, labels)
    figures = confusion.figures()
    assert figures is not None
    f1 = MulticlassF1Score(6, average="macro")(logits, labels)
    assert figures.scalars["macro_f1"] == pytest.approx(float(f1), rel=1e-5)
    error = MulticlassCalibrationError(6, n_bins=Calibration.BINS)(logits.softmax(1), labels)
    assert calibration.error == pytest.approx(float(error), rel=1e-4)
