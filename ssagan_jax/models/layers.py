"""Layers that the networks share. Pictures and feature maps are NHWC."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike, DTypeLike

# PyTorch's default for convolutions and linear layers, which the reference keeps: U(-b, b) with
# b = 1 / sqrt(fan_in).
torch_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def narrow(values: jax.Array, dtype: DTypeLike | None) -> jax.Array:
    """Values in the type of activations; None: as they are."""
    return values if dtype is None else values.astype(dtype)


def wide(values: jax.Array) -> jax.Array:
    """Values in float32 at least, for sums of many and for what a loss is made of."""
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def axis_size(axis_name: str | None) -> int:
    """Number of devices on a mapped axis; 1 outside of one."""
    return 1 if axis_name is None else lax.axis_size(axis_name)


def own_rows(global_rows: jax.Array, axis_name: str | None) -> jax.Array:
    """This device's rows [B / devices, ...] of an array [B, ...] that every device holds whole."""
    if axis_name is None:
        return global_rows
    rows = global_rows.shape[0] // lax.axis_size(axis_name)
    return lax.dynamic_slice_in_dim(global_rows, lax.axis_index(axis_name) * rows, rows)


def all_rows(rows: jax.Array, axis_name: str | None) -> jax.Array:
    """The global batch [B, ...] from every device's rows [B / devices, ...]."""
    return rows if axis_name is None else lax.all_gather(rows, axis_name, tiled=True)


class Dropout(nn.Module):
    """Dropout whose mask is drawn for the global batch, so that it does not depend on devices.

    Attributes:
      rate: share of entries set to zero, in [0, 1).
      axis_name: the mapped axis over which the first dimension is split, or None.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, deterministic: bool) -> jax.Array:
        """Inputs [B, ...] with entries dropped and the rest scaled by 1 / (1 - rate)."""
        if deterministic or self.rate == 0:
            return inputs
        rows = inputs.shape[0] * axis_size(self.axis_name)
        keep = jax.random.bernoulli(
            self.make_rng("dropout"), 1 - self.rate, (rows, *inputs.shape[1:])
        )
        return jnp.where(own_rows(keep, self.axis_name), inputs / (1 - self.rate), 0)


class Conv(nn.Conv):
    """flax's convolution, whose bias may be kept as it is.

    Attributes:
      absorbed_bias: whether a batch norm behind it takes the bias out again. Its gradient is then
        zero but for rounding, which Adam would divide by its size and make full steps of.
    """

    absorbed_bias: bool = False

    def param(self, name: str, *args: Any, **kwargs: Any) -> jax.Array:
        """A parameter; see `absorbed_bias`."""
        value = super().param(name, *args, **kwargs)
        return lax.stop_gradient(value) if self.absorbed_bias and name == "bias" else value


def conv(features: int, kernel: int, stride: int = 1, use_bias: bool = True, **kwargs: Any) -> Conv:
    """A square convolution with PyTorch's padding (kernel - 1) // 2 and initial weights."""
    pad = (kernel - 1) // 2
    return Conv(
        features,
        (kernel, kernel),
        (stride, stride),
        padding=((pad, pad), (pad, pad)),
        use_bias=use_bias,
        kernel_init=torch_init,
        **kwargs,
    )


class HalvingConv(nn.Module):
    """A 4 x 4 convolution with stride 2, padding 1 and no bias: half the height and width.

    XLA's CPU code for the second derivative of a strided convolution, which MA-GP needs, is 5 to 8
    times slower than that of a matrix product over gathered pixels; so on CPUs it is one.
    """

    features: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """[B, H, W, C] to [B, H / 2, W / 2, features]."""
        shape = (4, 4, inputs.shape[-1], self.features)
        kernel = narrow(self.param("kernel", torch_init, shape), self.dtype)
        inputs = narrow(inputs, self.dtype)
        if jax.default_backend() == "cpu":
            return halving_product(inputs, kernel)
        return halving_convolution(inputs, kernel)


