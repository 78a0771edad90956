"""Where a worker runs: its rank, its device, and how it reports. Ray Train's workers: ray_context.py."""

import shutil
from pathlib import Path
from typing import Protocol, TypeVar

import torch

T = TypeVar("T")


class Context(Protocol):
    """What the loop, and what prepares it, may ask of the place they run in."""

    rank: int
    world_size: int
    device: torch.device

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Hand over metrics and rank 0's checkpoint folder, uploaded and then deleted. A barrier."""
        ...

    def agree(self, value: T) -> T:
        """Rank 0's ``value``, on every rank. Every rank has to ask."""
        ...

    def check_writer(self) -> None:
        """Raise LeaseLostError or SupersededError where another one writes the run by now."""
        ...


class Alone:
    """One rank by itself on a device: what contexts outside of Ray Train have in common."""

    rank, world_size = 0, 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Nobody is told."""
        if checkpoint is not None:
            shutil.rmtree(checkpoint)

    def agree(self, value: T) -> T:
        return value

    def check_writer(self) -> None:
        """Nobody else writes here."""
