"""Frozen Inception v3 (Szegedy et al. 2016, arXiv:1512.00567), and DAMSM's image encoder on it.

Modules have the names of torchvision's `inception_v3`, so that its checkpoints, and those of the
FID network, load name by name.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ssagan_jax.models import layers
from ssagan_jax.models.mixed_precision import to_compute_dtype, to_float32

_INPUT_SIZE = 299
_BATCH_NORM_EPSILON = 1e-3
_CLASSES = {"torchvision": 1000, "fid": 1008}

# A branch: its name and its convolutions as (channels, height, width). The blocks' letters are
# those of the paper's figures 5 (A), 6 (C), 7 (E) and 10 (B, D).
_Branches = tuple[tuple[str, tuple[tuple[int, int, int], ...]], ...]
_DOUBLE_3X3 = ("branch3x3dbl", ((64, 1, 1), (96, 3, 3), (96, 3, 3)))
_5X5 = ("branch5x5", ((48, 1, 1), (64, 5, 5)))
_A: _Branches = (("branch1x1", ((64, 1, 1),)), _5X5, _DOUBLE_3X3)
_B: _Branches = (("branch3x3", ((384, 3, 3),)), _DOUBLE_3X3)
_D: _Branches = (
    ("branch3x3", ((192, 1, 1), (320, 3, 3))),
    ("branch7x7x3", ((192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3))),
)
_E: _Branches = (
    ("branch1x1", ((320, 1, 1),)),
    ("branch3x3", ((384, 1, 1),)),
    ("branch3x3dbl", ((448, 1, 1), (384, 3, 3))),
)


def _c(n: int) -> _Branches:
    """The 17 x 17 block, whose factored 7 x 7 convolutions have n channels inside."""
    double = ((n, 1, 1), (n, 7, 1), (n, 1, 7), (n, 7, 1), (192, 1, 7))
    return (
        ("branch1x1", ((192, 1, 1),)),
        ("branch7x7", ((n, 1, 1), (n, 1, 7), (192, 7, 1))),
        ("branch7x7dbl", double),
    )


class InceptionTaps(NamedTuple):
    """Activations that are read from the network.

    Attributes:
      mixed_6e: f32[B, 17, 17, 768], at least 0: the last 17 x 17 block.
      pooled: f32[B, 2048], at least 0: the mean over the last block's 8 x 8 grid.
      logits: f32[B, classes] of the classifier, None unless `logits=True`.
    """

    mixed_6e: jax.Array
    pooled: jax.Array
    logits: jax.Array | None


class _Conv(nn.Module):
    """Convolution without bias, batch norm with a fixed scale and bias, ReLU.

    If "trunk" is mutable, it normalizes by the global batch and updates its running statistics.
    """

    features: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: str = "SAME"
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        shape = (*self.kernel, inputs.shape[-1], self.features)
        # Zeros until weights are loaded: random initialization would compile for minutes.
        kernel = self.variable("trunk", "kernel", jnp.zeros, shape).value
        scale = self.variable("trunk", "scale", jnp.ones, shape[-1:]).value
        bias = self.variable("trunk", "bias", jnp.zeros, shape[-1:]).value
        mean = self.variable("trunk", "mean", jnp.zeros, shape[-1:])
        variance = self.variable("trunk", "variance", jnp.ones, shape[-1:])
        hidden = jax.lax.conv_general_dilated(
            to_compute_dtype(inputs, self.dtype),
            to_compute_dtype(kernel, self.dtype),
            (self.stride, self.stride),
            self.padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        if self.is_mutable_collection("trunk") and not self.is_initializing():
            hidden, (batch_mean, batch_variance) = layers.normalize_by_batch(
                hidden, _BATCH_NORM_EPSILON, self.axis_name
            )
            mean.value = 0.9 * mean.value + 0.1 * batch_mean
            variance.value = 0.9 * variance.value + 0.1 * batch_variance
        else:
            hidden = layers.normalize(hidden, mean.value, variance.value, _BATCH_NORM_EPSILON)
        hidden = hidden * scale[None, None, None] + bias[None, None, None]
        return nn.relu(to_compute_dtype(hidden, self.dtype))


class _Block(nn.Module):
    """Branches over one input, concatenated: torchvision's "Mixed" modules.

    Attributes:
      branches: the convolutions.
      pool_features: channels of the branch with a 3 x 3 pool and a projection; 0 for a block that
        halves the grid, where branches end in stride 2 and a max pool is added.
      pool: "average", "average_inside" (padding is not counted) or "max".
      split: whether the 3 x 3 branches end in parallel 1 x 3 and 3 x 1 convolutions.
    """

    branches: _Branches
    pool_features: int
    pool: str = "average"
    split: bool = False
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        outputs = [out for name, steps in self.branches for out in self._run(inputs, name, steps)]
        if not self.pool_features:
            pooled = nn.max_pool(inputs, (3, 3), (2, 2))
        elif self.pool == "max":
            pooled = nn.max_pool(inputs, (3, 3), padding="SAME")
        else:
            padded = self.pool == "average"
            pooled = nn.avg_pool(
                to_float32(inputs), (3, 3), padding="SAME", count_include_pad=padded
            )
        if self.pool_features:
            conv = functools.partial(_Conv, axis_name=self.axis_name, dtype=self.dtype)
            pooled = conv(self.pool_features, (1, 1), name="branch_pool")(pooled)
        return jnp.concatenate([*outputs, pooled], axis=-1)

    def _run(
        self, hidden: jax.Array, name: str, steps: tuple[tuple[int, int, int], ...]
    ) -> list[jax.Array]:
        split = self.split and name != "branch1x1"
        conv = functools.partial(_Conv, axis_name=self.axis_name, dtype=self.dtype)
        for i, (features, height, width) in enumerate(steps, start=1):
            label = f"{name}_{i}" if split or len(steps) > 1 else name
            halves = not self.pool_features and i == len(steps)
            stride, padding = (2, "VALID") if halves else (1, "SAME")
            hidden = conv(features, (height, width), stride, padding, name=label)(hidden)
        if not split:
            return [hidden]
        ends = (("a", (1, 3)), ("b", (3, 1)))
        label = f"{name}_{len(steps) + 1}"
        return [conv(384, kernel, name=label + end)(hidden) for end, kernel in ends]


class InceptionV3Features(nn.Module):
    """Inception v3 with fixed weights.

    Called with images f32[B, S, S, 3] in [-1, 1], any S, which are resized to 299 bilinearly (half
    pixel centers, no antialiasing, as F.interpolate); returns `InceptionTaps`. All variables are in
    the collection "trunk"; gradients reach the images. `load_inception` reads weights.
    Batch norms use their running statistics, or those of the global batch if "trunk" is mutable.

    Attributes:
      variant: "torchvision", or "fid": the TensorFlow network of 2015-12-05 that FID is defined
        with, as distributed by pytorch-fid and torch-fidelity. Its average pools exclude padding,
        its last block has a max pool, and its classifier has 1008 classes.
      logits: whether to run the classifier.
      axis_name: mapped axis of the global batch, or None.
      dtype: of activations; None: promoted from inputs and variables. Outputs are float32 at least.

    Raises:
      ValueError: `variant` is unknown, or the images are not [B, S, S, 3].
    """

    variant: str = "torchvision"
    logits: bool = False
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, images: jax.Array) -> InceptionTaps:
        """Runs the network; shapes in the class docstring."""
        if self.variant not in _CLASSES:
            raise ValueError(f"variant={self.variant!r} is unknown; allowed: {', '.join(_CLASSES)}")
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"images have shape {images.shape}; Inception needs [B, S, S, 3]")
        size = (images.shape[0], _INPUT_SIZE, _INPUT_SIZE, 3)
        hidden = self._stem(jax.image.resize(images, size, "linear", antialias=False))
        pool = "average" if self.variant == "torchvision" else "average_inside"
        block = functools.partial(_Block, pool=pool, axis_name=self.axis_name, dtype=self.dtype)
        for letter, pool_features in (("b", 32), ("c", 64), ("d", 64)):
            hidden = block(_A, pool_features, name=f"Mixed_5{letter}")(hidden)
        hidden = block(_B, 0, name="Mixed_6a")(hidden)
        for letter, channels in (("b", 128), ("c", 160), ("d", 160), ("e", 192)):
            hidden = block(_c(channels), 192, name=f"Mixed_6{letter}")(hidden)
        mixed_6e = to_float32(hidden)
        hidden = block(_D, 0, name="Mixed_7a")(hidden)
        hidden = block(_E, 192, split=True, name="Mixed_7b")(hidden)
        last_pool = pool if self.variant == "torchvision" else "max"
        hidden = block(_E, 192, pool=last_pool, split=True, name="Mixed_7c")(hidden)
        pooled = to_float32(hidden).mean((1, 2))
        logits = _Classifier(_CLASSES[self.variant], name="fc")(pooled) if self.logits else None
        return InceptionTaps(mixed_6e, pooled, logits)

    def _stem(self, images: jax.Array) -> jax.Array:
        conv = functools.partial(_Conv, axis_name=self.axis_name, dtype=self.dtype)
        hidden = conv(32, (3, 3), 2, "VALID", name="Conv2d_1a_3x3")(images)
        hidden = conv(32, (3, 3), padding="VALID", name="Conv2d_2a_3x3")(hidden)
        hidden = conv(64, (3, 3), name="Conv2d_2b_3x3")(hidden)
        hidden = nn.max_pool(hidden, (3, 3), (2, 2))
        hidden = conv(80, (1, 1), name="Conv2d_3b_1x1")(hidden)
        hidden = conv(192, (3, 3), padding="VALID", name="Conv2d_4a_3x3")(hidden)
        return nn.max_pool(hidden, (3, 3), (2, 2))


class _Classifier(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, pooled: jax.Array) -> jax.Array:
        shape = (pooled.shape[-1], self.classes)
        kernel = self.variable("trunk", "kernel", jnp.zeros, shape).value
        bias = self.variable("trunk", "bias", jnp.zeros, shape[-1:]).value
        return pooled @ kernel + bias[None]


class InceptionImageEncoder(nn.Module):
    """AttnGAN's image encoder (Xu et al. 2018, arXiv:1711.10485, section 3.2; code CNN_ENCODER).

    Two trainable linear heads ("params") on a fixed Inception v3. The trunk's variables are
    variables["trunk"]["inception"]; `load_inception(path)["trunk"]` reads them.

    Attributes:
      embedding_dim: size E of region features and image codes.
      axis_name: mapped axis of the global batch, or None.
      dtype: of the trunk's activations; None: promoted from inputs and variables.
    """

    embedding_dim: int = 256
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Images f32[B, S, S, 3] in [-1, 1] to regions f32[B, 289, E] and codes f32[B, E].

        The regions are the 17 x 17 grid row by row.
        """
        trunk = InceptionV3Features(axis_name=self.axis_name, dtype=self.dtype, name="inception")
        taps = trunk(images)
        init = functools.partial(jax.random.uniform, minval=-0.1, maxval=0.1)
        head = functools.partial(nn.Dense, self.embedding_dim, kernel_init=init)
        regions = head(use_bias=False, name="regions")(taps.mixed_6e)
        code = head(name="code")(taps.pooled)
        return regions.reshape(regions.shape[0], -1, self.embedding_dim), code
