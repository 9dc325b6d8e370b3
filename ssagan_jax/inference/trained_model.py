"""Loads a trained model from its work folder."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from ml_collections import ConfigDict

from ssagan_jax.checkpointing.checkpoints import Checkpoints
from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.inference.sampler import Sampler, sample_noise
from ssagan_jax.steps.networks import build_networks
from ssagan_jax.steps.state import TrainState, abstract_state
from ssagan_jax.workdir import Workdir

# Every batch is padded to this size, so an image does not depend on how many are generated.
_BATCH_SIZE = 16


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A checkpoint with its config and tokenizer, ready to generate images."""

    workdir: Workdir
    config: ConfigDict
    tokenizer: Tokenizer
    state: TrainState
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
        return self.sampler.batches(self.state, tokens, mask, noise, batch_size=_BATCH_SIZE)


def load_model(path: str, checkpoint: int | None = None) -> TrainedModel:
    """Loads a trained model.

    Args:
      path: the work folder.
      checkpoint: step of the checkpoint; None for the latest.

    Raises:
      WorkdirError, TokenizerError, CheckpointError: the folder holds no such model.
    """
    workdir = Workdir(path)
    config = workdir.config()
    tokenizer = workdir.tokenizer()
    checkpoints = Checkpoints(workdir.checkpoints, None, tokenizer.digest)
    state = checkpoints.restore(abstract_state(config, tokenizer), step=checkpoint)
    sampler = Sampler(build_networks(config, tokenizer.vocabulary))
    return TrainedModel(workdir, config, tokenizer, state, sampler)
