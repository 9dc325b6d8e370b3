"""Downsampling and upsampling of feature maps by a factor of 2."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from ssagan_jax.models.convolutions import conv_stride_1
from ssagan_jax.models.layers import torch_init
from ssagan_jax.models.mixed_precision import to_compute_dtype


class DownsampleConv(nn.Module):
    """A 4 x 4 convolution with stride 2, padding 1 and no bias.

    On CPUs it is computed as `downsample_space_to_depth`: MA-GP needs second derivatives, which
    XLA's CPU code computes many times slower for a strided convolution.
    """

    features: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """[B, H, W, C] to [B, H / 2, W / 2, features]."""
        shape = (4, 4, inputs.shape[-1], self.features)
        kernel = to_compute_dtype(self.param("kernel", torch_init, shape), self.dtype)
        inputs = to_compute_dtype(inputs, self.dtype)
        if jax.default_backend() == "cpu":
            return downsample_space_to_depth(inputs, kernel)
        return downsample_conv(inputs, kernel)


def downsample_conv(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves [B, H, W, C] with a kernel [4, 4, C, F] to [B, H / 2, W / 2, F]."""
    padding = ((1, 1), (1, 1))
    return lax.conv_general_dilated(
        inputs, kernel, (2, 2), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def downsample_space_to_depth(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same as `downsample_conv`, as a 2 x 2 convolution of blocks of 2 x 2 pixels."""
    batch, height, width, channels = inputs.shape
    rows, columns = height // 2 + 1, width // 2 + 1
    padded = jnp.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
    blocks = padded.reshape(batch, rows, 2, columns, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    kernel = kernel.reshape(2, 2, 2, 2, channels, -1).transpose(0, 2, 1, 3, 4, 5)
    blocks = blocks.reshape(batch, rows, columns, 4 * channels)
    return conv_stride_1(blocks, kernel.reshape(2, 2, 4 * channels, -1), 0)


def average_pool_2x2(inputs: jax.Array) -> jax.Array:
    """[B, H, W, C] to [B, H / 2, W / 2, C], the mean of each 2 x 2 block."""
    batch, height, width, channels = inputs.shape
    return inputs.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def upsample_2x(inputs: jax.Array, method: str) -> jax.Array:
    """[B, H, W, C] to [B, 2H, 2W, C].

    Args:
      inputs: feature maps.
      method: "nearest" (the reference) or "bilinear" (the paper's text; half-pixel centers).
    """
    batch, height, width, channels = inputs.shape
    shape = (batch, 2 * height, 2 * width, channels)
    if method == "nearest":
        # Not jax.image.resize, whose gradient is a slow scatter.
        blocks = (batch, height, 2, width, 2, channels)
        return jnp.broadcast_to(inputs[:, :, None, :, None], blocks).reshape(shape)
    # What jax.image.resize calls, which cannot be exported for any number of rows.
    return jax.image.scale_and_translate(
        inputs, shape, (1, 2), jnp.full(2, 2.0), jnp.zeros(2), method
    )


def _align_corners_matrix(size: int) -> jax.Array:
    """Bilinear weights f32[2 * size, size] with aligned first and last samples."""
    position = jnp.linspace(0.0, size - 1.0, 2 * size)
    return jnp.maximum(0.0, 1.0 - jnp.abs(position[:, None] - jnp.arange(size)[None, :]))


def upsample_mask_2x(mask: jax.Array) -> jax.Array:
    """[B, H, W, 1] to [B, 2H, 2W, 1], bilinear with aligned corners, as in the reference."""
    rows = _align_corners_matrix(mask.shape[1]).astype(mask.dtype)
    columns = _align_corners_matrix(mask.shape[2]).astype(mask.dtype)
    return jnp.einsum("yh,bhwc,xw->byxc", rows, mask, columns)
