"""Inception v3 as the network that IS, FID, KID, precision and recall are read from."""

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
# By variant of the network: filter, value range and which logits the Inception Score is read from.
_RECIPES = {
    "fid": ("tensorflow1_bilinear", "(x - 128) / 128 of 0..255", "logits_unbiased"),
    "torchvision": ("half_pixel_bilinear", "x / 127.5 - 1 of 0..255", "logits"),
}


def tensorflow1_bilinear(images: jax.Array, size: int = _SIZE) -> jax.Array:
    """TensorFlow 1's `resize_bilinear` without aligned corners, which FID is defined with.

    Output pixel i lies at i * S / size, so corners do not meet and nothing is smoothed; weighted
    along rows, then along columns, as torch-fidelity does.

    Args:
      images: f32[B, S, S, 3].
      size: edge of the result.

    Returns:
      f32[B, size, size, 3] in the range of the images.
    """
    edge = images.shape[1]
    # By numpy, since a compiler that joins the product and the difference rounds otherwise.
    place = np.arange(size, dtype=np.float32) * np.float32(edge / size)
    low = place.astype(np.int32)
    high = np.minimum(low + 1, edge - 1)
    share = place - low.astype(np.float32)
    left, right = images[:, :, low], images[:, :, high]
    rows = left + (right - left) * share[None, None, :, None]
    top, bottom = rows[:, low], rows[:, high]
    return top + (bottom - top) * share[None, :, None, None]


def inception_features(path: Path, variant: str = "fid") -> FeatureNetwork:
    """The network with weights from a file; its taps are "pooled" [2048] and "logits".

    Args:
      path: weights as `load_inception` reads them.
      variant: "fid", or "torchvision" for ImageNet's classifier as torchvision publishes it.

    Raises:
      InputError: the file does not hold such a network.
    """
    try:
        variables = load_inception(path, variant, logits=True)
    except (OSError, ValueError) as error:
        raise InputError(f"Inception weights {str(path)!r}: {error}") from error
    resize, value_range, logits = _RECIPES[variant]
    recipe = {
        "features": f"inception_v3_{variant}",
        "weights_sha256": file_sha256(path),
        "resize": {"filter": resize, "size": _SIZE},
        "value_range": value_range,
    }
    network = InceptionV3Features(variant, logits=logits == "logits")

    def apply(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        pixels = images.astype(jnp.float32)
        if variant == "fid":
            scaled = (tensorflow1_bilinear(pixels) - 128) / 128
        else:
            scaled = pixels / 127.5 - 1
        # Some devices multiply float32 with 10 bits of mantissa unless they are told not to.
        with jax.default_matmul_precision("highest"):
            taps = network.apply(variables, scaled)
            # The published Inception Score leaves the classifier's bias out.
            unbiased = taps.pooled @ variables["trunk"]["fc"]["kernel"]
        found = unbiased if taps.logits is None else taps.logits
        return {"pooled": taps.pooled, "logits": found}

    return FeatureNetwork(apply, variables, recipe, {"pooled": "pooled", "logits": logits})
