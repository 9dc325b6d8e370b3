"""The function that ONNX and StableHLO files hold, and inputs to compare them with."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssagan_jax.errors import InputError
from ssagan_jax.inference.sampler import encode_captions, sample_noise
from ssagan_jax.inference.trained_model import TrainedModel
from ssagan_jax.steps.networks import Networks, build_networks

# Largest difference from JAX in images, whose range is [-1, 1], and masks, whose range is [0, 1].
TOLERANCE = 1e-3
INPUT_NAMES = ("tokens", "mask", "noise")
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


class ExportError(InputError):
    """A model cannot be converted, or what was converted computes something else."""


def generate(
    networks: Networks,
    variables: dict[str, Any],
    tokens: jax.Array,
    mask: jax.Array,
    noise: jax.Array,
) -> tuple[jax.Array, ...]:
    """Like `sampler.generate_images`, before rounding and enlarging.

    Returns:
      Images f32[B, S, S, 3] in (-1, 1), and the fusion masks f32[B, 4, 4, 1], f32[B, 8, 8, 1], ...
      in (0, 1).
    """
    sentence = encode_captions(networks, variables, tokens, mask)
    images, masks = networks.generator.apply(variables["generator"], noise, sentence, False)
    return images, *masks


def generate_function(model: TrainedModel) -> Callable[..., tuple[jax.Array, ...]]:
    """Tokens, mask and noise to images and masks, with the weights inside; see `generate`."""
    networks = build_networks(model.config, model.tokenizer.vocabulary)
    # NumPy's arrays cannot be indexed by traced tokens.
    variables = jax.tree.map(jnp.asarray, model.variables)
    return functools.partial(generate, networks, variables)


def example_inputs(model: TrainedModel, rows: int) -> Arrays:
    """Random tokens i32[rows, T] of all lengths, their mask and noise f32[rows, N]."""
    words, vocabulary = model.config.data.max_words, model.tokenizer.vocabulary
    rng = np.random.default_rng(rows)
    lengths = np.resize(np.arange(words, 0, -1), rows)
    mask = np.arange(words) < lengths[:, None]
    tokens = np.where(mask, rng.integers(0, vocabulary.size, mask.shape), vocabulary.pad_id)
    return tokens.astype(np.int32), mask, sample_noise(0, rows, model.config.generator.noise_dim)


def check_outputs(
    name: str, model: TrainedModel, call: Callable[..., list[np.ndarray]], rows: tuple[int, ...]
) -> float:
    """Compares a converted model with JAX for some batch sizes; returns the largest difference.

    Args:
      name: of what was converted.
      model: the source.
      call: tokens, mask and noise to images and masks.
      rows: batch sizes.

    Raises:
      ExportError: a difference is above TOLERANCE.
    """
    networks = build_networks(model.config, model.tokenizer.vocabulary)
    reference, largest = jax.jit(functools.partial(generate, networks)), 0.0
    for count in rows:
        inputs = example_inputs(model, count)
        for got, wanted in zip(call(*inputs), reference(model.variables, *inputs), strict=True):
            # Unlike max, it keeps NaN.
            largest = float(np.maximum(largest, np.abs(got - np.asarray(wanted)).max()))
    if not largest <= TOLERANCE:
        raise ExportError(
            f"{name}: differs from JAX by {largest:.2g}, more than {TOLERANCE}; it is not written"
        )
    return largest
