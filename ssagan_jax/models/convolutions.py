"""Convolutions with stride 1 in the forms that XLA's CPU code computes fast, with derivatives.

They replace `jax.lax.conv_general_dilated` in Flax's layers; on other devices they are the same.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# With at most so many channels on one side, a product of matrices is 2 to 5 times as fast.
_FEW_CHANNELS = 4


def pointwise(inputs: jax.Array, kernel: jax.Array, *_: Any, **__: Any) -> jax.Array:
    """A 1 x 1 convolution, whose gradient is faster as that of a matrix product."""
    features = inputs.reshape(-1, inputs.shape[-1]) @ kernel[0, 0]
    return features.reshape(*inputs.shape[:-1], -1)


def conv_same(inputs: jax.Array, kernel: jax.Array, *_: Any, **__: Any) -> jax.Array:
    """Convolves [B, H, W, C] with a kernel [K, K, C, F], K odd, to [B, H, W, F]."""
    padding = kernel.shape[0] // 2
    convolve = conv_stride_1 if jax.default_backend() == "cpu" else _lax_conv
    return convolve(inputs, kernel, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv_stride_1(inputs: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    """Convolves [B, H, W, C], with zeros around it, with a kernel [K, K, C, F].

    Its derivatives of all orders are convolutions without strides and without positions that are
    cut off; XLA's own second derivative of a strided one takes up to 20 times as long.
    """
    size, channels, features = kernel.shape[0], *kernel.shape[2:]
    if min(channels, features) > _FEW_CHANNELS:
        return _lax_conv(inputs, kernel, padding)
    height, width = (side + 2 * padding - size + 1 for side in inputs.shape[1:3])
    offsets = [(y, x) for y in range(size) for x in range(size)]

    def shifted(values: jax.Array, y: int, x: int) -> jax.Array:
        return values[:, y : y + height, x : x + width]

    def pad(values: jax.Array) -> jax.Array:
        around = ((0, 0), (padding, padding), (padding, padding))
        return jnp.pad(values, around + ((0, 0),) * (values.ndim - 3))

    if channels < features:
        padded = pad(inputs)
        patches = jnp.concatenate([shifted(padded, *offset) for offset in offsets], -1)
        return pointwise(patches, kernel.reshape(1, 1, -1, features))
    products = pointwise(inputs, kernel.transpose(2, 0, 1, 3).reshape(1, 1, channels, -1))
    products = pad(products.reshape(*inputs.shape[:3], size, size, features))
    return sum(shifted(products[:, :, :, y, x], y, x) for y, x in offsets)


def _lax_conv(
    inputs: jax.Array,
    kernel: jax.Array,
    padding: int,
    layout: tuple[str, str, str] = ("NHWC", "HWIO", "NHWC"),
) -> jax.Array:
    around = ((padding, padding), (padding, padding))
    return lax.conv_general_dilated(inputs, kernel, (1, 1), around, dimension_numbers=layout)


def _conv_fwd(inputs: jax.Array, kernel: jax.Array, padding: int) -> tuple[jax.Array, Any]:
    return conv_stride_1(inputs, kernel, padding), (inputs, kernel)


def _conv_bwd(padding: int, residuals: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    inputs, kernel = residuals
    transposed_padding = kernel.shape[0] - 1 - padding
    of_inputs = conv_stride_1(gradient, _transposed(kernel), transposed_padding)
    if (padding, inputs.shape[-1]) <= (transposed_padding, gradient.shape[-1]):
        return of_inputs, _kernel_gradient(inputs, gradient, padding)
    return of_inputs, _transposed(_kernel_gradient(gradient, inputs, transposed_padding))


conv_stride_1.defvjp(_conv_fwd, _conv_bwd)


def _transposed(kernel: jax.Array) -> jax.Array:
    """[K, K, C, F] to the kernel [K, K, F, C] of the transposed convolution."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _kernel_gradient(inputs: jax.Array, gradient: jax.Array, padding: int) -> jax.Array:
    return _lax_conv(inputs, gradient, padding, ("CHWN", "IHWO", "HWNC"))
