"""One PNG or JPEG file -> the pixels of a dataset's row: cropped to a square, resized, as planes."""

from __future__ import annotations

import io
import math
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Box = tuple[float, float, float, float]  # x, y of the top left corner, width, height; pixels

FORMATS = ("PNG", "JPEG")
MAX_PIXELS = 64_000_000  # a larger one would take half a GB; a small file may claim that


def picture_size(data: bytes) -> tuple[int, int]:
    """(width, height), from the file's header. Raises ValueError as ``decode_picture``."""
    return _open(data).size


def decode_picture(
    data: bytes, side: int, channels: int, *, box: Box | None = None, resize: bool = True
) -> NDArray[np.uint8]:
    """uint8 [channels, side, side] of the file's bytes; 1 channel is ITU-R 601 luma, 3 are RGB.

    The largest centred square of the picture is resized, or the square about ``box``. Resampling is bicubic
    with antialiasing, in Pillow as Parmar, Zhang & Zhu (2022, "On Aliased Resizing", figure 3) recommend; a
    square of the right size stays as it is. Transparent parts are shown on white; of 16-bit greys the upper
    eight count. A camera's orientation is applied, except where a box counts in stored pixels. Without
    ``resize``, ValueError for any other size than side × side. Raises ValueError with a short reason for what
    is no whole PNG or JPEG, or has more than 64 million pixels.
    """
    image = load_picture(data, upright=box is None).convert("L" if channels == 1 else "RGB")
    if not resize and image.size != (side, side):
        width, height = image.size
        raise ValueError(f"{width}×{height} pixels where the first picture has {side}×{side}; --side resizes")
    # Cropped first: resampling from a larger picture would mix in what lies around the square.
    image = image.crop(_square(box, *image.size)).resize((side, side), Image.Resampling.BICUBIC)
    pixels = np.asarray(image, np.uint8).reshape(side, side, channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def load_picture(data: bytes, *, upright: bool = True, ground: str = "white") -> Image.Image:
    """A PNG or JPEG file's picture, eight bits deep, transparent parts on the ``ground``.

    ``upright``: turned as the camera's orientation says. Raises ValueError as ``decode_picture``.
    """
    image = _open(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image.load()
            flat = _flat(ImageOps.exif_transpose(image) if upright else image, ground)
            return flat if flat.mode in ("L", "RGB") else flat.convert("RGB")
        except Exception as error:  # damaged bytes make Pillow's decoders raise whatever comes
            raise ValueError(f"damaged picture ({_short(error)})") from None


def _open(data: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.DecompressionBombError:
            raise ValueError(f"more than {MAX_PIXELS // 1_000_000} million pixels") from None
        except UnidentifiedImageError:
            raise ValueError("not a PNG or JPEG picture") from None
        except Exception as error:  # as above
            raise ValueError(f"damaged picture ({_short(error)})") from None
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"more than {MAX_PIXELS // 1_000_000} million pixels")
    return image


def _flat(image: Image.Image, ground: str) -> Image.Image:
    """Without transparency, and eight bits deep."""
    if image.mode.startswith("I"):  # a 16-bit grey PNG, which convert() would clip at 255
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, ground), image)
    return image


def _square(box: Box | None, width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the square to keep: the largest centred one, or the one about the box.

    The latter is as wide as the box's longer side, centred on it, moved into the picture where it stands out,
    and no larger than the picture's shorter side.
    """
    x, y, w, h = box or (0.0, 0.0, float(width), float(height))
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise ValueError(f"its bounding box lies outside its {width}×{height} pixels")
    size = max(min(round(max(w, h)), width, height), 1)
    left = min(max(math.floor(x + (w - size) / 2), 0), width - size)
    top = min(max(math.floor(y + (h - size) / 2), 0), height - size)
    return left, top, left + size, top + size


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 80 else text[:77] + "..."
