"""A trained model: captions in, images out."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.inference.sampler import Sampler, sample_noise

# Every batch is padded to this size, so an image does not depend on how many are generated.
_BATCH_SIZE = 16


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """Weights with their config and tokenizer, ready to generate images.

    Attributes:
      config: of the run.
      tokenizer: of the run.
      step: of the checkpoint that the weights are from.
      variables: {"text", "generator"}, as `sampler.generation_variables` returns them.
      image_encoder: the image encoder's variables {"params", "trunk"}; None if they are not known.
      example_captions: captions of the data that the model was trained on; may be empty.
      sampler: of the networks that the config describes.
    """

    config: ConfigDict
    tokenizer: Tokenizer
    step: int
    variables: dict[str, Any]
    image_encoder: dict[str, Any] | None
    example_captions: tuple[str, ...]
    sampler: Sampler

    def generate(self, captions: Sequence[str], noise: np.ndarray) -> np.ndarray:
        """Images u8[B, S, S, 3] of B captions and noise f32[B, N], standard normal.

        Raises:
          TokenizerError: a caption has no word.
        """
        return np.concatenate([images for images, _ in self._batches(captions, noise)])

    def generate_with_masks(
        self, captions: Sequence[str], noise: np.ndarray
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Like `generate`, with the fusion masks f32[B, S, S, 1] in (0, 1), coarse to fine."""
        images, masks = zip(*self._batches(captions, noise), strict=True)
        return np.concatenate(images), [np.concatenate(m) for m in zip(*masks, strict=True)]

    def sample(self, captions: Sequence[str], num: int, seed: int) -> np.ndarray:
        """Images u8[len(captions), num, S, S, 3], with the same noise for every caption."""
        noise = sample_noise(seed, num, self.config.generator.noise_dim)
        repeated = [caption for caption in captions for _ in range(num)]
        images = self.generate(repeated, np.tile(noise, (len(captions), 1)))
        return images.reshape(len(captions), num, *images.shape[1:])

    def _batches(
        self, captions: Sequence[str], noise: np.ndarray
    ) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        encoded = [self.tokenizer.encode(text, self.config.data.max_words) for text in captions]
        tokens, mask = (np.stack(part) for part in zip(*encoded, strict=True))
        return self.sampler.batches(self.variables, tokens, mask, noise, batch_size=_BATCH_SIZE)
