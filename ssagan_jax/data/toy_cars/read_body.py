"""Reads the body type of toy cars from images by what shows where, with nothing learned."""

import dataclasses
import functools
import itertools

import numpy as np
from PIL import Image

from ssagan_jax.data.images.resizing import get_load_size
from ssagan_jax.data.toy_cars.backgrounds import BACKGROUNDS
from ssagan_jax.data.toy_cars.builder import cars
from ssagan_jax.data.toy_cars.car import BODIES, FACINGS
from ssagan_jax.data.toy_cars.drawing import GLASS, draw_car
from ssagan_jax.data.toy_cars.read_color_and_facing import (
    read_paint,
    rgb_to_lab,
    squared_distance,
)

# White and black cars cannot be told well enough from their backgrounds and windows.
READABLE_COLORS = ("red", "orange", "yellow", "green", "blue", "purple")
SIZE = 64  # Smallest edge, in pixels, at which bodies differ enough.
_MARGIN = get_load_size(SIZE) - SIZE  # Pixels that a random crop removes.
_ROWS = slice(4, 56)  # Where the car may be.
_BORDER = 6  # Pixels at the left and right edge that are always background.
_PAINT_WIDTH, _GLASS_WIDTH, _BACKGROUND_WIDTH = 35.0, 20.0, 10.0  # Units of L*a*b*.
_COST_OF_OTHERS = 0.4  # Of a pixel that shows wheels, lamps or trim, where paint etc. have 0 to 1.
_DIFFERENCE = 20.0  # Of 255, between what two drawings show where they are not the same.


def _drawn(body: str, side: str, color: str, background: str) -> np.ndarray:
    """A car of medium length in the middle, before the crop."""
    shape = dict(body=body, facing=side, length=0.66, shift=(0, 0), wheel_scale=1, light="day")
    car = dataclasses.replace(cars("validation")[0], color=color, background=background, **shape)
    return np.asarray(draw_car(car, SIZE + _MARGIN), np.float32)


@functools.cache
def _templates() -> np.ndarray:
    """Where each body, facing either side, shows what: f32[bodies * sides, 3, H, H], uncropped.

    The three parts are paint, glass and background; values are shares of a pixel in [0, 1].
    """
    templates = []
    first, last = BACKGROUNDS[0], BACKGROUNDS[-1]
    for body, side in itertools.product(BODIES, FACINGS):
        red = _drawn(body, side, "red", first)
        blue, elsewhere = _drawn(body, side, "blue", first), _drawn(body, side, "red", last)
        # Drawings that differ in paint alone differ where the paint is.
        paint = np.abs(red - blue).max(-1)
        paint /= paint.max()
        background = np.abs(red - elsewhere).max(-1) / _DIFFERENCE
        background = np.minimum(background, 1) * (1 - paint)
        glass = 1 - np.abs(red - GLASS).max(-1) / (3 * _DIFFERENCE)
        glass = np.maximum(glass, 0) * (1 - paint) * (1 - background)
        templates.append(np.stack([paint, glass, background]))
    return np.stack(templates).astype(np.float32)


def _costs(images: np.ndarray) -> np.ndarray:
    """How little each pixel looks like paint, glass and background: f32[B, 3 * pixels] in [0, 1].

    Background is what the same row shows at its left or right edge.
    """
    lab = rgb_to_lab(images)

    def cost(color: np.ndarray, width: float) -> np.ndarray:
        return np.minimum(squared_distance(lab, color) / (2 * width**2), 1)

    paint = cost(read_paint(images)[:, None, None], _PAINT_WIDTH)
    glass = cost(rgb_to_lab(GLASS), _GLASS_WIDTH)
    edges = np.median(lab[:, :, :_BORDER], 2), np.median(lab[:, :, -_BORDER:], 2)
    background = [cost(edge[:, :, None], _BACKGROUND_WIDTH) for edge in edges]
    parts = np.stack([paint, glass, np.minimum(*background)], 1)
    return parts[:, :, _ROWS].reshape(len(lab), -1)


def read_body(images: np.ndarray) -> list[str]:
    """Names the body type of each car, one of the eight of BODIES.

    Drawings of the eight types, facing either side and slightly shifted, say where paint, glass and
    background should be; the one whose parts show the most of that decides. White and black cars
    are not read well: see READABLE_COLORS.

    Args:
        images: u8[B, H, H, 3] in 0..255, H >= 64; crops off the centre by up to 8% are fine.

    Raises:
        ValueError: the images have another type or shape.
    """
    if images.shape[1] < SIZE:
        raise ValueError(f"images are {images.shape[1]} pixels wide; must be at least {SIZE}")
    small = [Image.fromarray(p).resize((SIZE, SIZE), Image.Resampling.BOX) for p in images]
    costs, templates = _costs(np.stack(small)) - _COST_OF_OTHERS, _templates()
    lowest = np.full((len(images), len(templates)), np.inf)
    for top, left in itertools.product(range(_MARGIN + 1), repeat=2):
        crops = templates[:, :, top : top + SIZE, left : left + SIZE][:, :, _ROWS]
        np.minimum(lowest, costs @ crops.reshape(len(templates), -1).T, out=lowest)
    return [BODIES[best // len(FACINGS)] for best in lowest.argmin(1)]
