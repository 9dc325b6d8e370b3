"""The one-stage generator of semantic-spatial aware convolution blocks (paper, section III-C, D).

A noise vector becomes a 4 x 4 feature map; every further block doubles it. Each block fuses the
sentence into the picture where its mask says so, and predicts the mask of the block above it.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ssagan_jax.models import layers
from ssagan_jax.models.mixed_precision import to_compute_dtype, to_float32
from ssagan_jax.models.resampling import upsample_2x, upsample_mask_2x

MODULATIONS = ("reference", "paper")
UPSAMPLINGS = ("nearest", "bilinear")


def num_blocks(image_size: int) -> int:
    """Blocks that lead from 4 x 4 to image_size: 7 for 256.

    Raises:
      ValueError: image_size is not 4, 8, 16, ...
    """
    blocks = int(math.log2(max(image_size, 4))) - 1
    if 4 * 2 ** (blocks - 1) != image_size:
        raise ValueError(
            f"image_size={image_size}: the blocks double 4 x 4 pixels, so it must be 4 times a "
            f"power of two (64, 128, 256, ...)"
        )
    return blocks


def block_widths(image_size: int, channels: int) -> list[int]:
    """Output channels of every block: 8 times `channels`, falling to 4, 2 and 1 at the end."""
    blocks = num_blocks(image_size)
    return [channels * min(8, 2 ** (blocks - 1 - index)) for index in range(blocks)]


class SemanticSpatialBatchNorm(nn.Module):
    """SSCBN: batch norm, then a text-conditioned affine map weighted by the mask (eq. 3).

    Attributes:
      modulation: "reference": (1 + m gamma) x + m beta, as wtliao/text2image computes it;
        "paper": m (gamma x + beta), as eq. 3 prints it, with gamma starting at 1 (at 0 the block
        would output zero and never receive a gradient).
      axis_name: mapped axis of the global batch, or None.
      dtype: of activations; None: as inputs and parameters are.
    """

    modulation: str = "reference"
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, features: jax.Array, sentence: jax.Array, mask: jax.Array, train: bool
    ) -> jax.Array:
        """Features [B, H, W, C], sentence [B, E], mask [B, H, W, 1] in (0, 1) to [B, H, W, C]."""
        normalized = layers.BatchNorm(train, False, self.axis_name)(features)
        mask = to_compute_dtype(mask, self.dtype)
        gamma = self._affine("gamma", features.shape[-1], sentence)
        beta = self._affine("beta", features.shape[-1], sentence)
        if self.modulation == "paper":
            return mask * ((1 + gamma) * normalized + beta)
        return (1 + mask * gamma) * normalized + mask * beta

    def _affine(self, name: str, features: int, sentence: jax.Array) -> jax.Array:
        dense = functools.partial(nn.Dense, dtype=self.dtype)
        hidden = dense(256, kernel_init=layers.torch_init, name=f"{name}_hidden")(sentence)
        # Zero at the start, so that training begins from an unconditioned block.
        out = dense(features, kernel_init=nn.initializers.zeros, name=f"{name}_out")
        return out(nn.relu(hidden))[:, None, None, :]


class MaskPredictor(nn.Module):
    """Two convolutions from feature maps to the logits of a mask."""

    hidden: int = 100
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        """Features [B, H, W, C] to logits [B, H, W, 1]."""
        hidden = layers.conv(self.hidden, 3, frozen_bias=True, dtype=self.dtype)(features)
        hidden = nn.relu(layers.BatchNorm(train, True, self.axis_name)(hidden))
        return to_float32(layers.conv(1, 1, dtype=self.dtype)(hidden))


class Block(nn.Module):
    """A residual block: SSACN with `mask`, plain (unconditioned batch norm) without.

    The residual branch starts at zero (`residual_gain`), so a new block is its shortcut.

    Attributes:
      features: output channels.
      modulation: see SemanticSpatialBatchNorm.
      feeds_mask: whether a mask is predicted from the output, here or further up; if not, what is
        added to a whole channel of it ends in a batch norm.
      axis_name: mapped axis of the global batch, or None.
      dtype: of activations; None: as inputs and parameters are.
    """

    features: int
    modulation: str = "reference"
    feeds_mask: bool = True
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, inputs: jax.Array, sentence: jax.Array, mask: jax.Array | None, train: bool
    ) -> jax.Array:
        """[B, H, W, C], sentence [B, E] and mask [B, H, W, 1] or None to [B, H, W, features]."""

        def norm(values: jax.Array, index: int) -> jax.Array:
            if mask is None:
                return layers.BatchNorm(train, True, self.axis_name, name=f"norm{index}")(values)
            how = self.modulation, self.axis_name, self.dtype
            sscbn = SemanticSpatialBatchNorm(*how, name=f"sscbn{index}")
            return sscbn(values, sentence, mask, train)

        absorbed = not self.feeds_mask
        conv = functools.partial(layers.conv, self.features, dtype=self.dtype)
        hidden = conv(3, frozen_bias=True)(nn.relu(norm(inputs, 0)))
        hidden = conv(3, frozen_bias=absorbed)(nn.relu(norm(hidden, 1)))
        gain = self.param("residual_gain", nn.initializers.zeros, (1,))
        shortcut = inputs
        if inputs.shape[-1] != self.features:
            shortcut = conv(1, frozen_bias=absorbed, name="shortcut")(inputs)
        return shortcut + to_compute_dtype(gain[0], self.dtype) * hidden


class Generator(nn.Module):
    """Noise and a sentence to a picture and the fusion masks.

    Attributes:
      image_size: height and width of the picture in pixels, 4 times a power of two.
      channels: width of the last block; the first ones are 8 times as wide (the paper: 64).
      ssacn_blocks: how many blocks, counted from the 4 x 4 one, are semantic-spatial aware; those
        above are plain. The reference has all of them, the paper ran 3 for want of memory.
      mask_channels: hidden width of the mask predictors.
      modulation: see SemanticSpatialBatchNorm.
      upsampling: of feature maps, "nearest" (reference) or "bilinear" (paper).
      axis_name: mapped axis of the global batch, or None.
      remat: whether blocks and mask predictors are computed again for their gradient, instead of
        being kept.
      dtype: of activations; None: as inputs and parameters are. Masks and pictures are float32.
    """

    image_size: int = 256
    channels: int = 64
    ssacn_blocks: int = 7
    mask_channels: int = 100
    modulation: str = "reference"
    upsampling: str = "nearest"
    axis_name: str | None = None
    remat: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, noise: jax.Array, sentence: jax.Array, train: bool
    ) -> tuple[jax.Array, list[jax.Array]]:
        """Paints pictures.

        Args:
          noise: f32[B, N], standard normal.
          sentence: f32[B, E], sentence embeddings.
          train: whether batch norm uses, and updates, the statistics of this batch.

        Returns:
          Pictures f32[B, S, S, 3] in (-1, 1), and the masks f32[B, 4, 4, 1], f32[B, 8, 8, 1], ...
          in (0, 1) of the semantic-spatial aware blocks.
        """
        widths = block_widths(self.image_size, self.channels)
        first = nn.Dense(4 * 4 * 8 * self.channels, kernel_init=layers.torch_init, dtype=self.dtype)
        hidden = first(noise)
        hidden = hidden.reshape(-1, 4, 4, 8 * self.channels)
        masks: list[jax.Array] = []
        logits = None
        for index, width in enumerate(widths):
            if index:
                hidden = upsample_2x(hidden, self.upsampling)
            mask = None
            if index < self.ssacn_blocks:
                if index == 0:
                    logits = self._predict_mask(0, hidden, train)
                else:
                    logits = upsample_mask_2x(logits)
                mask = nn.sigmoid(logits)
                masks.append(mask)
            feeds_mask = index + 1 < min(self.ssacn_blocks, len(widths))
            made = nn.remat(Block, static_argnums=4) if self.remat else Block
            how = self.modulation, feeds_mask, self.axis_name, self.dtype
            hidden = made(width, *how, name=f"block{index}")(hidden, sentence, mask, train)
            if feeds_mask:
                logits = self._predict_mask(index + 1, hidden, train)
        hidden = layers.leaky_relu(layers.BatchNorm(train, True, self.axis_name)(hidden))
        to_rgb = layers.conv(3, 3, name="to_rgb", dtype=self.dtype)
        return jnp.tanh(to_float32(to_rgb(hidden))), masks

    def _predict_mask(self, index: int, hidden: jax.Array, train: bool) -> jax.Array:
        made = nn.remat(MaskPredictor, static_argnums=2) if self.remat else MaskPredictor
        predictor = made(self.mask_channels, self.axis_name, self.dtype, name=f"mask{index}")
        return predictor(hidden, train)
