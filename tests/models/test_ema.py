"""The average forgets by half-life in drawings, whatever the batch, and copies buffers."""

import torch
from torch import nn

from doodle_dist.config.optim import EmaConfig
from doodle_dist.models.ema import ExponentialMovingAverage
from doodle_dist.schedules import ema_share


def _constant(network: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)


def _averaged(batch: int, drawings: int, halflife_drawings: float) -> float:
    config = EmaConfig(halflife_drawings=halflife_drawings, rampup_fraction=None)
    share = torch.tensor(ema_share(config, drawings, batch))
    network = nn.Linear(2, 2)
    _constant(network, 0.0)
    ema = ExponentialMovingAverage(network)
    _constant(network, 1.0)
    for _ in range(drawings // batch):
        ema.update(network, share)
    values = torch.cat([p.flatten() for p in ema.average.parameters()])
    assert torch.equal(values, values[:1].expand_as(values))
    return float(values[0])


def test_half_of_the_old_weights_is_left_after_a_half_life_whatever_the_batch() -> None:
    assert abs(_averaged(10, 1000, 1000.0) - 0.5) < 1e-5
    assert abs(_averaged(250, 1000, 1000.0) - 0.5) < 1e-5
    assert abs(_averaged(250, 2000, 1000.0) - 0.75) < 1e-5


def test_without_a_share_the_average_is_a_copy() -> None:
    network = nn.Linear(7, 5)
    ema = ExponentialMovingAverage(network)
    nn.init.normal_(network.weight)
    ema.update(network, None)
    assert torch.equal(next(ema.average.parameters()), network.weight)


def test_buffers_are_copied_and_the_average_needs_no_gradient() -> None:
    network = nn.BatchNorm1d(3).train()
    ema = ExponentialMovingAverage(network)
    network(torch.randn(8, 3) + 5)
    ema.update(network, torch.tensor(1e-8))
    for name, buffer in network.named_buffers():
        assert torch.equal(dict(ema.average.named_buffers())[name], buffer)
    assert not ema.average.training
    assert not any(p.requires_grad for p in ema.average.parameters())
