"""Random crop and horizontal flip for training, central crop for evaluation."""

from typing import NamedTuple

import numpy as np


class Crop(NamedTuple):
    """Where a crop begins, in pixels, and whether it is mirrored."""

    top: int
    left: int
    mirrored: bool


def draw_crop(shape: tuple[int, ...], size: int, flip: bool, rng: np.random.Generator) -> Crop:
    """A random crop of an image [H, W, ...], mirrored with probability 1/2 if `flip`."""
    top, left = (int(rng.integers(length - size + 1)) for length in shape[:2])
    return Crop(top, left, flip and rng.random() < 0.5)


def apply_crop(image: np.ndarray, size: int, crop: Crop) -> np.ndarray:
    """The crop u8[size, size, 3] of u8[H, W, 3]."""
    image = image[crop.top : crop.top + size, crop.left : crop.left + size]
    return image[:, ::-1] if crop.mirrored else image


def central_crop(image: np.ndarray, size: int) -> np.ndarray:
    """The central crop u8[size, size, 3] of u8[H, W, 3]."""
    top, left = ((length - size) // 2 for length in image.shape[:2])
    return apply_crop(image, size, Crop(top, left, False))
