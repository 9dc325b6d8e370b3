"""Random crop and horizontal flip for training, central crop for evaluation."""

import numpy as np


def random_crop(image: np.ndarray, size: int, flip: bool, rng: np.random.Generator) -> np.ndarray:
    """A random crop u8[size, size, 3] of u8[H, W, 3], mirrored with probability 1/2 if `flip`."""
    top = rng.integers(image.shape[0] - size + 1)
    left = rng.integers(image.shape[1] - size + 1)
    image = image[top : top + size, left : left + size]
    return image[:, ::-1] if flip and rng.random() < 0.5 else image


def central_crop(image: np.ndarray, size: int) -> np.ndarray:
    """The central crop u8[size, size, 3] of u8[H, W, 3]."""
    top, left = ((length - size) // 2 for length in image.shape[:2])
    return image[top : top + size, left : left + size]
