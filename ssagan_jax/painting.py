"""Captions to pictures with trained networks, and sheets that show them."""

import textwrap
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from PIL import Image, ImageDraw, ImageFont

from ssagan_jax.training.state import Networks, TrainState, painting_variables

_MARGIN = 8
_CAPTION_WIDTH = 220
_HEADS_HEIGHT = 24
_SMALLEST = 128


def to_pixels(images: jax.Array) -> jax.Array:
    """A generator's pictures f32 in [-1, 1] as u8 in 0..255."""
    return jnp.round((images + 1) * 127.5).astype(jnp.uint8)


class Painter:
    """The text encoder and the generator in evaluation, compiled once for each batch size."""

    def __init__(self, networks: Networks) -> None:
        """Takes networks built without an axis name."""

        def paint(
            text: Any, variables: Any, tokens: jax.Array, mask: jax.Array, noise: jax.Array
        ) -> tuple[jax.Array, list[jax.Array]]:
            _, sentence = networks.text_encoder.apply({"params": text}, tokens, mask, False)
            images, masks = networks.generator.apply(variables, noise, sentence, False)
            size = images.shape[1:3]
            shown = [
                jnp.repeat(jnp.repeat(m, size[0] // m.shape[1], 1), size[1] // m.shape[2], 2)
                for m in masks
            ]
            return to_pixels(images), shown

        self._paint = jax.jit(paint)

    def __call__(
        self, state: TrainState, tokens: np.ndarray, mask: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Paints captions.

        Args:
          state: trained; averaged generator weights are used where it has them.
          tokens: i32[B, T].
          mask: bool[B, T], True on words.
          noise: f32[B, N], standard normal.

        Returns:
          Pictures u8[B, S, S, 3] and the fusion masks f32[B, S, S, 1] in (0, 1), coarse to fine.
        """
        variables = painting_variables(state)
        pixels, masks = self._paint(state.encoders["text"], variables, tokens, mask, noise)
        return np.asarray(pixels), [np.asarray(m) for m in masks]


def grey(mask: np.ndarray) -> np.ndarray:
    """A mask f32[S, S, 1] in [0, 1] as a picture u8[S, S, 3]."""
    return np.repeat(np.round(mask * 255).astype(np.uint8), 3, axis=-1)


def sheet_noise(config: ConfigDict, rows: int) -> np.ndarray:
    """f32[rows, N]: the noise of all sheets that a run writes while it trains."""
    noise = jax.random.normal(jax.random.key(config.seed), (rows, config.generator.noise_dim))
    return np.asarray(noise)


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


def sheet(rows: Sequence[tuple[str, Sequence[np.ndarray]]], heads: Sequence[str]) -> Image.Image:
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