def halving_convolution(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """[B, H, W, C] and kernel [4, 4, C, F] to [B, H / 2, W / 2, F]."""
    padding = ((1, 1), (1, 1))
    return lax.conv_general_dilated(
        inputs, kernel, (2, 2), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def halving_product(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same as `halving_convolution`, as one matrix product."""
    batch, height, width, channels = inputs.shape
    high, wide = height // 2, width // 2
    padded = jnp.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
    squares = padded.reshape(batch, high + 1, 2, wide + 1, 2, channels)
    squares = squares.transpose(0, 1, 3, 2, 4, 5).reshape(batch, high + 1, wide + 1, 4 * channels)
    windows = [squares[:, y : y + high, x : x + wide] for y in (0, 1) for x in (0, 1)]
    # Rows of the kernel in the windows' order: which square, then which pixel of it.
    rows = kernel.reshape(2, 2, 2, 2, channels, -1).transpose(0, 2, 1, 3, 4, 5)
    return jnp.concatenate(windows, -1) @ rows.reshape(16 * channels, -1)


class BatchNorm(nn.Module):
    """Batch norm over the global batch, with PyTorch's statistics.

    Unlike flax's it keeps the unbiased variance for evaluation, as PyTorch does. Statistics and
    what is computed with them are float32 at least, whatever the inputs are; outputs are as inputs.

    Attributes:
      train: whether it uses, and updates, this batch's statistics instead of the running ones.
      affine: whether a learned scale and bias follow.
      axis_name: mapped axis of the global batch, or None.
    """

    train: bool
    affine: bool
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """[B, H, W, C] to the same, normalized over all but C."""
        shape = inputs.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        if not self.train:
            normalized = normalize(inputs, mean.value, var.value, 1e-5)
        else:
            axis_name = None if self.is_initializing() else self.axis_name
            normalized, found = normalize_by_batch(inputs, 1e-5, axis_name)
            if not self.is_initializing():
                mean.value = 0.9 * mean.value + 0.1 * found[0]
                var.value = 0.9 * var.value + 0.1 * found[1]
        if self.affine:
            scale = self.param("scale", nn.initializers.ones, shape)
            bias = self.param("bias", nn.initializers.zeros, shape)
            normalized = normalized * scale[None, None, None] + bias[None, None, None]
        return normalized.astype(inputs.dtype)


def normalize(inputs: jax.Array, mean: jax.Array, var: jax.Array, epsilon: float) -> jax.Array:
    """Inputs [B, H, W, C] by means [C] and variances [C] of their channels, in float32 at least."""
    return (wide(inputs) - mean[None, None, None]) * lax.rsqrt(var + epsilon)[None, None, None]


def normalize_by_batch(
    inputs: jax.Array, epsilon: float, axis_name: str | None
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Inputs [B, H, W, C] by the statistics of the global batch.

    Returns:
      The normalized inputs, and the mean and unbiased variance [C] that evaluation averages.
    """

    def over_batch(values: jax.Array) -> jax.Array:
        local = wide(values).mean((0, 1, 2))
        return local if axis_name is None else lax.pmean(local, axis_name)

    mean = over_batch(inputs)
    var = over_batch((wide(inputs) - mean[None, None, None]) ** 2)
    count = inputs.size // inputs.shape[-1] * axis_size(axis_name)
    return normalize(inputs, mean, var, epsilon), (mean, var * count / (count - 1))


def leaky_relu(inputs: jax.Array) -> jax.Array:
    """Leaky ReLU with the slope 0.2 of the reference's networks."""
    return nn.leaky_relu(inputs, 0.2)


def average_pool_2x2(inputs: jax.Array) -> jax.Array:
    """[B, H, W, C] to [B, H / 2, W / 2, C] by the mean of each 2 x 2 square."""
    batch, height, width, channels = inputs.shape
    return inputs.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def upsample_2x(inputs: jax.Array, method: str) -> jax.Array:
    """[B, H, W, C] to [B, 2H, 2W, C].

    Args:
      inputs: feature maps.
      method: "nearest" (the reference) or "bilinear" (the paper's text; half-pixel centres).
    """
    batch, height, width, channels = inputs.shape
    shape = (batch, 2 * height, 2 * width, channels)
    if method == "nearest":
        # Not jax.image.resize, whose gradient is a slow scatter.
        squares = (batch, height, 2, width, 2, channels)
        return jnp.broadcast_to(inputs[:, :, None, :, None], squares).reshape(shape)
    return jax.image.resize(inputs, shape, method)


def _align_corners_matrix(size: int) -> jax.Array:
    """Bilinear weights f32[2 * size, size] that map the first and last sample onto themselves."""
    position = jnp.linspace(0.0, size - 1.0, 2 * size)
    return jnp.maximum(0.0, 1.0 - jnp.abs(position[:, None] - jnp.arange(size)[None, :]))


def upsample_mask_2x(mask: jax.Array) -> jax.Array:
    """[B, H, W, 1] to [B, 2H, 2W, 1], bilinear with aligned corners (reference, model.py)."""
    rows = _align_corners_matrix(mask.shape[1]).astype(mask.dtype)
    columns = _align_corners_matrix(mask.shape[2]).astype(mask.dtype)
    return jnp.einsum("yh,bhwc,xw->byxc", rows, mask, columns)


def masked(values: jax.Array, mask: ArrayLike) -> jax.Array:
    """Values [B, T, ...] with zeros where mask [B, T] is False."""
    mask = jnp.asarray(mask)
    return jnp.where(mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim)), values, 0)
