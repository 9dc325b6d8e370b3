"""Image grids: one row per caption, drawn as a single picture."""

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_MARGIN = 8


_CAPTION_WIDTH = 220


_HEADS_HEIGHT = 24


_SMALLEST = 128


def mask_to_rgb(mask: np.ndarray) -> np.ndarray:
    """A mask f32[S, S, 1] in [0, 1] as a picture u8[S, S, 3]."""
    return np.repeat(np.round(mask * 255).astype(np.uint8), 3, axis=-1)


def _scale(size: int) -> int:
    """Small pictures are enlarged, so that a person sees them and the caption has room."""
    return max(1, _SMALLEST // size)


def cut(picture: Image.Image, size: int, rows: int, column: int) -> list[np.ndarray]:
    """The pictures u8[size, size, 3] of one column of a `sheet` with heads, as they went in."""
    pixels, scale = np.asarray(picture), _scale(size)
    cell = size * scale + _MARGIN
    left = _CAPTION_WIDTH + column * cell
    tops = (_HEADS_HEIGHT + row * cell + _MARGIN // 2 for row in range(rows))
    return [
        pixels[y : y + cell - _MARGIN : scale, left : left + cell - _MARGIN : scale] for y in tops
    ]


def draw_image_grid(
    rows: Sequence[tuple[str, Sequence[np.ndarray]]], heads: Sequence[str]
) -> Image.Image:
    """A picture with one row for each caption: its text, then its pictures.

    Args:
      rows: caption and pictures u8[S, S, 3] of every row; all pictures have one size.
      heads: a word above each column of pictures; empty for none.
    """
    size = rows[0][1][0].shape[0]
    scale = _scale(size)
    cell = size * scale + _MARGIN
    font = ImageFont.load_default(14)
    top = _HEADS_HEIGHT if heads else 0
    columns = max(len(images) for _, images in rows)
    canvas = Image.new(
        "RGB",
        (_CAPTION_WIDTH + columns * cell + _MARGIN, top + len(rows) * cell + _MARGIN),
        "white",
    )
    draw = ImageDraw.Draw(canvas)
    for column, head in enumerate(heads):
        draw.text((_CAPTION_WIDTH + column * cell, 6), head, "black", font)
    for index, (caption, images) in enumerate(rows):
        y = top + index * cell + _MARGIN // 2
        lines = textwrap.wrap(caption, 28)[: max(1, (cell - _MARGIN) // 18)]
        draw.multiline_text((_MARGIN, y), "\n".join(lines), "black", font, spacing=4)
        for column, image in enumerate(images):
            picture = Image.fromarray(image).resize((size * scale,) * 2, Image.Resampling.NEAREST)
            canvas.paste(picture, (_CAPTION_WIDTH + column * cell, y))
    return canvas
