"""A small convolutional image encoder for DAMSM, trained from scratch: for CPUs and toy data.

It has the interface of `inception.InceptionImageEncoder`: images to regions and codes.
"""

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from ssagan_jax.models import layers
from ssagan_jax.models.mixed_precision import to_float32
from ssagan_jax.models.resampling import DownsampleConv


class CnnImageEncoder(nn.Module):
    """Strided convolutions with group norm, which is the same in training and evaluation.

    Attributes:
      embedding_dim: size E of region features and image codes.
      channels: output channels of the first layer, doubled by each further one up to 8 times.
      pooling: of the code, "mean" over positions; or "flatten", whose code can tell where things
        are, and so which way they face and what outline they have.
      dtype: of activations; None: promoted from inputs and parameters. Outputs are float32.
    """

    embedding_dim: int = 256
    channels: int = 32
    pooling: str = "mean"
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Images f32[B, S, S, 3] in [-1, 1] to regions f32[B, R, E] and codes f32[B, E].

        The regions are an 8 x 8 grid for S < 128, else 16 x 16, row by row.
        """
        grid = 16 if images.shape[1] >= 128 else 8
        hidden, depth = images, 0
        while hidden.shape[1] > grid:
            hidden, depth = self._down(hidden, depth), depth + 1
        to_regions = layers.conv(
            self.embedding_dim, 1, use_bias=False, dtype=self.dtype, name="regions"
        )
        regions = to_float32(to_regions(hidden))
        hidden = to_float32(self._down(hidden, depth))
        if self.pooling == "mean":
            hidden = hidden.mean((1, 2))
        else:
            hidden = hidden.reshape(len(hidden), -1)
        code = nn.Dense(self.embedding_dim, kernel_init=layers.torch_init, name="code")(hidden)
        return regions.reshape(regions.shape[0], -1, self.embedding_dim), code

    def _down(self, hidden: jax.Array, depth: int) -> jax.Array:
        width = self.channels * min(8, 2**depth)
        hidden = DownsampleConv(width, self.dtype, name=f"Conv_{depth}")(hidden)
        groups = next(groups for groups in (8, 4, 2, 1) if width % groups == 0)
        # GroupNorm computes its statistics in float32 for any dtype.
        return layers.leaky_relu(nn.GroupNorm(groups, dtype=self.dtype)(hidden))
