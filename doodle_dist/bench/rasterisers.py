"""The libraries that people draw Quick, Draw! strokes with, each driven the fast way, by the recipe of Google's own.

A rasteriser takes a drawing, [(x, y), ...] of lists of integers in 0..255, and gives uint8 [28, 28], white ink on
black. cairo and skia draw anti-aliased at 28 pixels, by the recipe. OpenCV and Pillow have no lines of 1.5 pixels:
they draw at the recipe's own size of 304 and shrink the picture, as doodle projects do, which comes nearest; and at 28
pixels with the nearest width that they have, which is faster and further off.
"""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Strokes = Sequence[tuple[list[int], list[int]]]
Rasteriser = Callable[[Strokes], NDArray[np.uint8]]

SIDE, LINE_WIDTH, PADDING = 28, 16, 16
_AROUND = 2 * PADDING + LINE_WIDTH
CANVAS = 256 + _AROUND  # units across the picture
_SCALE = SIDE / CANVAS


@dataclass(frozen=True)
class Library:
    """A way to draw: the module that has to be there, the package that has it, and what makes the rasteriser."""

    name: str
    module: str
    package: str
    make: Callable[[], Rasteriser]

    @property
    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    @property
    def version(self) -> str:
        module = importlib.import_module(self.module)
        return str(getattr(module, "__version__", None) or getattr(module, "version", "?"))


def _shift(strokes: Strokes) -> tuple[float, float]:
    """Units by which a drawing is moved: centred by its maximum, inside the margin."""
    left = (256 - max(max(x) for x, _ in strokes)) / 2
    top = (256 - max(max(y) for _, y in strokes)) / 2
    return left + _AROUND / 2, top + _AROUND / 2


def cairo_raster(
    strokes: Strokes, side: int = SIDE, line_width: float = LINE_WIDTH, padding: float = PADDING
) -> NDArray[np.uint8]:
    """By cairo, byte for byte as Google's bitmaps are. pycairo is driven by plain integers from lists, its fastest."""
    import cairo

    surface = cairo.ImageSurface(cairo.FORMAT_ARGB32, side, side)
    context = cairo.Context(surface)
    context.set_antialias(cairo.ANTIALIAS_BEST)
    context.set_line_cap(cairo.LINE_CAP_ROUND)
    context.set_line_join(cairo.LINE_JOIN_ROUND)
    context.set_line_width(line_width)
    around = 2 * padding + line_width
    context.scale(side / (256 + around), side / (256 + around))
    context.translate(around / 2, around / 2)
    context.set_source_rgb(0, 0, 0)
    context.paint()
    context.set_source_rgb(1, 1, 1)
    left = (256 - max(max(x) for x, _ in strokes)) / 2
    top = (256 - max(max(y) for _, y in strokes)) / 2
    for xs, ys in strokes:
        context.move_to(xs[0] + left, ys[0] + top)
        for x, y in zip(xs, ys, strict=True):
            context.line_to(x + left, y + top)
        context.stroke()
    return np.frombuffer(surface.get_data(), np.uint8).reshape(side, side, 4)[:, :, 0].copy()


def _cairo() -> Rasteriser:
    return cairo_raster


def _cairo_script() -> Rasteriser:
    """As the script that Google gave out has it (quickdraw-dataset, issue 19): points are NumPy's."""
    import cairo

    surface = cairo.ImageSurface(cairo.FORMAT_ARGB32, SIDE, SIDE)
    context = cairo.Context(surface)
    context.set_antialias(cairo.ANTIALIAS_BEST)
    context.set_line_cap(cairo.LINE_CAP_ROUND)
    context.set_line_join(cairo.LINE_JOIN_ROUND)
    context.set_line_width(LINE_WIDTH)
    context.scale(_SCALE, _SCALE)
    context.translate(_AROUND / 2, _AROUND / 2)

    def draw(strokes: Strokes) -> NDArray[np.uint8]:
        arrays = [np.array(stroke) for stroke in strokes]
        context.set_source_rgb(0, 0, 0)
        context.paint()
        offset = ((256 - np.hstack(arrays).max(axis=1)) / 2).reshape(-1, 1)
        context.set_source_rgb(1, 1, 1)
        for xs, ys in (stroke + offset for stroke in arrays):
            context.move_to(xs[0], ys[0])
            for x, y in zip(xs, ys, strict=True):
                context.line_to(x, y)
            context.stroke()
        return np.copy(np.asarray(surface.get_data())[::4]).reshape(SIDE, SIDE)

    return draw


