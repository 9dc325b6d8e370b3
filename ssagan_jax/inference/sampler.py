"""Captions and noise to images: the networks in evaluation mode, compiled for one device."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssagan_jax.steps.networks import Networks, normalize_images, seed_key
from ssagan_jax.steps.state import TrainState, sampling_variables

PyTree = Any

# Every batch is padded to this size: a single one is compiled, and an image does not depend on how
# many are generated. Small, since a person who waits for one image waits for a whole batch.
_BATCH_SIZE = 4


def generation_variables(state: TrainState) -> dict[str, Any]:
    """The variables of `generate_images`, with averaged generator weights if there are any."""
    return {"text": state.encoders["text"], "generator": sampling_variables(state)}


def encode_captions(
    networks: Networks, variables: dict[str, Any], tokens: jax.Array, mask: jax.Array
) -> jax.Array:
    """Sentence embeddings f32[B, E] of tokens i32[B, T] with mask bool[B, T], True on words."""
    _, sentence = networks.text_encoder.apply({"params": variables["text"]}, tokens, mask, False)
    return sentence


def encode_images(networks: Networks, image_encoder: PyTree, images: jax.Array) -> jax.Array:
    """Codes f32[B, E] of images u8[B, S, S, 3], by the image encoder's variables."""
    _, code = networks.image_encoder.apply(image_encoder, normalize_images(images))
    return code


def images_of_sentences(
    networks: Networks, variables: dict[str, Any], sentence: jax.Array, noise: jax.Array
) -> tuple[jax.Array, list[jax.Array]]:
    """Like `generate_images`, of sentence embeddings f32[B, E]."""
    images, masks = networks.generator.apply(variables["generator"], noise, sentence, False)
    height, width = images.shape[1:3]
    resized = [
        jnp.repeat(jnp.repeat(m, height // m.shape[1], 1), width // m.shape[2], 2) for m in masks
    ]
    return jnp.round((images + 1) * 127.5).astype(jnp.uint8), resized


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
    sentence = encode_captions(networks, variables, tokens, mask)
    return images_of_sentences(networks, variables, sentence, noise)


def sample_noise(seed: int, rows: int, noise_dim: int) -> np.ndarray:
    """Standard normal noise f32[rows, noise_dim]; the first rows do not depend on their number.

    Nor does it depend on how the user's program has configured JAX.
    """
    with jax.enable_x64(False), jax.threefry_partitionable(True):
        return np.asarray(jax.random.normal(seed_key(seed), (rows, noise_dim)))


def truncate_noise(noise: np.ndarray, truncation: float) -> np.ndarray:
    """Noise with less variance, for images that are more typical and less diverse.

    Below 1, values are clamped to [-2, 2] and multiplied by `truncation`. 1 changes nothing. DF-GAN
    (Tao et al. 2022) draws from the normal distribution truncated at 2 instead of clamping, and
    multiplies by 0.88.
    """
    if truncation == 1:
        return noise
    return np.clip(noise, -2, 2) * np.float32(truncation)


def interpolate_noise(start: np.ndarray, end: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Spherical interpolation (White 2016, arXiv:1609.04468, section 2.1).

    Between two points of a normal distribution it keeps to the norms that such points have; a
    straight line would pass through shorter ones.

    Args:
      start: f32[N].
      end: f32[N].
      weights: [steps] in [0, 1]; 0 gives `start`, 1 gives `end`.

    Returns:
      f32[steps, N].
    """
    start, end, weights = start.astype(float), end.astype(float), weights.astype(float)[:, None]
    cosine = start @ end / max(np.linalg.norm(start) * np.linalg.norm(end), 1e-12)
    angle = np.arccos(np.clip(cosine, -1, 1))
    if np.sin(angle) < 1e-6:  # In one line.
        mixed = (1 - weights) * start + weights * end
    else:
        mixed = np.sin((1 - weights) * angle) * start + np.sin(weights * angle) * end
        mixed /= np.sin(angle)
    return mixed.astype(np.float32)


class Sampler:
    """The networks on one device, each compiled once, for any number of rows on the host."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._encode_captions = jax.jit(functools.partial(encode_captions, networks))
        self._encode_images = jax.jit(functools.partial(encode_images, networks))
        self._generate = jax.jit(functools.partial(images_of_sentences, networks))

    def __reduce__(self) -> tuple[type["Sampler"], tuple[Networks]]:
        """Compiled functions cannot be pickled, so each process has its own."""
        return Sampler, (self._networks,)

    def sentences(
        self, variables: dict[str, Any], tokens: np.ndarray, mask: np.ndarray
    ) -> np.ndarray:
        """Sentence embeddings f32[B, E]; see `encode_captions`."""
        return np.concatenate(list(_batches(self._encode_captions, variables, tokens, mask)))

    def codes(self, image_encoder: PyTree, images: np.ndarray) -> np.ndarray:
        """Image codes f32[B, E]; see `encode_images`."""
        return np.concatenate(list(_batches(self._encode_images, image_encoder, images)))

    def images(
        self, variables: dict[str, Any], sentence: np.ndarray, noise: np.ndarray
    ) -> np.ndarray:
        """Images u8[B, S, S, 3]; see `images_of_sentences`."""
        batches = _batches(self._generate, variables, sentence, noise)
        return np.concatenate([images for images, _ in batches])

    def images_and_masks(
        self, variables: dict[str, Any], sentence: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Images and masks; see `images_of_sentences`."""
        batches = list(_batches(self._generate, variables, sentence, noise))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *batches)


def _batches(
    compiled: Callable[..., PyTree], variables: PyTree, *rows: np.ndarray
) -> Iterator[PyTree]:
    """Yields a function's results on the host; the last batch is padded with its last row."""
    total = len(rows[0])
    for start in range(0, total, _BATCH_SIZE):
        indices = np.minimum(np.arange(start, start + _BATCH_SIZE), total - 1)
        result = jax.device_get(compiled(variables, *(array[indices] for array in rows)))
        yield jax.tree.map(lambda array, count=total - start: array[:count], result)
