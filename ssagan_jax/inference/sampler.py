"""Captions to pictures with trained networks, and sheets that show them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ssagan_jax.steps.networks import Networks
from ssagan_jax.steps.state import TrainState, sampling_variables


def to_uint8(images: jax.Array) -> jax.Array:
    """A generator's pictures f32 in [-1, 1] as u8 in 0..255."""
    return jnp.round((images + 1) * 127.5).astype(jnp.uint8)


class Sampler:
    """The text encoder and the generator in evaluation, compiled once for each batch size."""

    def __init__(self, networks: Networks) -> None:
        """Takes networks built without an axis name."""

        def paint(
            text: Any, variables: Any, tokens: jax.Array, mask: jax.Array, noise: jax.Array
        ) -> tuple[jax.Array, list[jax.Array]]:
            _, sentence = networks.text_encoder.apply({"params": text}, tokens, mask, False)
            images, masks = networks.generator.apply(variables, noise, sentence, False)
            size = images.shape[1:3]
            shown = [
                jnp.repeat(jnp.repeat(m, size[0] // m.shape[1], 1), size[1] // m.shape[2], 2)
                for m in masks
            ]
            return to_uint8(images), shown

        self._paint = jax.jit(paint)

    def __call__(
        self, state: TrainState, tokens: np.ndarray, mask: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Paints captions.

        Args:
          state: trained; averaged generator weights are used where it has them.
          tokens: i32[B, T].
          mask: bool[B, T], True on words.
          noise: f32[B, N], standard normal.

        Returns:
          Pictures u8[B, S, S, 3] and the fusion masks f32[B, S, S, 1] in (0, 1), coarse to fine.
        """
        variables = sampling_variables(state)
        pixels, masks = self._paint(state.encoders["text"], variables, tokens, mask, noise)
        return np.asarray(pixels), [np.asarray(m) for m in masks]


def sample_grid_noise(config: ConfigDict, rows: int) -> np.ndarray:
    """f32[rows, N]: the noise of all sheets that a run writes while it trains."""
    noise = jax.random.normal(jax.random.key(config.seed), (rows, config.generator.noise_dim))
    return np.asarray(noise)
