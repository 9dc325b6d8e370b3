"""Captions and noise to images: the text encoder and the generator in evaluation mode."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssagan_jax.steps.networks import Networks
from ssagan_jax.steps.state import TrainState, sampling_variables


def generation_variables(state: TrainState) -> dict[str, Any]:
    """The variables of `generate_images`, with averaged generator weights if there are any."""
    return {"text": state.encoders["text"], "generator": sampling_variables(state)}


def generate_images(
    networks: Networks,
    variables: dict[str, Any],
    tokens: jax.Array,
    mask: jax.Array,
    noise: jax.Array,
) -> tuple[jax.Array, list[jax.Array]]:
    """Generates one image for each caption; a pure function that treats each row alone.

    Args:
      networks: built without an axis name.
      variables: of `generation_variables`.
      tokens: i32[B, T].
      mask: bool[B, T], True on words.
      noise: f32[B, N], standard normal.

    Returns:
      Images u8[B, S, S, 3] and the fusion masks f32[B, S, S, 1] in (0, 1), coarse to fine.
    """
    text = {"params": variables["text"]}
    _, sentence = networks.text_encoder.apply(text, tokens, mask, False)
    images, masks = networks.generator.apply(variables["generator"], noise, sentence, False)
    height, width = images.shape[1:3]
    resized = [
        jnp.repeat(jnp.repeat(m, height // m.shape[1], 1), width // m.shape[2], 2) for m in masks
    ]
    return jnp.round((images + 1) * 127.5).astype(jnp.uint8), resized


def sample_noise(seed: int, rows: int, noise_dim: int) -> np.ndarray:
    """Standard normal noise f32[rows, noise_dim]."""
    return np.asarray(jax.random.normal(jax.random.key(seed), (rows, noise_dim)))


class Sampler:
    """`generate_images` on one device, compiled once for each batch size."""

    def __init__(self, networks: Networks) -> None:
        self._generate = jax.jit(functools.partial(generate_images, networks))

    def __call__(
        self, variables: dict[str, Any], tokens: np.ndarray, mask: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Images and masks of one batch, on the host; shapes as in `generate_images`."""
        images, masks = self._generate(variables, tokens, mask, noise)
        return np.asarray(images), [np.asarray(m) for m in masks]

    def batches(
        self, variables: dict[str, Any], *arrays: np.ndarray, batch_size: int
    ) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Yields images and masks of any number of rows of tokens, mask and noise, in batches.

        The last batch is padded with its last row, so that a single size is compiled.
        """
        total = len(arrays[0])
        for start in range(0, total, batch_size):
            indices = np.minimum(np.arange(start, start + batch_size), total - 1)
            images, masks = self(variables, *(array[indices] for array in arrays))
            count = min(batch_size, total - start)
            yield images[:count], [m[:count] for m in masks]
