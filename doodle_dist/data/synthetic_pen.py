"""The pen that draws prototypes of made-up drawings, with the small faults of a hand."""

from __future__ import annotations

from itertools import pairwise
from math import cos, pi, radians, sin

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
Stroke = NDArray[np.float64]  # [points, 2]

_STEP = 0.07  # the longest piece of a stroke: 9 pixels of the final drawing


class Pen:
    """Collects strokes. Each shape has the small faults of a hand: no circle closes exactly."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.strokes: list[Stroke] = []

    # --- choices ---

    def u(self, low: float, high: float) -> float:
        """A number between ``low`` and ``high``."""
        return float(self.rng.uniform(low, high))

    def n(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    # --- strokes ---

    def add(self, points: NDArray[np.float64] | list[Point]) -> None:
        self.strokes.append(np.asarray(points, np.float64).reshape(-1, 2))

    def poly(self, *points: Point, closed: bool = False) -> None:
        """Straight lines with sharp corners."""
        corners = [*points, points[0]] if closed else list(points)
        if closed and self.chance(0.6):  # not quite back where it began
            corners[-1] = (corners[-1][0] + self.u(-0.06, 0.06), corners[-1][1] + self.u(-0.06, 0.06))
        pieces = [np.array(corners[:1])]
        for a, b in pairwise(corners):
            n = max(1, round(np.hypot(b[0] - a[0], b[1] - a[1]) / _STEP))
            t = np.arange(1, n + 1)[:, None] / n
            pieces.append(np.array([a]) * (1 - t) + np.array([b]) * t)
        self.add(np.concatenate(pieces))

    def line(self, x0: float, y0: float, x1: float, y1: float) -> None:
        self.poly((x0, y0), (x1, y1))

    def curve(self, *points: Point, closed: bool = False) -> None:
        """A smooth line through the points (Catmull–Rom)."""
        given = np.array(points)
        if closed:
            around = np.concatenate((given[-1:], given, given[:2]))
        else:
            around = np.concatenate((2 * given[:1] - given[1:2], given, 2 * given[-1:] - given[-2:-1]))
        pieces = []
        for a, b, c, d in zip(around[:-3], around[1:-2], around[2:-1], around[3:], strict=True):
            n = max(2, round(np.hypot(*(c - b)) / _STEP))
            t = np.arange(n)[:, None] / n
            pieces.append(
                0.5
                * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
            )
        self.add(np.concatenate([*pieces, given[:1] if closed else given[-1:]]))

    def arc(self, x: float, y: float, rx: float, ry: float, begin: float, end: float) -> None:
        """Part of an ellipse, from ``begin`` to ``end`` degrees (0 is right, 90 is down)."""
        n = max(4, round(abs(radians(end - begin)) * max(rx, ry) / _STEP))
        t = np.radians(np.linspace(begin, end, n + 1))
        self.add(np.stack((x + rx * np.cos(t), y + ry * np.sin(t)), 1))

    def ellipse(self, x: float, y: float, rx: float, ry: float | None = None, tilt: float = 0.0) -> None:
        """A closed one, begun anywhere, that ends a little before or after its beginning."""
        ry = rx if ry is None else ry
        begin = self.u(-pi, 0) if self.chance(0.8) else self.u(-pi, pi)
        sweep = 2 * pi + float(self.rng.normal(0.08, 0.18))
        n = max(7, round(sweep * max(rx, ry) / _STEP))
        t = np.linspace(0, 1, n + 1)
        angle = begin + sweep * t * (1 if self.chance(0.5) else -1)
        size = 1 + float(self.rng.normal(0, 0.05)) * (t - 0.5)
        a, b = rx * size * np.cos(angle), ry * size * np.sin(angle)
        self.add(np.stack((x + a * cos(tilt) - b * sin(tilt), y + a * sin(tilt) + b * cos(tilt)), 1))

    def dot(self, x: float, y: float, size: float = 0.06) -> None:
        """An eye or a button: a tap, a tiny ring or a filled one."""
        way = self.rng.random()
        if way < 0.25:
            self.line(x, y, x + self.u(-0.03, 0.03), y + self.u(0.01, 0.05))
        elif way < 0.75:
            self.ellipse(x, y, size * self.u(0.7, 1.2))
        else:
            t = np.linspace(0, 1, 16)
            turn = t * 4 * pi
            self.add(np.stack((x + size * (1 - t) * np.cos(turn), y + size * (1 - t) * np.sin(turn)), 1))

    def rays(self, x: float, y: float, inner: float, outer: float, n: int, begin: float = 0.0) -> None:
        """``n`` lines that point away from (x, y)."""
        for i in range(n):
            angle = begin + 2 * pi * i / n + self.u(-0.12, 0.12)
            a, b = inner + self.u(-0.03, 0.06), outer + self.u(-0.12, 0.08)
            self.line(x + a * cos(angle), y + a * sin(angle), x + b * cos(angle), y + b * sin(angle))

    def mirror(self, *points: Point) -> list[Point]:
        """The points with left and right exchanged."""
        return [(-x, y) for x, y in points]

    def box(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """A rectangle: in one go, or as three sides and a fourth."""
        if self.chance(0.75):
            corners = [(x0, y0), (x0, y1), (x1, y1), (x1, y0)]
            k = self.n(0, 3)
            corners = corners[k:] + corners[:k]
            self.poly(*(corners if self.chance(0.6) else corners[::-1]), closed=True)
        else:
            self.poly((x0, y0), (x0, y1), (x1, y1), (x1, y0))
            self.line(x0, y0, x1, y0)
