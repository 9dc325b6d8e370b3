"""Images for the eye: sample grids with one row for each caption, masks, and animations."""

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_MARGIN = 8
_CAPTION_WIDTH = 220
_TITLE_HEIGHT = 24
# Smaller images are enlarged to at least this edge: for the eye, and to make room for the caption.
_MIN_EDGE = 128


def mask_to_rgb(mask: np.ndarray) -> np.ndarray:
    """A mask f32[S, S, 1] in [0, 1] as an image u8[S, S, 3]."""
    return np.repeat(np.round(mask * 255).astype(np.uint8), 3, axis=-1)


def encode_gif(images: Sequence[Image.Image]) -> bytes:
    """Images as a GIF that loops."""
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=120, loop=0)
    return buffer.getvalue()


def draw_image_grid(
    rows: Sequence[tuple[str, Sequence[np.ndarray]]], column_titles: Sequence[str]
) -> Image.Image:
    """Draws one row for each caption: its text, then its images.

    Args:
      rows: caption and images u8[S, S, 3] of every row; all images have one size.
      column_titles: printed above the columns of images; empty for none.
    """
    size = rows[0][1][0].shape[0]
    edge = size * max(1, _MIN_EDGE // size)
    cell = edge + _MARGIN
    font = ImageFont.load_default(14)
    top = _TITLE_HEIGHT if column_titles else 0
    columns = max(len(images) for _, images in rows)
    width, height = _CAPTION_WIDTH + columns * cell + _MARGIN, top + len(rows) * cell + _MARGIN
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(column_titles):
        draw.text((_CAPTION_WIDTH + column * cell, 6), title, "black", font)
    for index, (caption, images) in enumerate(rows):
        y = top + index * cell + _MARGIN // 2
        lines = textwrap.wrap(caption, 28)[: max(1, edge // 18)]
        draw.multiline_text((_MARGIN, y), "\n".join(lines), "black", font, spacing=4)
        for column, image in enumerate(images):
            enlarged = Image.fromarray(image).resize((edge, edge), Image.Resampling.NEAREST)
            canvas.paste(enlarged, (_CAPTION_WIDTH + column * cell, y))
    return canvas
