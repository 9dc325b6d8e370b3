"""Layers that the networks share. Pictures and feature maps are NHWC."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

# PyTorch's default for convolutions and linear layers, which the reference keeps: U(-b, b) with
# b = 1 / sqrt(fan_in).
torch_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


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


def conv(features: int, kernel: int, stride: int = 1, use_bias: bool = True, **kwargs) -> nn.Conv:
    """A square convolution with PyTorch's padding (kernel - 1) // 2 and initial weights."""
    pad = (kernel - 1) // 2
    return nn.Conv(
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

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """[B, H, W, C] to [B, H / 2, W / 2, features]."""
        shape = (4, 4, inputs.shape[-1], self.features)
        kernel = self.param("kernel", torch_init, shape)
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


def batch_norm(train: bool, affine: bool, axis_name: str | None, **kwargs) -> nn.BatchNorm:
    """Batch norm over the global batch; in evaluation it uses the running statistics."""
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        use_scale=affine,
        use_bias=affine,
        axis_name=axis_name,
        **kwargs,
    )


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
