"""The one-way discriminator (paper, section III-E; DF-GAN): image and sentence to one logit.

Optionally with the inner product of a projection discriminator (Miyato and Koyama, 2018,
arXiv:1802.05637) and the minibatch standard deviation of Progressive GANs (Karras et al., 2018,
arXiv:1710.10196, section 3).
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ssagan_jax.models import convolutions, layers
from ssagan_jax.models.generator import num_blocks
from ssagan_jax.models.mixed_precision import to_compute_dtype, to_float32
from ssagan_jax.models.resampling import DownsampleConv, average_pool_2x2


class DownBlock(nn.Module):
    """Halves height and width; at initialization the residual branch is scaled by `gain`."""

    features: int
    gain: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """[B, H, W, C] to [B, H / 2, W / 2, features]."""
        conv = functools.partial(layers.conv, self.features, dtype=self.dtype)
        hidden = layers.leaky_relu(DownsampleConv(self.features, self.dtype)(inputs))
        hidden = layers.leaky_relu(conv(3, use_bias=False)(hidden))
        gain = self.param("residual_gain", nn.initializers.constant(self.gain), (1,))
        # The reference convolves, then pools. Both are linear and commute, and pooling first takes
        # a quarter of the operations.
        shortcut = average_pool_2x2(inputs)
        if inputs.shape[-1] != self.features:
            shortcut = conv(1, name="shortcut")(shortcut)
        return shortcut + to_compute_dtype(gain[0], self.dtype) * hidden


class JointConv(nn.Module):
    """A 3 x 3 convolution of features and a sentence, repeated at each position, without bias.

    Of the features and of the sentence each, so that those of one image serve several sentences,
    and a sentence takes one product for each position.
    """

    features: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, features: jax.Array, sentence: jax.Array) -> jax.Array:
        """Features [B, H, W, C], sentences [B * k, E] to [B * k, H, W, features].

        The first k sentences are of the first features.
        """
        height, width, channels = features.shape[1:]
        shape = (3, 3, channels + sentence.shape[-1], self.features)
        kernel = self.param("kernel", layers.torch_init, shape)
        features, sentence, kernel = (
            to_compute_dtype(values, self.dtype) for values in (features, sentence, kernel)
        )
        of_features, of_sentence = jnp.split(kernel, [channels], 2)
        maps = convolutions.conv_same(features, of_features)
        rows, columns = (_taps_inside(side).astype(kernel.dtype) for side in (height, width))
        summed = jnp.einsum("ya,xb,abef->yxef", rows, columns, of_sentence)
        products = jnp.einsum("be,yxef->byxf", sentence, summed)
        return jnp.repeat(maps, len(sentence) // len(features), 0) + products


def _taps_inside(side: int) -> jax.Array:
    """bool[side, 3]: whether each row of a 3 x 3 kernel lies inside at each of `side` rows."""
    positions = jnp.arange(side)[:, None] + jnp.arange(-1, 2)[None]
    return (positions >= 0) & (positions < side)


class Discriminator(nn.Module):
    """One logit: whether an image is real and matches its sentence.

    `features` and `logits` are separate methods, so that one pass over the images serves several
    sentences.

    Attributes:
      image_size: height and width of the images in pixels, 4 times a power of two, at least 8.
      channels: output channels of the first convolution; the last blocks have 16 times as many.
      projection_channels: channels to which the features are reduced for an inner product with the
        sentence that is added to the logit; 0 (reference): none. Where both are only concatenated,
        the logit of an image depends on its sentence through the kinks of one leaky ReLU.
      concat_sentence: whether the sentence is concatenated with the features (reference). If not,
        the logit depends on it by the inner product alone.
      minibatch_stddev: whether the features get one more channel, in all images the same: how much
        the images of the global batch differ at each of the 4 x 4 positions.
      axis_name: mapped axis of the global batch, or None.
      remat: whether activations of blocks are recomputed in the backward pass (`jax.checkpoint`).
      residual_gain: initial scale of the residual branches. With 0 (reference) a new discriminator
        sees images averaged to 4 x 4 pixels.
      dtype: of activations; None: promoted from inputs and parameters. Logits are float32.
    """

    image_size: int = 256
    channels: int = 64
    residual_gain: float = 0.0
    projection_channels: int = 0
    concat_sentence: bool = True
    minibatch_stddev: bool = False
    axis_name: str | None = None
    remat: bool = False
    dtype: DTypeLike | None = None

    def setup(self) -> None:
        """Declares the layers."""
        blocks = num_blocks(self.image_size)
        widths = [self.channels * min(16, 2**index) for index in range(1, blocks)]
        self.from_rgb = layers.conv(
            self.channels, 3, dtype=self.dtype, conv_general_dilated=convolutions.conv_same
        )
        block_class = nn.remat(DownBlock) if self.remat else DownBlock
        self.blocks = [block_class(width, self.residual_gain, self.dtype) for width in widths]
        if self.concat_sentence:
            self.joint = JointConv(2 * self.channels, self.dtype)
        else:
            self.joint = layers.conv(2 * self.channels, 3, use_bias=False, dtype=self.dtype)
        self.to_logit = nn.Conv(
            1, (4, 4), padding="VALID", use_bias=False, kernel_init=layers.torch_init
        )
        if self.projection_channels:
            self.project_features = layers.conv(
                self.projection_channels, 1, use_bias=False, dtype=self.dtype
            )
            self.project_sentence = nn.Dense(
                4 * 4 * self.projection_channels, use_bias=False, kernel_init=layers.torch_init
            )

    def features(self, images: jax.Array) -> jax.Array:
        """Images f32[B, S, S, 3] in [-1, 1] to features f32[B, 4, 4, C]."""
        hidden = self.from_rgb(images)
        for block in self.blocks:
            hidden = block(hidden)
        if self.minibatch_stddev:
            axis_name = None if self.is_initializing() else self.axis_name
            deviation = layers.minibatch_stddev(hidden, axis_name)
            repeated = jnp.broadcast_to(deviation[None], (*hidden.shape[:-1], 1))
            hidden = jnp.concatenate([hidden, to_compute_dtype(repeated, self.dtype)], -1)
        return hidden

    def logits(self, features: jax.Array, sentence: jax.Array) -> jax.Array:
        """Features f32[B, 4, 4, C] and sentences f32[B * k, E] to logits f32[B * k].

        The first k sentences are for the first features.
        """
        joint = self.joint(features, sentence) if self.concat_sentence else self.joint(features)
        logits = self.to_logit(to_float32(layers.leaky_relu(joint)))[:, 0, 0, 0]
        logits = jnp.repeat(logits, len(sentence) // len(logits), 0)
        if self.projection_channels:
            factors = self.project_sentence(to_float32(sentence))
            projected = self._projected(features)
            projected = jnp.repeat(projected, len(factors) // len(projected), 0)
            logits += jnp.sum(projected * factors, -1) / projected.shape[-1] ** 0.5
        return logits

    def cosines(
        self, features: jax.Array, own: jax.Array, others: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Cosines of the inner product's factors, which need `projection_channels`.

        Returns:
          f32[B, K] of features f32[B, 4, 4, C] with their own sentences f32[B, K, E], and f32[B, N]
          with all others f32[N, E].
        """
        images = layers.unit_mean_square(self._projected(features))
        own, others = (
            layers.unit_mean_square(self.project_sentence(to_float32(rows)))
            for rows in (own, others)
        )
        return jnp.mean(images[:, None] * own, -1), images @ others.T / images.shape[-1]

    def _projected(self, features: jax.Array) -> jax.Array:
        """The features' factor of the inner product: f32[B, P]."""
        projected = to_float32(layers.leaky_relu(self.project_features(features)))
        return projected.reshape(len(projected), -1)

    def __call__(self, images: jax.Array, sentence: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Images and sentences to (logits f32[B], features f32[B, 4, 4, C])."""
        features = self.features(images)
        return self.logits(features, sentence), features
