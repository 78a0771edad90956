"""Augmentation: repeatable by generator, divisible by rows, background outside, differentiable."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from doodle_dist.config.model import AugmentConfig
from doodle_dist.models import augment

SHIFT = AugmentConfig(translate_px=2)
EVERYTHING = AugmentConfig(
    translate_px=2, rotate_deg=12, scale_log=0.12, cutout_px=8, cutout_probability=0.5, color=True
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 16, side: int = 28) -> Tensor:
    return torch.rand(count, 1, side, side, generator=seeded(9)) * 2 - 1


@pytest.mark.parametrize("config", [SHIFT, EVERYTHING, AugmentConfig(rotate_deg=20, probability=0.5)])
def test_the_generator_decides_and_ranks_can_take_their_rows(config: AugmentConfig) -> None:
    x = pictures()
    whole = augment.augment(x, config, seeded(1))
    assert torch.equal(whole, augment.augment(x, config, seeded(1)))
    assert not torch.equal(whole, augment.augment(x, config, seeded(2)))
    drawn = augment.draw(16, config, seeded(1))
    parts = [augment.apply(x[a:b], drawn.rows(a, b), config) for a, b in [(0, 5), (5, 16)]]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_nothing_asked_for_is_nothing_changed() -> None:
    x = pictures()
    assert torch.equal(augment.augment(x, AugmentConfig(), seeded()), x)
    assert torch.equal(augment.augment(x, AugmentConfig(translate_px=3, probability=0), seeded()), x)
    turned = augment.augment(x, AugmentConfig(rotate_deg=30, probability=0), seeded())
    torch.testing.assert_close(turned, x, rtol=0, atol=1e-5)


def test_shifts_are_whole_pixels_all_equally_likely() -> None:
    drawn = augment.draw(20_000, SHIFT, seeded())
    for axis in range(2):
        values, counts = drawn.shifts[:, axis].unique(return_counts=True)
        assert values.tolist() == [-2, -1, 0, 1, 2]
        assert (counts / 20_000 - 0.2).abs().max() < 0.015


def test_a_shift_moves_ink_right_and_down_and_brings_in_background() -> None:
    x = torch.full((1, 1, 6, 6), -1.0)
    x[0, 0, 1, 2] = 1.0
    drawn = augment.draw(1, SHIFT, seeded())
    moved = augment.apply(
        x,
        replace(drawn, shifts=torch.tensor([[2.0, -1.0]])),
        SHIFT,
    )
    assert moved[0, 0, 0, 4] == 1.0
    assert (moved == -1.0).sum() == 35


def test_the_affine_way_agrees_with_whole_pixel_shifts_and_quarter_turns() -> None:
    x = pictures(2)
    bent = AugmentConfig(translate_px=2, rotate_deg=1)
    drawn = augment.draw(2, SHIFT, seeded())
    still = torch.eye(2).expand(2, 2, 2)
    for_both = replace(drawn, matrices=still)
    torch.testing.assert_close(
        augment.apply(x, for_both, bent), augment.apply(x, for_both, SHIFT), rtol=0, atol=1e-5
    )
    cos, sin = math.cos(math.pi / 2), math.sin(math.pi / 2)
    turn = torch.tensor([[cos, -sin], [sin, cos]]).expand(2, 2, 2)
    quarter = replace(drawn, matrices=turn, shifts=torch.zeros(2, 2))
    torch.testing.assert_close(augment.apply(x, quarter, bent), torch.rot90(x, -1, (2, 3)), rtol=0, atol=1e-5)


def test_cutout_blanks_one_square() -> None:
    x = torch.ones(200, 1, 28, 28)
    blank = (augment.augment(x, AugmentConfig(cutout_px=8), seeded()) == -1).float()
    area = blank.sum((1, 2, 3))
    assert area.max() == 64
    assert area.min() >= 16  # a corner's
    height = blank.amax(3).sum((1, 2))
    width = blank.amax(2).sum((1, 2))
    torch.testing.assert_close(area, height * width)
    halved = augment.augment(x, AugmentConfig(cutout_px=8, cutout_probability=0.5), seeded())
    assert 70 < int((halved == -1).flatten(1).any(1).sum()) < 130


@pytest.mark.parametrize("config", [SHIFT, EVERYTHING])
def test_gradients_pass_to_the_picture(config: AugmentConfig) -> None:
    x = pictures(3).requires_grad_()
    augment.augment(x, config, seeded()).sum().backward()
    assert x.grad is not None
    assert (x.grad.flatten(1).sum(1) > 300).all()


def test_colour_changes_brightness_saturation_and_contrast_as_far_as_diffaugment() -> None:
    x = torch.rand(4000, 3, 4, 4, generator=seeded(3)) * 2 - 1
    config = AugmentConfig(color=True)
    changed = augment.augment(x, config, seeded(1))
    added = changed.mean((1, 2, 3)) - x.mean((1, 2, 3))
    assert float(added.min()) == pytest.approx(-0.5, abs=0.01)
    assert float(added.max()) == pytest.approx(0.5, abs=0.01)

    def colourfulness(y: Tensor) -> Tensor:
        return (y - y.mean(1, keepdim=True)).flatten(1).std(1)

    def contrast(y: Tensor) -> Tensor:
        return y.mean(1).flatten(1).std(1)

    times = contrast(changed) / contrast(x)
    assert float(times.min()) == pytest.approx(0.5, abs=0.01)
    assert float(times.max()) == pytest.approx(1.5, abs=0.01)
    saturation = colourfulness(changed) / colourfulness(x) / times
    assert float(saturation.min()) == pytest.approx(0.0, abs=0.01)
    assert float(saturation.max()) == pytest.approx(2.0, abs=0.01)
    untouched = augment.augment(x, AugmentConfig(color=True, probability=0.0), seeded(1))
    torch.testing.assert_close(untouched, x)


def test_autocast_does_not_coarsen_where_a_picture_is_turned_to() -> None:
    config = AugmentConfig(rotate_deg=10, scale_log=0.1)
    x, drawn = pictures(), augment.draw(16, config, seeded())
    plain = augment.apply(x, drawn, config)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment.apply(x, drawn, config), plain)
