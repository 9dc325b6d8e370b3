"""Layers that several networks use. Images and feature maps are NHWC."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ssagan_jax.models.collectives import axis_size, local_shard, mean_across_devices
from ssagan_jax.models.mixed_precision import to_float32
from ssagan_jax.models.position_sums import broadcast_positions, sum_positions

# PyTorch's default initialization of convolutions and linear layers, as in the reference: U(-b, b)
# with b = 1 / sqrt(fan_in).
torch_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Dropout(nn.Module):
    """Dropout with a mask drawn for the global batch, independent of the number of devices.

    Attributes:
      rate: probability that an entry is set to zero, in [0, 1).
      axis_name: mapped axis of the global batch, or None.
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
        return jnp.where(local_shard(keep, self.axis_name), inputs / (1 - self.rate), 0)


class Conv(nn.Conv):
    """Flax's convolution, with the option to freeze its bias.

    Attributes:
      frozen_bias: set where a batch norm that follows cancels the bias. The gradient is then only
        rounding error, which Adam would normalize to updates of full size.
    """

    frozen_bias: bool = False

    def param(self, name: str, *args: Any, **kwargs: Any) -> jax.Array:
        """Creates or reads a parameter, without a gradient if it is a frozen bias."""
        value = super().param(name, *args, **kwargs)
        return lax.stop_gradient(value) if self.frozen_bias and name == "bias" else value


def conv(features: int, kernel: int, stride: int = 1, use_bias: bool = True, **kwargs: Any) -> Conv:
    """A square convolution with padding (kernel - 1) // 2 and PyTorch's initialization."""
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


class BatchNorm(nn.Module):
    """Batch norm over the global batch, with PyTorch's running statistics.

    Unlike Flax's it accumulates the unbiased variance, as PyTorch does. It computes in float32 at
    least; outputs have the dtype of the inputs.

    Attributes:
      train: whether to use the batch's statistics and update the running ones, or to use those.
      affine: whether a learned scale and bias follow.
      axis_name: mapped axis of the global batch, or None.
    """

    train: bool
    affine: bool
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Normalizes [B, H, W, C] per channel."""
        shape = inputs.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        if not self.train:
            normalized = normalize(inputs, mean.value, var.value, 1e-5)
        else:
            axis_name = None if self.is_initializing() else self.axis_name
            normalized, (batch_mean, batch_var) = normalize_by_batch(inputs, 1e-5, axis_name)
            if not self.is_initializing():
                mean.value = 0.9 * mean.value + 0.1 * batch_mean
                var.value = 0.9 * var.value + 0.1 * batch_var
        if self.affine:
            scale = self.param("scale", nn.initializers.ones, shape)
            bias = self.param("bias", nn.initializers.zeros, shape)
            scale, bias = (broadcast_positions(each, inputs.shape) for each in (scale, bias))
            normalized = normalized * scale + bias
        return normalized.astype(inputs.dtype)


def minibatch_stddev(inputs: jax.Array, axis_name: str | None) -> jax.Array:
    """Standard deviation of [B, H, W, C] over the global batch, averaged over channels: [H, W, 1].

    In float32 at least, as Progressive GANs' minibatch standard deviation, but for each position.
    """
    values = to_float32(inputs)
    mean = mean_across_devices(values.mean(0, keepdims=True), axis_name)
    variance = mean_across_devices(((values - mean) ** 2).mean(0), axis_name)
    return jnp.sqrt(variance + 1e-8).mean(-1, keepdims=True)


def normalize(inputs: jax.Array, mean: jax.Array, var: jax.Array, epsilon: float) -> jax.Array:
    """Normalizes [B, H, W, C] by means [C] and variances [C], in float32 at least."""
    return (to_float32(inputs) - mean[None, None, None]) * lax.rsqrt(var + epsilon)[
        None, None, None
    ]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def normalize_by_batch(
    inputs: jax.Array, epsilon: float, axis_name: str | None
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Normalizes [B, H, W, C] by the statistics of the global batch.

    Returns:
      The normalized inputs, and the mean and unbiased variance [C] for the running statistics,
      which have no gradient.
    """
    return _normalize_by_batch_fwd(inputs, epsilon, axis_name)[0]


def _mean_over_batch(values: jax.Array, axis_name: str | None) -> jax.Array:
    sums = sum_positions(values)
    return mean_across_devices(sums / (values.size // values.shape[-1]), axis_name)


def _normalize_by_batch_fwd(inputs: jax.Array, epsilon: float, axis_name: str | None) -> Any:
    values = to_float32(inputs)
    mean = _mean_over_batch(values, axis_name)
    var = _mean_over_batch((values - mean[None, None, None]) ** 2, axis_name)
    count = inputs.size // inputs.shape[-1] * axis_size(axis_name)
    normalized = normalize(inputs, mean, var, epsilon)
    residuals = normalized, lax.rsqrt(var + epsilon), inputs[:0]
    return (normalized, (mean, var * count / (count - 1))), residuals


def _normalize_by_batch_bwd(
    epsilon: float, axis_name: str | None, residuals: Any, gradients: Any
) -> tuple[jax.Array]:
    """Two sums, where automatic differentiation of the variance takes three."""
    (normalized, scale, like), (gradient, _) = residuals, gradients
    mean = _mean_over_batch(gradient, axis_name)[None, None, None]
    slope = _mean_over_batch(gradient * normalized, axis_name)[None, None, None]
    centered = gradient - mean - slope * normalized
    return ((scale[None, None, None] * centered).astype(like.dtype),)


normalize_by_batch.defvjp(_normalize_by_batch_fwd, _normalize_by_batch_bwd)


def unit_mean_square(rows: jax.Array) -> jax.Array:
    """Embeddings f32[B, E] scaled to length sqrt(E), a mean square of 1."""
    return rows * lax.rsqrt((rows**2).mean(-1, keepdims=True) + 1e-8)


def leaky_relu(inputs: jax.Array) -> jax.Array:
    """Leaky ReLU with slope 0.2, as in the reference."""
    return nn.leaky_relu(inputs, 0.2)
