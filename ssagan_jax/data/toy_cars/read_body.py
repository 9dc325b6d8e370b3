"""Reads the body type of toy cars from images by their outline, with nothing learned."""

import dataclasses
import functools
import itertools

import numpy as np
from PIL import Image

from ssagan_jax.data.images.resizing import get_load_size
from ssagan_jax.data.toy_cars.builder import cars
from ssagan_jax.data.toy_cars.car import BODIES, FACINGS
from ssagan_jax.data.toy_cars.drawing import draw_car
from ssagan_jax.data.toy_cars.read_color_and_facing import paint_similarity

# Too much around a car is white or black for the outline of such a car to be found.
READABLE_COLORS = ("red", "orange", "yellow", "green", "blue", "purple")
SIZE = 64  # Smallest edge, in pixels, at which outlines differ enough.
_MARGIN = get_load_size(SIZE) - SIZE  # Pixels that a random crop removes.
_ROWS = slice(4, 56)  # Where the car may be.
_PAINT_WIDTH = 30.0  # Units of L*a*b*.


def _drawn(body: str, side: str, color: str) -> np.ndarray:
    """A car of medium length in the middle, before the crop."""
    shape = dict(body=body, facing=side, length=0.66, shift=(0, 0), wheel_scale=1)
    car = dataclasses.replace(cars("validation")[0], color=color, **shape)
    return np.asarray(draw_car(car, SIZE + _MARGIN), np.float32)


@functools.cache
def _outlines() -> tuple[np.ndarray, np.ndarray]:
    """Paintwork of all body types, facings and offsets, f32[N, pixels], and its body types [N]."""
    outlines, bodies = [], []
    for number, body in enumerate(BODIES):
        for side in FACINGS:
            # Images of two cars that differ only in paint differ where the paint is.
            red, blue = (_drawn(body, side, color) for color in ("red", "blue"))
            paint = np.abs(red - blue).max(-1)
            for top, left in itertools.product(range(_MARGIN + 1), repeat=2):
                outlines.append(paint[top : top + SIZE, left : left + SIZE][_ROWS].ravel())
                bodies.append(number)
    return _standardize(np.stack(outlines)), np.array(bodies)


def _standardize(rows: np.ndarray) -> np.ndarray:
    """Rows [N, D] minus their means, scaled to length 1."""
    centred = rows - rows.mean(1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)


def read_body(images: np.ndarray) -> list[str]:
    """Names the body type of each car, one of the eight of BODIES.

    The outline of the paintwork is correlated with those of the eight types as they are drawn,
    facing either side and slightly shifted; the highest correlation decides. White and black cars
    are not read well: see READABLE_COLORS.

    Args:
        images: u8[B, H, H, 3] in 0..255, H >= 64; crops off the centre by up to 8% are fine.

    Raises:
        ValueError: the images have another type or shape.
    """
    if images.shape[1] < SIZE:
        raise ValueError(f"images are {images.shape[1]} pixels wide; must be at least {SIZE}")
    similarity = paint_similarity(images, _PAINT_WIDTH)
    sized = [Image.fromarray(p).resize((SIZE, SIZE), Image.Resampling.BOX) for p in similarity]
    similarity = np.stack([np.asarray(image) for image in sized])
    outlines, bodies = _outlines()
    correlations = _standardize(similarity[:, _ROWS].reshape(len(similarity), -1)) @ outlines.T
    return [BODIES[bodies[best]] for best in correlations.argmax(1)]
