"""How people draw things: designs of made-up categories, each with several ways to draw it.

A design is a function that moves a ``Pen`` over a canvas of about -1..1 (x to the right, y down) and makes
its choices (which way, which details, how many, where) with the pen's random numbers. It gives a prototype;
``synthetic`` draws many shaky copies of each.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from doodle_dist.data.synthetic_living import LIVING
from doodle_dist.data.synthetic_pen import Pen, Stroke
from doodle_dist.data.synthetic_things import THINGS

# In this order complicated and simple ones alternate: the first K of them, for any K, have about as many
# strokes, points and bytes per drawing as the real mix.
_ORDER = (
    "cat",
    "star",
    "umbrella",
    "airplane",
    "fish",
    "clock",
    "car",
    "eyeglasses",
    "tree",
    "ice cream",
    "face",
    "sailboat",
    "house",
    "snowman",
    "mushroom",
    "ladder",
    "butterfly",
    "apple",
    "sun",
    "lightning",
    "cake",
    "envelope",
    "flower",
    "bicycle",
    "spider",
)
DESIGNS: dict[str, Callable[[Pen], None]] = {name: (LIVING | THINGS)[name] for name in _ORDER}


def _scribble(p: Pen) -> None:
    """Not a drawing of anything."""
    for _ in range(p.n(1, 5)):
        way = p.n(0, 2)
        if way == 0:
            points = p.rng.normal(0, 0.5, (p.n(4, 14), 2))
            p.curve(*[(float(x), float(y)) for x, y in points])
        elif way == 1:
            n = p.n(5, 14)
            xs = np.linspace(-0.9, 0.9, n) + p.rng.normal(0, 0.05, n)
            ys = (
                p.u(-0.5, 0.5)
                + np.where(np.arange(n) % 2, 0.4, -0.4) * p.u(0.4, 1.3)
                + p.rng.normal(0, 0.1, n)
            )
            p.poly(*[(float(x), float(y)) for x, y in zip(xs, ys, strict=True)])
        else:
            p.line(p.u(-1, 1), p.u(-1, 1), p.u(-1, 1), p.u(-1, 1))


def prototypes(category: str | None, count: int, rng: np.random.Generator) -> list[list[Stroke]]:
    """``count`` drawings of a category as it is designed, of nothing in particular for None."""
    design = _scribble if category is None else DESIGNS[category]
    drawings = []
    for _ in range(count):
        pen = Pen(rng)
        design(pen)
        drawings.append(pen.strokes)
    return drawings