def _skia() -> Rasteriser:
    skia: Any = importlib.import_module("skia")

    paint = skia.Paint(
        AntiAlias=True,
        Color=skia.ColorWHITE,
        Style=skia.Paint.kStroke_Style,
        StrokeWidth=LINE_WIDTH,
        StrokeCap=skia.Paint.kRound_Cap,
        StrokeJoin=skia.Paint.kRound_Join,
    )
    pixels = np.zeros((SIDE, SIDE, 4), np.uint8)
    canvas = skia.Surface(pixels).getCanvas()

    def draw(strokes: Strokes) -> NDArray[np.uint8]:
        canvas.clear(skia.ColorBLACK)
        left, top = _shift(strokes)
        canvas.save()
        canvas.scale(_SCALE, _SCALE)
        canvas.translate(left, top)
        for xs, ys in strokes:
            path = skia.Path()
            path.moveTo(xs[0], ys[0])
            for x, y in zip(xs, ys, strict=True):
                path.lineTo(x, y)
            canvas.drawPath(path, paint)
        canvas.restore()
        return pixels[:, :, 0].copy()

    return draw


def _opencv_shrunk() -> Rasteriser:
    cv2: Any = importlib.import_module("cv2")

    def draw(strokes: Strokes) -> NDArray[np.uint8]:
        shift = np.array(_shift(strokes))
        canvas = np.zeros((CANVAS, CANVAS), np.uint8)
        lines = [np.rint(np.array(stroke).T + shift).astype(np.int32) for stroke in strokes]
        cv2.polylines(canvas, lines, False, 255, LINE_WIDTH, cv2.LINE_8)
        return np.asarray(cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)

    return draw


def _opencv_small() -> Rasteriser:
    cv2: Any = importlib.import_module("cv2")

    bits = 4  # of a pixel's fraction

    def draw(strokes: Strokes) -> NDArray[np.uint8]:
        shift = np.array(_shift(strokes))
        canvas = np.zeros((SIDE, SIDE), np.uint8)
        scale = _SCALE * (1 << bits)
        half = (1 << bits) / 2  # OpenCV's pixels have their centres at whole numbers
        lines = [np.rint((np.array(stroke).T + shift) * scale - half).astype(np.int32) for stroke in strokes]
        cv2.polylines(canvas, lines, False, 255, 1, cv2.LINE_AA, bits)
        return canvas

    return draw


def _pillow_shrunk() -> Rasteriser:
    from PIL import Image, ImageDraw

    def draw(strokes: Strokes) -> NDArray[np.uint8]:
        left, top = _shift(strokes)
        canvas = Image.new("L", (CANVAS, CANVAS))
        pen = ImageDraw.Draw(canvas)
        for xs, ys in strokes:
            line = [(x + left, y + top) for x, y in zip(xs, ys, strict=True)]
            pen.line(line, 255, LINE_WIDTH, "curve")
            for x, y in (line[0], line[-1]):
                pen.ellipse((x - PADDING / 2, y - PADDING / 2, x + PADDING / 2, y + PADDING / 2), 255)
        return np.asarray(canvas.resize((SIDE, SIDE), Image.Resampling.BOX))

    return draw


def _pillow_small() -> Rasteriser:
    from PIL import Image, ImageDraw

    def draw(strokes: Strokes) -> NDArray[np.uint8]:
        left, top = _shift(strokes)
        canvas = Image.new("L", (SIDE, SIDE))
        pen = ImageDraw.Draw(canvas)
        for xs, ys in strokes:
            pen.line([((x + left) * _SCALE, (y + top) * _SCALE) for x, y in zip(xs, ys, strict=True)], 255, 1)
        return np.asarray(canvas)

    return draw


LIBRARIES = (
    Library("cairo, Google's script", "cairo", "pycairo", _cairo_script),
    Library("cairo, plain integers", "cairo", "pycairo", _cairo),
    Library("skia", "skia", "skia-python", _skia),
    Library("OpenCV, shrunk from 304", "cv2", "opencv-python-headless", _opencv_shrunk),
    Library("OpenCV, at 28", "cv2", "opencv-python-headless", _opencv_small),
    Library("Pillow, shrunk from 304", "PIL", "pillow", _pillow_shrunk),
    Library("Pillow, at 28", "PIL", "pillow", _pillow_small),
)
