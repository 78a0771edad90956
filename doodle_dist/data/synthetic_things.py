"""How people draw things (see synthetic_shapes)."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi, sin

import numpy as np

from doodle_dist.data.synthetic_pen import Pen, Point

# fmt: off


def _house(p: Pen) -> None:
    w, top, bottom, peak = p.u(0.65, 0.9), p.u(-0.25, 0.0), p.u(0.75, 0.95), p.u(-1.0, -0.75)
    eave = w * p.u(1.0, 1.25)
    way = p.n(0, 2)
    if way == 0:
        p.box(-w, top, w, bottom)
        p.poly((-eave, top), (0, peak), (eave, top))
    elif way == 1:  # the whole outline in one line
        p.poly((-w, top), (-w, bottom), (w, bottom), (w, top), (0, peak), (-w, top))
        if p.chance(0.6):
            p.line(-w, top, w, top)
    else:
        p.poly((-eave, top), (0, peak), (eave, top), closed=True)
        p.poly((-w, top), (-w, bottom), (w, bottom), (w, top))
    door, height = p.u(0.13, 0.2), p.u(0.4, 0.55)
    at = p.u(-0.25, 0.25)
    p.poly(
        (at - door, bottom), (at - door, bottom - height), (at + door, bottom - height), (at + door, bottom)
    )
    if p.chance(0.35):
        p.dot(at + door * 0.5, bottom - height * 0.45, 0.03)
    for side in (-1, 1):
        x, y, s = side * w * 0.62, top + 0.3, 0.14
        if p.chance(0.4) and abs(x - at) > door + s:
            p.box(x - s, y - s, x + s, y + s)
            if p.chance(0.5):
                p.line(x, y - s, x, y + s)
                p.line(x - s, y, x + s, y)
    if p.chance(0.35):
        x = p.u(0.3, 0.5)
        p.poly((x, peak + 0.45), (x, peak + 0.05), (x + 0.18, peak + 0.05), (x + 0.18, peak + 0.6))


def _sun(p: Pen) -> None:
    r = p.u(0.4, 0.55)
    p.ellipse(0, 0, r)
    n = p.n(7, 12)
    if p.chance(0.12):  # spikes in one line
        points: list[Point] = []
        for i in range(2 * n + 1):
            radius = (r * 1.15, 1.0)[i % 2]
            points.append((radius * cos(pi * i / n), radius * sin(pi * i / n)))
        p.poly(*points)
    else:
        p.rays(0, 0, r + p.u(0.05, 0.15), 1.0, n, p.u(0, pi))
    if p.chance(0.12):
        p.dot(-r * 0.35, -r * 0.2, 0.05)
        p.dot(r * 0.35, -r * 0.2, 0.05)
        p.arc(0, r * 0.1, r * 0.5, r * 0.45, 20, 160)


def _car(p: Pen) -> None:
    base, hood, roof = 0.35, p.u(-0.1, 0.05), p.u(-0.6, -0.45)
    a, b = p.u(-0.55, -0.4), p.u(0.2, 0.4)
    wheel = p.u(0.16, 0.24)
    if p.chance(0.6):
        p.poly(
            (-1, base), (-1, hood), (a - 0.2, hood), (a, roof), (b, roof), (b + 0.25, hood),
            (1, hood + 0.05), (1, base),
            closed=True
        )
    else:
        p.box(-1, hood, 1, base)
        p.curve((a - 0.2, hood), (a, roof), (b, roof), (b + 0.25, hood))
    for x in (-0.55, 0.55):
        p.ellipse(x, base, wheel)
        if p.chance(0.25):
            p.ellipse(x, base, wheel * 0.45)
    if p.chance(0.65):
        middle = (a + b) / 2
        p.box(a + 0.02, roof + 0.1, middle - 0.04, hood - 0.02)
        p.box(middle + 0.04, roof + 0.1, b + 0.04, hood - 0.02)
    if p.chance(0.2):
        p.ellipse(0.93, hood + 0.15, 0.06, 0.08)
    if p.chance(0.2):
        p.line((a + b) / 2 - 0.1, hood + 0.1, (a + b) / 2, hood + 0.1)


def _bicycle(p: Pen) -> None:
    r, y = p.u(0.34, 0.42), 0.35
    a, b = -0.6, 0.6
    p.ellipse(a, y, r)
    p.ellipse(b, y, r)
    crank, seat, head = (-0.05, y), (p.u(-0.3, -0.2), -0.3), (p.u(0.32, 0.42), -0.3)
    if p.chance(0.5):
        p.poly((a, y), seat, head, crank, (a, y))
        p.line(*seat, *crank)
    else:
        p.poly((a, y), crank, head)
        p.line(*crank, *seat)
        p.line(*seat, *head)
        p.line(*seat, a, y)
    bar = (head[0] - 0.04, head[1] - 0.22)
    p.poly((b, y), head, bar)
    p.curve(bar, (bar[0] + 0.1, bar[1] - 0.05), (bar[0] + 0.2, bar[1] + 0.05))
    p.line(*seat, seat[0] - 0.03, seat[1] - 0.12)
    p.line(seat[0] - 0.15, seat[1] - 0.12, seat[0] + 0.1, seat[1] - 0.12)
    if p.chance(0.35):
        p.ellipse(*crank, 0.08)
    if p.chance(0.25):
        for x in (a, b):
            p.line(x - r * 0.9, y, x + r * 0.9, y)
            p.line(x, y - r * 0.9, x, y + r * 0.9)


def _snowman(p: Pen) -> None:
    balls = [(-0.62, 0.28), (-0.12, 0.36), (0.55, 0.48)] if p.chance(0.4) else [(-0.45, 0.34), (0.4, 0.55)]
    for y, r in balls:
        p.ellipse(0, y, r * p.u(0.9, 1.1), r)
    y, r = balls[0]
    p.dot(-r * 0.35, y - r * 0.2, 0.035)
    p.dot(r * 0.35, y - r * 0.2, 0.035)
    if p.chance(0.4):
        p.poly((0, y), (r * 0.9, y + 0.06), (0, y + 0.1))
    if p.chance(0.5):
        p.arc(0, y + r * 0.2, r * 0.5, r * 0.4, 20, 160)
    if p.chance(0.4):
        top = y - r * 0.85
        p.line(-r * 1.1, top, r * 1.1, top)
        p.poly((-r * 0.65, top), (-r * 0.6, top - 0.32), (r * 0.6, top - 0.32), (r * 0.65, top))
    y, r = balls[1]
    if p.chance(0.45):
        for side in (-1, 1):
            end = (side * (r + 0.4), y - p.u(0.1, 0.35))
            p.line(side * r * 0.9, y - 0.05, *end)
            if p.chance(0.2):
                p.line(end[0] - side * 0.1, end[1] + 0.06, end[0] + side * 0.05, end[1] + 0.1)
    for k in range(p.n(2, 3) if p.chance(0.35) else 0):
        p.dot(0, y - 0.15 + 0.17 * k, 0.035)


def _ice_cream(p: Pen) -> None:
    w, y = p.u(0.38, 0.5), p.u(-0.1, 0.05)
    if p.chance(0.7):
        p.poly((-w, y), (p.u(-0.05, 0.05), 1.0), (w, y))
        if p.chance(0.7):
            p.line(-w, y, w, y)
    else:
        p.poly((-w, y), (0, 1.0), (w, y), closed=True)
    scoops = p.n(1, 3)
    if scoops == 3:
        for x, top in ((-w * 0.55, y - 0.22), (w * 0.55, y - 0.22), (0, y - 0.62)):
            p.ellipse(x, top, w * 0.62)
    else:
        for k in range(scoops):
            p.arc(0, y - 0.5 * k, w * (1.05 - 0.15 * k), 0.52, 185 - 12 * k, 355 + 12 * k)
    if p.chance(0.45):  # waffle
        for k in range(p.n(2, 3)):
            t = 0.25 + 0.22 * k
            p.line(-w * (1 - t), y + (1 - y) * t, w * (1 - t) * 0.55, y + 0.04)
            p.line(w * (1 - t), y + (1 - y) * t, -w * (1 - t) * 0.55, y + 0.04)
    for _ in range(p.n(1, 4) if p.chance(0.35) else 0):
        x, top = p.u(-0.25, 0.25), y - p.u(0.12, 0.4)
        p.line(x, top, x + p.u(-0.08, 0.08), top + p.u(-0.08, 0.08))
    if p.chance(0.2):
        p.ellipse(0, y - 0.6 - 0.4 * (scoops > 1), 0.1)


def _umbrella(p: Pen) -> None:
    y, n = p.u(-0.1, 0.05), p.n(3, 5)
    p.arc(0, y, 1.0, p.u(0.7, 0.9), 180, 360)
    if p.chance(0.75):  # scallops
        points: list[Point] = []
        for k in range(n):
            for t in np.linspace(0, pi, 7)[(k > 0) :]:
                points.append((-1 + 2 / n * (k + 0.5 - 0.5 * cos(t)), y - 0.14 * sin(t)))
        p.add(points)
    else:
        p.line(-1, y, 1, y)
    if p.chance(0.55):
        for k in range(1, n):
            x = -1 + 2 * k / n
            p.curve((0, y - 0.78), (x * 0.7, y - 0.5), (x, y))
    hook = p.u(0.12, 0.2)
    t = np.linspace(0, pi, 9)
    handle = [(0.0, y + 0.75 * k / 8) for k in range(9)]
    p.add(handle + [(-hook + hook * cos(a), y + 0.75 + hook * sin(a)) for a in t])
    if p.chance(0.3):
        p.line(0, y - 0.8, 0, y - 0.98)


def _star(p: Pen) -> None:
    turn = p.u(-0.15, 0.15)
    if p.chance(0.45):  # in one go, lines crossing
        corner = [(sin(turn + 4 * pi * k / 5), -cos(turn + 4 * pi * k / 5)) for k in range(5)]
        k = p.n(0, 4)
        corner = corner[k:] + corner[:k]
        p.poly(*corner, closed=True)
    else:
        inner = p.u(0.36, 0.48)
        points: list[Point] = []
        for k in range(10):
            radius, a = (1.0, inner)[k % 2], turn + pi * k / 5
            points.append((radius * sin(a), -radius * cos(a)))
        k = 2 * p.n(0, 4) + p.n(0, 1)
        points = points[k:] + points[:k]
        p.poly(*(points if p.chance(0.5) else points[::-1]), closed=True)
    if p.chance(0.15):
        p.rays(0, 0, 1.15, 1.35, 5, pi / 10 + 0.31)


def _cake(p: Pen) -> None:
    tiers = p.n(1, 3)
    y = 0.9
    w = p.u(0.8, 1.0)
    h = (0.75, 0.5, 0.4)[tiers - 1]
    for k in range(tiers):
        if k == 0 and p.chance(0.4):
            p.ellipse(0, y - h, w, 0.16)
            p.poly((-w, y - h), (-w, y), (w, y), (w, y - h))
        else:
            p.box(-w, y - h, w, y)
        if p.chance(0.3 if tiers > 1 else 0.6):
            n = p.n(4, 6)
            t = np.linspace(0, n * pi, 7 * n)
            p.add(np.stack((-w + 2 * w * t / (n * pi), y - h * 0.62 + h * 0.22 * np.abs(np.sin(t))), 1))
        y -= h
        w *= p.u(0.6, 0.75)
    w /= 0.7
    n = p.n(1, 5) if p.chance(0.9) else 0
    for k in range(n):
        x = (-w + 2 * w * (k + 0.5) / n) * 0.8
        if p.chance(0.5):
            p.line(x, y, x, y - 0.25)
        else:
            p.poly((x - 0.04, y), (x - 0.04, y - 0.25), (x + 0.04, y - 0.25), (x + 0.04, y))
        if p.chance(0.8):
            p.curve((x, y - 0.27), (x - 0.05, y - 0.36), (x, y - 0.48), (x + 0.05, y - 0.36), (x, y - 0.27))


def _clock(p: Pen) -> None:
    p.ellipse(0, 0, 0.9)
    if p.chance(0.25):
        p.ellipse(0, 0, 0.75)
    hour = p.u(0, 2 * pi)
    minute = p.u(0, 2 * pi)
    if p.chance(0.6):
        p.poly((0.4 * sin(hour), -0.4 * cos(hour)), (0, 0), (0.62 * sin(minute), -0.62 * cos(minute)))
    else:
        p.line(0, 0, 0.4 * sin(hour), -0.4 * cos(hour))
        p.line(0, 0, 0.62 * sin(minute), -0.62 * cos(minute))
    ticks = (0, 0, 4, 4, 4, 12)[p.n(0, 5)]
    for k in range(ticks):
        a = 2 * pi * k / ticks
        p.line(0.72 * sin(a), -0.72 * cos(a), 0.84 * sin(a), -0.84 * cos(a))
    if p.chance(0.3):
        p.dot(0, 0, 0.04)
    if p.chance(0.2) and ticks == 0:  # 12 and 6
        p.line(-0.06, -0.8, -0.06, -0.62)
        p.curve((0.0, -0.78), (0.08, -0.78), (0.0, -0.63), (0.09, -0.63))
        p.curve((0.04, 0.6), (-0.05, 0.7), (0.0, 0.8), (0.06, 0.74), (-0.03, 0.72))


def _sailboat(p: Pen) -> None:
    y, w = p.u(0.4, 0.5), p.u(0.8, 1.0)
    if p.chance(0.6):
        p.poly((-w, y), (-w * 0.65, 0.85), (w * 0.65, 0.85), (w, y), closed=True)
    else:
        p.curve((-w, y), (-w * 0.5, 0.85), (w * 0.5, 0.85), (w, y))
        p.line(-w, y, w, y)
    mast = p.u(-0.1, 0.1)
    p.line(mast, y, mast, -1.0)
    p.poly(
        (mast + 0.04, -0.95), (mast + p.u(0.55, 0.75), y - 0.15), (mast + 0.04, y - 0.15),
        closed=p.chance(0.7)
    )
    if p.chance(0.65):
        p.poly(
            (mast - 0.04, -0.8), (mast - p.u(0.4, 0.6), y - 0.15), (mast - 0.04, y - 0.15),
            closed=p.chance(0.7)
        )
    if p.chance(0.3):
        p.poly((mast, -1.0), (mast + 0.22, -1.08), (mast, -1.16))
    if p.chance(0.45):
        for k in range(p.n(1, 2)):
            t = np.linspace(-1.1, 1.1, 24)
            p.add(np.stack((t, 0.95 + 0.1 * k + 0.05 * np.sin(t * 8)), 1))


def _ladder(p: Pen) -> None:
    a, lean, n = p.u(0.28, 0.4), p.u(-0.25, 0.25), p.n(4, 7)
    if p.chance(0.2):
        p.box(-a, -1, a, 1)
        lean = 0.0
    else:
        p.line(-a - lean, 1, -a + lean, -1)
        p.line(a - lean, 1, a + lean, -1)
    for k in range(n):
        y = -0.85 + 1.7 * k / (n - 1) * p.u(0.97, 1.03)
        x = -lean * y
        p.line(x - a * p.u(0.95, 1.1), y, x + a * p.u(0.95, 1.1), y + p.u(-0.04, 0.04))


def _eyeglasses(p: Pen) -> None:
    w, h = p.u(0.32, 0.4), p.u(0.25, 0.36)
    square = p.chance(0.25)
    for side in (-1, 1):
        if square:
            p.box(side * 0.52 - w, -h, side * 0.52 + w, h)
        else:
            p.ellipse(side * 0.52, 0, w, h)
    gap = 0.52 - w
    p.curve((-gap, -0.03), (0, -0.14), (gap, -0.03))
    way = p.n(0, 2)
    for side in (-1, 1):
        x = side * (0.52 + w)
        if way == 0:
            p.curve((x, -0.05), (x + side * 0.25, -0.1), (x + side * 0.3, 0.15))
        elif way == 1:
            p.poly((x, -0.05), (x + side * 0.1, -0.55), (x + side * 0.02, -0.7))
        else:
            p.line(x, -0.03, x + side * 0.2, -0.1)
    for side in (-1, 1):
        if p.chance(0.35):
            p.line(side * 0.52 - 0.1, 0.1, side * 0.52 + 0.08, -0.1)


def _envelope(p: Pen) -> None:
    w, h = 1.0, p.u(0.55, 0.7)
    p.box(-w, -h, w, h)
    fold = p.u(-0.05, 0.2)
    p.poly((-w, -h), (0, fold), (w, -h))
    if p.chance(0.45):
        p.line(-w, h, -w * 0.25, fold * 0.6)
        p.line(w, h, w * 0.25, fold * 0.6)
    if p.chance(0.15):
        p.ellipse(0, fold, 0.12)


def _airplane(p: Pen) -> None:
    h = p.u(0.13, 0.2)
    p.curve(
        (-0.9, 0), (-0.75, -h), (0.0, -h), (0.7, -h), (1.0, 0.0), (0.7, h), (0.0, h), (-0.75, h), closed=True
    )
    sweep = p.u(0.2, 0.45)
    for side in (-1, 1):
        p.poly((0.25, side * h), (-sweep, side * 0.85), (-sweep - 0.22, side * 0.8), (-0.15, side * h))
        p.poly((-0.65, side * h), (-0.95, side * 0.42), (-1.05, side * 0.38), (-0.85, side * h * 0.6))
    for k in range(p.n(2, 5) if p.chance(0.35) else 0):
        p.ellipse(0.55 - 0.2 * k, 0, 0.045)
    if p.chance(0.4):
        p.curve((0.72, -h * 0.8), (0.82, 0), (0.72, h * 0.8))


def _lightning(p: Pen) -> None:
    d = p.u(-0.08, 0.08)
    points: list[Point] = [
        (0.1, -1.0), (-0.45, 0.05 + d), (-0.05, 0.0), (-0.3, 1.0), (0.45, -0.2 + d), (0.08, -0.15), (0.5, -1.0)
    ]
    if p.chance(0.25):
        points = [
            (-0.2, -1.0), (-0.5, -0.3), (0.0, -0.35), (-0.2, 0.3), (0.2, 0.25), (0.1, 1.0), (0.55, 0.0),
            (0.25, 0.0), (0.5, -0.6), (0.15, -0.55), (0.35, -1.0),
        ]
    k = p.n(0, len(points) - 1)
    points = points[k:] + points[:k]
    p.poly(*(points if p.chance(0.5) else points[::-1]), closed=True)
    if p.chance(0.45):  # from a cloud
        t = np.linspace(0, 2 * pi, 60)
        radius = 1 + 0.2 * np.abs(np.sin(3.5 * t))
        p.add(np.stack((0.2 + 0.85 * radius * np.cos(t), -1.2 + 0.28 * radius * np.sin(t)), 1))
    for _ in range(p.n(0, 3)):
        x = (p.u(0.6, 0.9)) * (1 if p.chance(0.5) else -1)
        y = p.u(-0.6, 0.5)
        p.line(x, y, x - 0.06, y + 0.25)


# fmt: on
THINGS: dict[str, Callable[[Pen], None]] = {
    "house": _house,
    "sun": _sun,
    "car": _car,
    "bicycle": _bicycle,
    "snowman": _snowman,
    "ice cream": _ice_cream,
    "umbrella": _umbrella,
    "star": _star,
    "cake": _cake,
    "clock": _clock,
    "sailboat": _sailboat,
    "ladder": _ladder,
    "eyeglasses": _eyeglasses,
    "envelope": _envelope,
    "airplane": _airplane,
    "lightning": _lightning,
}
