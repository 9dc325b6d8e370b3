"""Reads the body type of toy cars from pictures by their outline, with nothing learned."""

import dataclasses
import functools
import itertools

import numpy as np
from PIL import Image

from ssagan_jax.data.toy_cars.builder import cars
from ssagan_jax.data.toy_cars.drawing import BODIES, FACINGS, draw_car
from ssagan_jax.data.toy_cars.read_color_and_facing import paint_likeness

# White and black are the colours of too much around a car for its outline to be seen.
READABLE_COLORS = ("red", "orange", "yellow", "green", "blue", "purple")
SIZE = 64  # pixels from which on outlines show
_ROOM = 12  # pixels that a crop leaves out of 76
_ROWS = slice(4, 56)  # where the car may stand
_PAINT_WIDTH = 30.0  # units of L*a*b*


def _drawn(body: str, side: str, color: str) -> np.ndarray:
    """A car of middling length in the middle, before the crop."""
    car = dataclasses.replace(
        cars("validation")[0],
        body=body,
        facing=side,
        color=color,
        length=0.66,
        shift=(0, 0),
        wheel_scale=1,
    )
    return np.asarray(draw_car(car, SIZE + _ROOM), np.float32)


@functools.cache
def _outlines() -> tuple[np.ndarray, np.ndarray]:
    """Paintwork of all body types, sides and places, f32[N, pixels], and each one's body type."""
    outlines, bodies = [], []
    for number, body in enumerate(BODIES):
        for side in FACINGS:
            # Two cars that differ in paint alone differ in the picture where the paint is.
            red, blue = (_drawn(body, side, color) for color in ("red", "blue"))
            paint = np.abs(red - blue).max(-1)
            for top, left in itertools.product(range(_ROOM + 1), repeat=2):
                outlines.append(paint[top : top + SIZE, left : left + SIZE][_ROWS].ravel())
                bodies.append(number)
    return _standard(np.stack(outlines)), np.array(bodies)


def _standard(rows: np.ndarray) -> np.ndarray:
    """Rows [N, D] less their means, of length 1."""
    centred = rows - rows.mean(1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)


def read_body(images: np.ndarray) -> list[str]:
    """Names the body type of each car, one of the eight of BODIES.

    The outline of the paintwork is compared with those of the eight types as they are drawn, on
    either side and a little moved; the one that correlates best counts. White and black cars are
    not read well: see READABLE_COLORS.

    Args:
        images: u8[B, H, H, 3] in 0..255, H >= 64; crops off the centre by up to 8% will do.

    Raises:
        ValueError: the pictures have another type or shape.
    """
    if images.shape[1] < SIZE:
        raise ValueError(f"images are {images.shape[1]} pixels wide; outlines show from {SIZE} on")
    likeness = paint_likeness(images, _PAINT_WIDTH)
    sized = [Image.fromarray(p).resize((SIZE, SIZE), Image.Resampling.BOX) for p in likeness]
    likeness = np.stack([np.asarray(picture) for picture in sized])
    outlines, bodies = _outlines()
    correlations = _standard(likeness[:, _ROWS].reshape(len(likeness), -1)) @ outlines.T
    return [BODIES[bodies[best]] for best in correlations.argmax(1)]
