"""All images of a split as one array, to be kept on the devices."""

import grain
import jax
import numpy as np

from ssagan_jax.data.memory_mapped_cache import READ_OPTIONS
from ssagan_jax.data.pipeline import CaptionedImages

_ACCELERATOR_MB = 2048


def load_device_images(images: CaptionedImages, limit_mb: int) -> np.ndarray | None:
    """The images u8[N, H, W, 3], smaller ones padded with zeros below and on the right.

    Args:
      images: decoded for it, all of them.
      limit_mb: largest size of the array in MiB; -1: 2048 on accelerators, 0 on CPUs.

    Returns:
      The array; None if it would be larger.
    """
    if limit_mb < 0:
        limit_mb = 0 if jax.default_backend() == "cpu" else _ACCELERATOR_MB
    limit = limit_mb * 2**20
    if not limit or images.decoded_size() > limit:
        return None
    records = grain.MapDataset.source(images).to_iter_dataset(READ_OPTIONS)
    pixels = [record["image"] for record in records]
    height, width = (max(image.shape[axis] for image in pixels) for axis in (0, 1))
    if 3 * len(pixels) * height * width > limit:
        return None
    stacked = np.zeros((len(pixels), height, width, 3), np.uint8)
    for padded, image in zip(stacked, pixels, strict=True):
        padded[: image.shape[0], : image.shape[1]] = image
    return stacked
