"""Pictures of drawings: grids and contact sheets, as uint8 arrays and PNG files."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

GAP = 2  # pixels around each picture of a grid
_PAPER, _NAME = 255, 0


def to_pixels(images: Tensor) -> NDArray[np.uint8]:
    """float [N, C, H, W] in [-1, 1] -> uint8 [N, C, H, W]."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().byte().cpu().numpy()


def to_device(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """A copy of an array on the device.

    Into a GPU from pinned memory, so that nobody waits for what that has still to do; torch keeps the memory until
    the copy is over.
    """
    held = torch.from_numpy(np.array(array, order="C"))
    return held.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else held.to(device)


def to_images(pixels: NDArray[np.uint8] | Tensor, device: torch.device) -> Tensor:
    """uint8 [N, C, H, W] -> float32 in [-1, 1] on the device: `to_pixels` undone (the copy travels as bytes)."""
    there = pixels.to(device) if isinstance(pixels, Tensor) else to_device(pixels, device)
    return there.float().div_(127.5).sub_(1.0)


def grid(pixels: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """uint8 [N, C, H, W] -> one picture [rows·(H+2)+2, columns·(W+2)+2] or [..., 3], row by row."""
    count, channels, height, width = pixels.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), 96, np.uint8)
    for k, picture in enumerate(pixels):
        top = GAP + (k // columns) * (height + GAP)
        left = GAP + (k % columns) * (width + GAP)
        sheet[top : top + height, left : left + width] = picture.transpose(1, 2, 0)
    return sheet[..., 0] if channels == 1 else sheet


def named_rows(
    rows: Sequence[tuple[str, NDArray[np.uint8]]],
    *,
    scale: int = 2,
    columns: int | None = None,
) -> Image.Image:
    """A contact sheet: each row a name and its pictures uint8 [N, C, H, W], in lines of ``columns`` (None: one).

    White ink on black is shown as black on white, as doodles are drawn; three channels, being photos, as they are.
    """
    font = ImageFont.load_default(size=6 * scale)
    name_width = max(int(font.getlength(name)) for name, _ in rows) + 6 * scale
    strips = []
    for _, pixels in rows:
        shown = 255 - pixels if pixels.shape[1] == 1 else pixels
        strip = grid(shown, max(min(len(pixels), columns or len(pixels)), 1))
        strips.append(np.kron(strip, np.ones((scale, scale) + (1,) * (strip.ndim - 2), np.uint8)))
    width = name_width + max(strip.shape[1] for strip in strips)
    mode = "L" if strips[0].ndim == 2 else "RGB"
    sheet = Image.new(
        mode, (width, sum(strip.shape[0] for strip in strips)), _PAPER if mode == "L" else "white"
    )
    pen, top = ImageDraw.Draw(sheet), 0
    for (name, _), strip in zip(rows, strips, strict=True):
        sheet.paste(Image.fromarray(strip), (name_width, top))
        pen.text((3 * scale, top + strip.shape[0] // 2), name, fill=_NAME, font=font, anchor="lm")
        top += strip.shape[0]
    return sheet


def png(picture: Image.Image | NDArray[np.uint8]) -> bytes:
    """A picture as a PNG file's bytes."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()
