"""Augmentation: its numbers decide, divisible by rows, background outside, differentiable."""

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


def uniform(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, augment.NUMBERS, generator=seeded(seed))


def changed(x: Tensor, config: AugmentConfig, seed: int = 0) -> Tensor:
    return augment.apply(x, augment.changes(uniform(len(x), seed), config), config)


@pytest.mark.parametrize("config", [SHIFT, EVERYTHING, AugmentConfig(rotate_deg=20, probability=0.5)])
def test_the_numbers_decide_and_ranks_can_take_their_rows(config: AugmentConfig) -> None:
    x = pictures()
    whole = changed(x, config, 1)
    assert torch.equal(whole, changed(x, config, 1))
    assert not torch.equal(whole, changed(x, config, 2))
    numbers = uniform(16, 1)
    parts = [
        augment.apply(x[a:b], augment.changes(numbers[a:b], config), config) for a, b in [(0, 5), (5, 16)]
    ]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_nothing_asked_for_is_nothing_changed() -> None:
    x = pictures()
    assert torch.equal(changed(x, AugmentConfig()), x)
    assert torch.equal(changed(x, AugmentConfig(translate_px=3, probability=0)), x)
    turned = changed(x, AugmentConfig(rotate_deg=30, probability=0))
    torch.testing.assert_close(turned, x, rtol=0, atol=1e-5)


def test_shifts_are_whole_pixels_all_equally_likely() -> None:
    drawn = augment.changes(uniform(20_000), SHIFT)
    for axis in range(2):
        values, counts = drawn.shifts[:, axis].unique(return_counts=True)
        assert values.tolist() == [-2, -1, 0, 1, 2]
        assert (counts / 20_000 - 0.2).abs().max() < 0.015


def test_a_shift_moves_ink_right_and_down_and_brings_in_background() -> None:
    x = torch.full((1, 1, 6, 6), -1.0)
    x[0, 0, 1, 2] = 1.0
    drawn = augment.changes(uniform(1), SHIFT)
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
    drawn = augment.changes(uniform(2), SHIFT)
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
    blank = (changed(x, AugmentConfig(cutout_px=8)) == -1).float()
    area = blank.sum((1, 2, 3))
    assert area.max() == 64
    assert area.min() >= 16  # a corner's
    height = blank.amax(3).sum((1, 2))
    width = blank.amax(2).sum((1, 2))
    torch.testing.assert_close(area, height * width)
    halved = changed(x, AugmentConfig(cutout_px=8, cutout_probability=0.5))
    assert 70 < int((halved == -1).flatten(1).any(1).sum()) < 130


@pytest.mark.parametrize("config", [SHIFT, EVERYTHING])
def test_gradients_pass_to_the_picture(config: AugmentConfig) -> None:
    x = pictures(3).requires_grad_()
    changed(x, config).sum().backward()
    assert x.grad is not None
    assert (x.grad.flatten(1).sum(1) > 300).all()


def test_colour_changes_brightness_saturation_and_contrast_as_far_as_diffaugment() -> None:
    x = torch.rand(4000, 3, 4, 4, generator=seeded(3)) * 2 - 1
    config = AugmentConfig(color=True)
    seen = changed(x, config, 1)
    added = seen.mean((1, 2, 3)) - x.mean((1, 2, 3))
    assert float(added.min()) == pytest.approx(-0.5, abs=0.01)
    assert float(added.max()) == pytest.approx(0.5, abs=0.01)

    def colourfulness(y: Tensor) -> Tensor:
        return (y - y.mean(1, keepdim=True)).flatten(1).std(1)

    def contrast(y: Tensor) -> Tensor:
        return y.mean(1).flatten(1).std(1)

    times = contrast(seen) / contrast(x)
    assert float(times.min()) == pytest.approx(0.5, abs=0.01)
    assert float(times.max()) == pytest.approx(1.5, abs=0.01)
    saturation = colourfulness(seen) / colourfulness(x) / times
    assert float(saturation.min()) == pytest.approx(0.0, abs=0.01)
    assert float(saturation.max()) == pytest.approx(2.0, abs=0.01)
    untouched = changed(x, AugmentConfig(color=True, probability=0.0), 1)
    torch.testing.assert_close(untouched, x)


def test_autocast_does_not_coarsen_where_a_picture_is_turned_to() -> None:
    config = AugmentConfig(rotate_deg=10, scale_log=0.1)
    x, drawn = pictures(), augment.changes(uniform(16), config)
    plain = augment.apply(x, drawn, config)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment.apply(x, drawn, config), plain)
