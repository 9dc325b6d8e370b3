"""Differentiable augmentation of what a discriminator sees.

DiffAugment (Zhao et al. 2020, arXiv:2006.10738), with the strengths of its code: random brightness,
saturation and contrast ("color"), shifts by up to an eighth of the image ("translation"), and a
gray square of half its size ("cutout").
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ssagan_jax.models.collectives import axis_size, local_shard


class Transforms(NamedTuple):
    """A transform for each of b images; None stands for a policy that is off.

    Attributes:
      color: f32[b, 3] in [0, 1): strength of brightness, saturation and contrast.
      translation: i32[b, 2]: rows and columns by which the image moves up and left, plus the
        largest shift.
      cutout: i32[b, 2]: row and column of the gray square's center.
    """

    color: jax.Array | None
    translation: jax.Array | None
    cutout: jax.Array | None


def _largest_shift(size: int) -> int:
    return int(size / 8 + 0.5)


def _square(size: int) -> int:
    return int(size / 2 + 0.5)


def draw_transforms(
    key: jax.Array, policy: str, rows: int, size: int, axis_name: str | None
) -> Transforms:
    """This device's rows of random transforms, drawn for the global batch.

    Args:
      key: random key, equal on all devices.
      policy: some of color, translation and cutout, separated by commas.
      rows: b, images on this device.
      size: height and width of the images.
      axis_name: mapped axis over which the global batch is split, or None.
    """
    names, total = policy.split(","), rows * axis_size(axis_name)
    color_key, translation_key, cutout_key = jax.random.split(key, 3)
    shifts, centers = 2 * _largest_shift(size) + 1, size + 1 - _square(size) % 2
    draws = {
        "color": jax.random.uniform(color_key, (total, 3), jnp.float32),
        "translation": jax.random.randint(translation_key, (total, 2), 0, shifts, jnp.int32),
        "cutout": jax.random.randint(cutout_key, (total, 2), 0, centers, jnp.int32),
    }
    return Transforms(
        **{
            name: local_shard(values, axis_name) if name in names else None
            for name, values in draws.items()
        }
    )


def apply_transforms(images: jax.Array, transforms: Transforms | None) -> jax.Array:
    """Transforms images f32[b, S, S, 3] in [-1, 1]; what moves in from outside is 0, gray.

    Color may leave [-1, 1]. Without transforms the images are returned as they are.
    """
    if transforms is None:
        return images
    if transforms.color is not None:
        images = _change_color(images, transforms.color)
    if transforms.translation is not None:
        images = _translate(images, transforms.translation)
    if transforms.cutout is not None:
        images = _cut_out(images, transforms.cutout)
    return images


def _change_color(images: jax.Array, color: jax.Array) -> jax.Array:
    brightness, saturation, contrast = (color[:, i, None, None, None] for i in range(3))
    images = images + (brightness - 0.5)
    gray = images.mean(-1, keepdims=True)
    images = (images - gray) * (2 * saturation) + gray
    mean = images.mean((1, 2, 3), keepdims=True)
    return (images - mean) * (contrast + 0.5) + mean


def _translate(images: jax.Array, offsets: jax.Array) -> jax.Array:
    pad = _largest_shift(images.shape[1])
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))

    def window(image: jax.Array, offset: jax.Array) -> jax.Array:
        return lax.dynamic_slice(image, (offset[0], offset[1], 0), images.shape[1:])

    return jax.vmap(window)(padded, offsets)


def _cut_out(images: jax.Array, centers: jax.Array) -> jax.Array:
    size = images.shape[1]
    square, positions = _square(size), jnp.arange(size)[None, None]
    first = centers[:, :, None] - square // 2
    inside = (first <= positions) & (positions < first + square)
    kept = ~(inside[:, 0, :, None] & inside[:, 1, None, :])
    return images * kept[..., None]
