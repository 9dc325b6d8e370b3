"""Inception v3 features for IS, FID, KID, precision and recall."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssagan_jax.errors import InputError
from ssagan_jax.metrics.features import FeatureNetwork
from ssagan_jax.metrics.inception_weights import file_sha256
from ssagan_jax.models.inception import InceptionV3Features
from ssagan_jax.pytorch.torchvision_inception import load_inception

_SIZE = 299
# By variant: resize filter, value range, and the logits that the Inception Score uses.
_RECIPES = {
    "fid": ("tensorflow1_bilinear", "(x - 128) / 128 of 0..255", "logits_unbiased"),
    "torchvision": ("half_pixel_bilinear", "x / 127.5 - 1 of 0..255", "logits"),
}


def tensorflow1_bilinear(images: jax.Array, size: int = _SIZE) -> jax.Array:
    """TensorFlow 1's `resize_bilinear` without aligned corners, which FID is defined with.

    Output pixel i is at i * S / size, so corners are not aligned, and there is no antialiasing.
    Interpolates horizontally, then vertically, as torch-fidelity does.

    Args:
      images: f32[B, S, S, 3].
      size: edge of the result.

    Returns:
      f32[B, size, size, 3] in the value range of `images`.
    """
    edge = images.shape[1]
    # In numpy, since XLA may fuse product and difference, which rounds differently.
    position = np.arange(size, dtype=np.float32) * np.float32(edge / size)
    low = position.astype(np.int32)
    high = np.minimum(low + 1, edge - 1)
    weight = position - low.astype(np.float32)
    left, right = images[:, :, low], images[:, :, high]
    rows = left + (right - left) * weight[None, None, :, None]
    top, bottom = rows[:, low], rows[:, high]
    return top + (bottom - top) * weight[None, :, None, None]


def inception_features(path: Path, variant: str = "fid") -> FeatureNetwork:
    """The network with weights from a file; its outputs are "pooled" [2048] and "logits".

    Args:
      path: a weight file that `load_inception` reads.
      variant: "fid", or "torchvision" for torchvision's ImageNet classifier.

    Raises:
      InputError: the file cannot be read or holds another network.
    """
    try:
        variables = load_inception(path, variant, logits=True)
    except (OSError, ValueError) as error:
        raise InputError(f"Inception weights {str(path)!r}: {error}") from error
    resize, value_range, logits_name = _RECIPES[variant]
    recipe = {
        "features": f"inception_v3_{variant}",
        "weights_sha256": file_sha256(path),
        "resize": {"filter": resize, "size": _SIZE},
        "value_range": value_range,
    }
    network = InceptionV3Features(variant, logits=logits_name == "logits")

    def apply(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        pixels = images.astype(jnp.float32)
        if variant == "fid":
            scaled = (tensorflow1_bilinear(pixels) - 128) / 128
        else:
            scaled = pixels / 127.5 - 1
        # By default some devices multiply float32 with only 10 bits of mantissa.
        with jax.default_matmul_precision("highest"):
            features = network.apply(variables, scaled)
            # The published Inception Score omits the classifier's bias.
            unbiased = features.pooled @ variables["trunk"]["fc"]["kernel"]
        logits = unbiased if features.logits is None else features.logits
        return {"pooled": features.pooled, "logits": logits}

    return FeatureNetwork(apply, variables, recipe, {"pooled": "pooled", "logits": logits_name})
