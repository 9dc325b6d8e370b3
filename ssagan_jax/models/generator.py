"""The one-stage generator of semantic-spatial aware convolution blocks (paper, section III-C, D).

A noise vector becomes a 4 x 4 feature map, whose size each further block doubles. Each block fuses
the sentence into the features where its mask is high, and predicts the mask of the next block.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ssagan_jax.models import convolutions, layers
from ssagan_jax.models.mixed_precision import to_compute_dtype, to_float32
from ssagan_jax.models.position_sums import broadcast_positions
from ssagan_jax.models.resampling import upsample_2x, upsample_mask_2x


def num_blocks(image_size: int) -> int:
    """Number of blocks from 4 x 4 to image_size pixels: 7 for 256.

    Raises:
      ValueError: image_size is not 4 times a power of two.
    """
    blocks = int(math.log2(max(image_size, 4))) - 1
    if 4 * 2 ** (blocks - 1) != image_size:
        raise ValueError(
            f"image_size={image_size}: must be 4 times a power of two (64, 128, 256, ...), since "
            "each block doubles the size, starting from 4 x 4"
        )
    return blocks


def block_widths(image_size: int, channels: int) -> list[int]:
    """Output channels of every block: 8 times `channels`, in the last ones 4, 2 and 1 times."""
    blocks = num_blocks(image_size)
    return [channels * min(8, 2 ** (blocks - 1 - index)) for index in range(blocks)]


class SemanticSpatialBatchNorm(nn.Module):
    """SSCBN: batch norm, then a text-conditioned affine map weighted by the mask (eq. 3).

    Attributes:
      modulation: "reference": (1 + m gamma) x + m beta, as in wtliao/text2image; "paper":
        m (gamma x + beta), as in eq. 3, with gamma initialized to 1 (with 0 the block would output
        zero and its gradient would be zero).
      axis_name: mapped axis of the global batch, or None.
      dtype: of activations; None: promoted from inputs and parameters.
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
        gamma = self._affine("gamma", features.shape, sentence)
        beta = self._affine("beta", features.shape, sentence)
        if self.modulation == "paper":
            return mask * ((1 + gamma) * normalized + beta)
        return (1 + mask * gamma) * normalized + mask * beta

    def _affine(self, name: str, shape: tuple[int, ...], sentence: jax.Array) -> jax.Array:
        dense = functools.partial(nn.Dense, dtype=self.dtype)
        hidden = dense(256, kernel_init=layers.torch_init, name=f"{name}_hidden")(sentence)
        # Zero, so that a block is unconditional at initialization.
        out = dense(shape[-1], kernel_init=nn.initializers.zeros, name=f"{name}_out")
        return broadcast_positions(out(nn.relu(hidden)), shape)


