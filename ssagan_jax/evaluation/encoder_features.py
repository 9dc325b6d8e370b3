"""Features of images and captions in the run's own encoders."""

from typing import Any

import jax
from ml_collections import ConfigDict

from ssagan_jax.inference.sampler import encode_captions, encode_images
from ssagan_jax.metrics.features import tree_sha256
from ssagan_jax.steps.networks import Networks
from ssagan_jax.steps.pmap import BatchFn, pmap_batched
from ssagan_jax.steps.state import TrainState


def build_encode_fn(networks: Networks, batch_size: int) -> BatchFn:
    """Builds a function that embeds images and captions on all devices.

    It takes the result of `encoder_variables` and rows of image u8[B, S, S, 3], tokens i32[B, T]
    and mask bool[B, T], and returns code f32[B, E] of the images and sentence f32[B, E] of the
    captions.
    """

    def encode(variables: Any, rows: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return {
            "code": encode_images(networks, variables["image"], rows["image"]),
            "sentence": encode_captions(networks, variables, rows["tokens"], rows["mask"]),
        }

    return pmap_batched(encode, batch_size)


def encoder_variables(state: TrainState) -> dict[str, Any]:
    """The variables of a state's text and image encoder."""
    return {
        "text": state.encoders["text"],
        "image": {"params": state.encoders["image"], "trunk": state.trunk},
    }


def encoder_recipe(config: ConfigDict, state: TrainState) -> dict[str, Any]:
    """How the image codes are computed, for the recipe of a score."""
    resize = {"filter": "none", "size": config.data.image_size}
    if config.image_encoder.name == "inception_v3":
        resize = {"filter": "half_pixel_bilinear", "size": 299}
    return {
        "features": f"{config.image_encoder.name}/code of the run",
        "weights_sha256": tree_sha256(encoder_variables(state)["image"]),
        "resize": resize,
        "value_range": "x / 127.5 - 1 of 0..255",
    }
