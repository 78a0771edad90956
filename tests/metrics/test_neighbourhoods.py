"""Precision, recall, density and coverage where the answer is known."""

import pytest
import torch
from torch import Tensor

from doodle_dist.metrics import neighbourhoods
from doodle_dist.metrics.neighbourhoods import NEIGHBOURS, Neighbourhoods, Overlap, overlap


def normal(rows: int, columns: int, seed: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def between(real: Tensor, generated: Tensor) -> Overlap:
    return overlap(Neighbourhoods(real), Neighbourhoods(generated))


def test_identical_sets_have_it_all() -> None:
    x = normal(300, 8, 0)
    found = between(x, x.flip(0))
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    # Each real ball holds its own centre and five neighbours.
    assert found.density == pytest.approx((NEIGHBOURS + 1) / NEIGHBOURS)


def test_sets_far_apart_have_nothing_in_common() -> None:
    assert between(normal(100, 4, 0), normal(100, 4, 1) + 100) == Overlap(0, 0, 0, 0)


def test_a_collapsed_generator_is_precise_and_covers_nothing() -> None:
    real = normal(500, 4, 0)
    found = between(real, real[:1] * 0.1 + 1e-3 * normal(500, 4, 1))
    assert found.precision == 1
    assert found.recall < 0.02
    assert found.coverage < 0.05


def test_a_generator_of_half_the_modes_recalls_half() -> None:
    modes = torch.arange(600)[:, None] % 2 * 100.0
    found = between(normal(600, 3, 0) + modes, normal(600, 3, 1))
    assert found.recall == pytest.approx(0.5, abs=0.03)
    assert found.coverage == pytest.approx(0.5, abs=0.03)
    assert found.precision > 0.9


def test_equal_distributions_cover_as_the_closed_form_says() -> None:
    """Naeem et al. 2020, lemma 2: for as many of each, 1 - prod (N - i) / (2N - 1 - i) over i in 1..k is expected."""
    n = 1500
    expected = 1.0
    for i in range(1, NEIGHBOURS + 1):
        expected *= (n - i) / (2 * n - i)
    found = between(normal(n, 6, 0), normal(n, 6, 1))
    assert found.coverage == pytest.approx(1 - expected, abs=0.02)
    assert found.density == pytest.approx(1, abs=0.06)


def test_parts_of_the_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normal(200, 5, 0), normal(200, 5, 1) * 0.7
    whole = between(x, y)
    monkeypatch.setattr(neighbourhoods, "_ROWS", 33)
    assert between(x, y) == whole


def test_five_are_too_few() -> None:
    with pytest.raises(ValueError, match="5 drawings: neighbourhoods take at least 6"):
        Neighbourhoods(normal(5, 2, 0))