class ConditioningAugmentation(nn.Module):
    """Draws a condition from a Gaussian around the sentence (StackGAN, arXiv:1612.03242, eq. 2).

    Where a sentence leaves something open the variance stays high, so images vary; with a variance
    near zero they follow the sentence. The Gaussian's KL divergence from a standard
    normal one, f32[], the mean over sentences and entries, is sown as "kl" into "losses".

    Attributes:
      initial_log_variance: of the Gaussian, about which it varies with the sentence. Low, so that
        the generator can read sentences from the first step on; the divergence raises it.
    """

    initial_log_variance: float = -4.0

    @nn.compact
    def __call__(self, sentence: jax.Array, noise: jax.Array) -> jax.Array:
        """Sentence [B, E] and standard normal noise f32[B, N] to f32[B, N]."""
        bias = jnp.repeat(jnp.array([0.0, self.initial_log_variance]), noise.shape[-1])
        dense = nn.Dense(bias.size, kernel_init=layers.torch_init, bias_init=lambda *_: bias)
        mean, log_variance = jnp.split(dense(to_float32(sentence)), 2, -1)
        divergence = (mean**2 + jnp.exp(log_variance) - 1 - log_variance) / 2
        self.sow("losses", "kl", divergence.mean())
        return mean + jnp.exp(log_variance / 2) * noise


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

    At initialization the residual branch is scaled by `gain`; with 0, a block is its shortcut.

    Attributes:
      features: output channels.
      modulation: see SemanticSpatialBatchNorm.
      feeds_mask: whether a mask is predicted from the output or from a later block's. If not, only
        batch norms read the output, which cancel the biases of its convolutions.
      gain: initial scale of the residual branch.
      axis_name: mapped axis of the global batch, or None.
      dtype: of activations; None: promoted from inputs and parameters.
    """

    features: int
    modulation: str = "reference"
    feeds_mask: bool = True
    gain: float = 0.0
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
            sscbn = SemanticSpatialBatchNorm(
                self.modulation, self.axis_name, self.dtype, name=f"sscbn{index}"
            )
            return sscbn(values, sentence, mask, train)

        conv = functools.partial(layers.conv, self.features, dtype=self.dtype)
        hidden = conv(3, frozen_bias=True)(nn.relu(norm(inputs, 0)))
        hidden = conv(3, frozen_bias=not self.feeds_mask)(nn.relu(norm(hidden, 1)))
        gain = self.param("residual_gain", nn.initializers.constant(self.gain), (1,))
        shortcut = inputs
        if inputs.shape[-1] != self.features:
            shortcut = conv(
                1,
                frozen_bias=not self.feeds_mask,
                conv_general_dilated=convolutions.pointwise,
                name="shortcut",
            )(inputs)
        return shortcut + to_compute_dtype(gain[0], self.dtype) * hidden


class Generator(nn.Module):
    """Noise and a sentence to an image and the fusion masks.

    Attributes:
      image_size: height and width of the image in pixels, 4 times a power of two.
      channels: output channels of the last block; the first ones have 8 times as many (paper: 64).
      ssacn_blocks: number of semantic-spatial aware blocks, from the 4 x 4 one on; the others are
        plain. The reference uses 7, the paper 3 to save memory.
      mask_channels: hidden channels of the mask predictors.
      modulation: see SemanticSpatialBatchNorm.
      upsampling: of feature maps, "nearest" (reference) or "bilinear" (paper).
      residual_gain: initial scale of the residual branches (reference: 0).
      conditioning_augmentation: whether the blocks see a `ConditioningAugmentation` of the
        sentence instead of the sentence itself (reference).
      axis_name: mapped axis of the global batch, or None.
      remat: whether activations of blocks and mask predictors are recomputed in the backward pass
        (`jax.checkpoint`).
      dtype: of activations; None: promoted from inputs and parameters. Masks and images are
        float32.
    """

    image_size: int = 256
    channels: int = 64
    ssacn_blocks: int = 7
    mask_channels: int = 100
    modulation: str = "reference"
    upsampling: str = "nearest"
    residual_gain: float = 0.0
    conditioning_augmentation: bool = False
    axis_name: str | None = None
    remat: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, noise: jax.Array, sentence: jax.Array, train: bool
    ) -> tuple[jax.Array, list[jax.Array]]:
        """Generates images.

        Args:
          noise: f32[B, N], standard normal.
          sentence: f32[B, E], sentence embeddings.
          train: whether batch norm uses the batch's statistics and updates the running ones.

        Returns:
          Images f32[B, S, S, 3] in (-1, 1), and the masks f32[B, 4, 4, 1], f32[B, 8, 8, 1], ... in
          (0, 1) of the semantic-spatial aware blocks.
        """
        make_block = functools.partial(
            nn.remat(Block, static_argnums=4) if self.remat else Block,
            modulation=self.modulation,
            gain=self.residual_gain,
            axis_name=self.axis_name,
            dtype=self.dtype,
        )
        widths = block_widths(self.image_size, self.channels)
        first = nn.Dense(4 * 4 * 8 * self.channels, kernel_init=layers.torch_init, dtype=self.dtype)
        hidden = first(noise)
        hidden = hidden.reshape(-1, 4, 4, 8 * self.channels)
        if self.conditioning_augmentation:
            sentence = ConditioningAugmentation(name="conditioning")(sentence, noise)
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
            block = make_block(width, feeds_mask=feeds_mask, name=f"block{index}")
            hidden = block(hidden, sentence, mask, train)
            if feeds_mask:
                logits = self._predict_mask(index + 1, hidden, train)
        hidden = layers.leaky_relu(layers.BatchNorm(train, True, self.axis_name)(hidden))
        # Exported models keep one plain convolution.
        fast = convolutions.conv_same if train else None
        to_rgb = layers.conv(3, 3, name="to_rgb", dtype=self.dtype, conv_general_dilated=fast)
        return jnp.tanh(to_float32(to_rgb(hidden))), masks

    def _predict_mask(self, index: int, hidden: jax.Array, train: bool) -> jax.Array:
        predictor_class = nn.remat(MaskPredictor, static_argnums=2) if self.remat else MaskPredictor
        predict = predictor_class(
            self.mask_channels, self.axis_name, self.dtype, name=f"mask{index}"
        )
        return predict(hidden, train)
