"""How people draw animals, plants and faces (see synthetic_shapes)."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi, radians, sin

import numpy as np

from doodle_dist.data.synthetic_pen import Pen, Point

# fmt: off


def _cat(p: Pen) -> None:
    sitting = p.chance(0.35)
    x, y, r = (0.0, 0.0, 0.75) if not sitting else (p.u(-0.2, 0.2), -0.45, 0.42)
    tall = p.u(0.8, 1.0)
    tip, ear = p.u(1.25, 1.6), p.u(0.28, 0.4)

    def ear_at(side: int) -> list[Point]:
        return [
            (x + side * r * 0.9, y - r * tall * 0.45),
            (x + side * r * p.u(0.75, 0.95), y - r * tall * tip),
            (x + side * r * (0.9 - 2 * ear), y - r * tall * 0.92),
        ]

    if p.chance(0.35):  # head and ears in one line
        left, right = ear_at(-1), ear_at(1)
        p.arc(x, y, r, r * tall, -30, 210)
        head = p.strokes.pop()
        p.poly(*left, *right[::-1])
        p.add(np.concatenate((head, p.strokes.pop())))
    else:
        p.ellipse(x, y, r, r * tall)
        for side in (-1, 1):
            p.poly(*ear_at(side))
    for side in (-1, 1):
        p.dot(x + side * r * p.u(0.32, 0.42), y - r * p.u(0.1, 0.25), r * p.u(0.09, 0.15))
    if p.chance(0.7):
        p.poly((x - 0.1 * r, y + 0.12 * r), (x + 0.1 * r, y + 0.12 * r), (x, y + 0.26 * r), closed=True)
    else:
        p.dot(x, y + 0.18 * r, 0.08 * r)
    if p.chance(0.75):
        p.curve(
            (x - 0.35 * r, y + 0.4 * r), (x - 0.15 * r, y + 0.52 * r), (x, y + 0.3 * r),
            (x + 0.15 * r, y + 0.52 * r), (x + 0.35 * r, y + 0.4 * r),
        )
    whiskers = p.n(2, 3) if p.chance(0.75) else 0
    for side in (-1, 1):
        for k in range(whiskers):
            slope = (k - (whiskers - 1) / 2) * 0.2 * r
            a, b = p.u(0.4, 0.55) * r, p.u(1.0, 1.35) * r
            p.line(x + side * a, y + 0.2 * r + slope * 0.5, x + side * b, y + 0.18 * r + slope * 1.8)
    if sitting:
        p.curve(
            (x - 0.25, y + 0.35), (x - 0.5, 0.4), (x - 0.45, 0.95), (x, 1.0), (x + 0.45, 0.95),
            (x + 0.5, 0.4), (x + 0.25, y + 0.35),
        )
        p.curve((x + 0.47, 0.8), (x + 0.85, 0.7), (x + 0.8, 0.2), (x + 1.0, 0.0))
        if p.chance(0.6):
            p.line(x - 0.12, 0.5, x - 0.12, 0.97)
            p.line(x + 0.12, 0.5, x + 0.12, 0.97)


def _fish(p: Pen) -> None:
    side = 1 if p.chance(0.7) else -1
    h = p.u(0.38, 0.55)
    if p.chance(0.5):  # body and tail in one loop
        p.curve(*[(side * x, y) for x, y in (

            (0.95, h * 0.8), (0.5, 0.0), (0.0, -h), (-0.6, -h * 0.7), (-0.95, 0.0), (-0.6, h * 0.7), (0.0, h),
            (0.5, 0.0), (0.95, -h * 0.8),
        )])
        if p.chance(0.8):
            p.curve((side * 0.95, -h * 0.8), (side * 0.85, 0), (side * 0.95, h * 0.8))
    else:
        p.ellipse(-side * 0.15, 0, 0.72, h)
        p.poly((side * 0.5, 0), (side * 1.0, -h * 0.9), (side * p.u(0.85, 1.0), h * 0.9), (side * 0.5, 0.02))
    p.dot(-side * 0.6, -h * 0.25, 0.06)
    if p.chance(0.4):
        p.arc(-side * 0.55, 0, 0.18, h * 0.75, -60 if side > 0 else 120, 60 if side > 0 else 240)
    if p.chance(0.3):
        p.curve((-side * 0.3, -h * 0.95), (side * 0.0, -h * 1.5), (side * 0.25, -h * 0.8))
    if p.chance(0.2):
        p.curve((-side * 0.15, h * 0.2), (side * 0.15, h * 0.45), (-side * 0.1, h * 0.5))
    if p.chance(0.5):
        p.arc(-side * 0.85, 0.05, 0.16, 0.1, 20, 160)
    for _ in range(p.n(1, 4) if p.chance(0.3) else 0):  # scales
        p.arc(p.u(-0.3, 0.3), p.u(-0.2, 0.2), 0.1, 0.1, -80, 80)


def _spider(p: Pen) -> None:
    r = p.u(0.28, 0.38)
    p.ellipse(0, 0, r, r * p.u(0.85, 1.1))
    two = p.chance(0.55)
    if two:
        p.ellipse(0, -r - 0.16, 0.18)
    for side in (-1, 1):
        for k in range(4):
            angle = radians(-50 + 33 * k + p.u(-6, 6))
            x, y = side * r * 0.9 * cos(angle), r * 0.9 * sin(angle)
            knee = (side * p.u(0.6, 0.75), y * 1.5 - p.u(0.12, 0.3))
            end = (side * p.u(0.85, 1.05), y * 2.4 + p.u(0.05, 0.25))
            if p.chance(0.6):
                p.poly((x, y), knee, end)
            else:
                p.curve((x, y), knee, end)
    y = -r - 0.18 if two else -r * 0.4
    if p.chance(0.6):
        p.dot(-0.07, y, 0.03)
        p.dot(0.07, y, 0.03)
    if p.chance(0.2):
        p.line(0, -r - (0.34 if two else 0), 0, -1.4)


def _butterfly(p: Pen) -> None:
    top, low = p.u(0.8, 1.0), p.u(0.55, 0.75)
    for side in (-1, 1):
        upper = [
            (side * 0.07, -0.1), (side * top * 0.5, -0.85), (side * top, -0.7), (side * top * 0.75, -0.1),
            (side * 0.08, 0.05),
        ]
        lower = [
            (side * 0.08, 0.05), (side * low * 0.9, 0.2), (side * low, 0.65), (side * low * 0.4, 0.75),
            (side * 0.07, 0.3),
        ]
        if p.chance(0.5):
            p.curve(*upper, *lower[1:])
        else:
            p.curve(*upper)
            p.curve(*lower)
        if p.chance(0.2):
            p.ellipse(side * top * 0.6, -0.45, 0.13)
        if p.chance(0.12):
            p.ellipse(side * low * 0.6, 0.4, 0.1)
    if p.chance(0.7):
        p.ellipse(0, 0.05, 0.08, 0.5)
    else:
        p.line(0, -0.45, 0, 0.55)
    if p.chance(0.75):
        for side in (-1, 1):
            p.curve((side * 0.02, -0.45), (side * 0.12, -0.7), (side * 0.28, -0.85))


def _face(p: Pen) -> None:
    w = p.u(0.7, 0.9)
    p.ellipse(0, 0, w, 0.95)
    for side in (-1, 1):
        x, y = side * w * 0.4, -0.25
        if p.chance(0.6):
            p.ellipse(x, y, 0.14, 0.09)
            if p.chance(0.4):
                p.dot(x, y, 0.04)
        else:
            p.dot(x, y, 0.07)
        if p.chance(0.2):
            p.arc(x, y - 0.1, 0.18, 0.1, 200, 340)
    way = p.n(0, 2)
    if way == 0:
        p.poly((0.02, -0.1), (-0.1, 0.2), (0.08, 0.2))
    elif way == 1:
        p.curve((-0.08, 0.12), (0, 0.22), (0.1, 0.12))
    if p.chance(0.75):
        p.arc(0, 0.3, w * 0.5, p.u(0.15, 0.3), 15, 165)
    else:
        p.ellipse(0, 0.5, w * 0.35, 0.1)
    if p.chance(0.3):
        for side in (-1, 1):
            p.arc(side * w, 0, 0.13, 0.2, -90 if side > 0 else 90, 90 if side > 0 else 270)
    if p.chance(0.35):  # hair
        if p.chance(0.5):
            for k in range(p.n(3, 7)):
                x = -0.5 + 0.17 * k
                p.line(x, -0.85 + 0.25 * x * x, x + p.u(-0.1, 0.1), -1.15)
        else:
            p.curve((-w, -0.2), (-w * 0.9, -0.8), (0, -1.2), (w * 0.9, -0.8), (w, -0.2))


def _flower(p: Pen) -> None:
    y, r = -0.35, p.u(0.14, 0.22)
    p.ellipse(0, y, r)
    n, out = p.n(5, 8), p.u(0.3, 0.45)
    if p.chance(0.7):  # petals as loops in one line
        t = np.linspace(0, 2 * pi, 22 * n)
        radius = r + out * np.abs(np.sin(n * t / 2)) ** 0.6
        p.add(np.stack((radius * np.cos(t), y + radius * np.sin(t)), 1))
    else:
        begin = p.u(0, pi)
        for i in range(n):
            a = begin + 2 * pi * i / n
            p.ellipse(
                (r + out / 2) * cos(a), y + (r + out / 2) * sin(a), out / 2, min(out * 0.45, 1.6 / n), a
            )
    bend = p.u(-0.15, 0.15)
    p.curve((0, y + r + out * 0.9), (bend, 0.6), (bend * 0.5, 1.0))
    for side in (-1, 1):
        if p.chance(0.4):
            p.curve(
                (bend, 0.75), (bend + side * 0.25, 0.45), (bend + side * 0.5, 0.4),
                (bend + side * 0.35, 0.65), (bend, 0.78),
            )


def _tree(p: Pen) -> None:
    if p.chance(0.3):  # a fir
        layers = p.n(2, 4)
        left: list[Point] = [(0.0, -1.0)]
        for k in range(1, layers + 1):
            y, w = -1 + 1.45 * k / layers, 0.2 + 0.5 * k / layers
            left += [(-w, y), (-w * 0.45, y)] if k < layers else [(-w, y)]
        p.poly(*left, *[(-x, y) for x, y in left[::-1]])
        p.poly((-0.12, 0.45), (-0.12, 0.95), (0.12, 0.95), (0.12, 0.45))
        return
    w, bumps = p.u(0.6, 0.8), p.n(6, 10)
    t = np.linspace(0, 2 * pi, 16 * bumps)
    radius = 1 + p.u(0.1, 0.22) * np.abs(np.sin(bumps * t / 2 + 0.3))
    crown = np.stack((w * radius * np.cos(t + pi / 2), -0.4 + 0.55 * radius * np.sin(t + pi / 2)), 1)
    p.add(crown)
    a = p.u(0.1, 0.18)
    p.curve((-a, 0.2), (-a * 0.9, 0.6), (-a * 1.5, 1.0))
    p.curve((a, 0.2), (a * 0.9, 0.6), (a * 1.5, 1.0))
    if p.chance(0.4):
        p.line(-a * 1.6, 1.0, a * 1.6, 1.0)
    for _ in range(p.n(0, 3)):
        x, y = p.u(-0.4, 0.4), p.u(-0.7, -0.1)
        p.ellipse(x, y, 0.07) if p.chance(0.5) else p.arc(x, y, 0.12, 0.1, 20, 170)
    if p.chance(0.3):
        p.line(0, 0.25, -0.2, 0.0)
        p.line(0, 0.3, 0.2, 0.05)


def _apple(p: Pen) -> None:
    w = p.u(0.75, 0.9)
    right: list[Point] = [(0.0, -0.45), (0.35, -0.62), (w, -0.3), (w * 0.85, 0.4), (0.35, 0.9), (0.0, 0.8)]
    left = p.mirror(*right)[::-1]
    if p.chance(0.75):
        p.curve(*right, *left[1:])
    else:
        p.curve(*right)
        p.curve(*left)
    p.curve((0, -0.48), (0.03, -0.7), (p.u(-0.1, 0.2), -0.95))
    if p.chance(0.75):
        p.curve((0.05, -0.65), (0.25, -0.95), (0.55, -0.95), (0.35, -0.7), (0.05, -0.63))
        if p.chance(0.3):
            p.line(0.08, -0.66, 0.45, -0.88)
    if p.chance(0.3):
        p.arc(-w * 0.45, -0.05, 0.2, 0.3, 170, 250)
    if p.chance(0.1):
        p.arc(w, 0.0, 0.3, 0.3, 100, 260)


def _mushroom(p: Pen) -> None:
    y = p.u(-0.05, 0.1)
    if p.chance(0.6):
        p.arc(0, y, 0.95, p.u(0.75, 0.95), 180, 360)
        if p.chance(0.6):
            p.line(-0.95, y, 0.95, y)
        else:
            p.curve((-0.95, y), (0, y + 0.14), (0.95, y))
    else:
        p.curve(
            (-0.95, y), (-0.7, y - 0.65), (0, y - 0.9), (0.7, y - 0.65), (0.95, y), (0, y + 0.1), closed=True
        )
    a = p.u(0.2, 0.3)
    if p.chance(0.7):
        p.curve(
            (-a, y + 0.05), (-a * 0.9, 0.5), (-a * 1.3, 0.9), (0, 0.98), (a * 1.3, 0.9), (a * 0.9, 0.5),
            (a, y + 0.05),
        )
    else:
        p.poly((-a, y), (-a, 0.9), (a, 0.9), (a, y))
    for _ in range(p.n(2, 5) if p.chance(0.45) else 0):
        t = p.u(-1, 1)
        p.ellipse(0.6 * t, y - 0.2 - p.u(0, 0.4) * (1 - t * t), p.u(0.07, 0.14))


# fmt: on
LIVING: dict[str, Callable[[Pen], None]] = {
    "cat": _cat,
    "fish": _fish,
    "spider": _spider,
    "butterfly": _butterfly,
    "face": _face,
    "flower": _flower,
    "tree": _tree,
    "apple": _apple,
    "mushroom": _mushroom,
}
