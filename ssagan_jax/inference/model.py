"""A trained model, opened from its work folder alone."""

import dataclasses

import numpy as np
from ml_collections import ConfigDict

from ssagan_jax.checkpointing.checkpoints import Checkpoints
from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.inference.sampler import Sampler
from ssagan_jax.steps.networks import build_networks
from ssagan_jax.steps.state import TrainState, abstract_state
from ssagan_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """Config, tokenizer and a checkpoint's state, ready to paint."""

    workdir: Workdir
    config: ConfigDict
    tokenizer: Tokenizer
    state: TrainState
    sampler: Sampler

    def paint(self, captions: list[str], noise: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Pictures u8[B, S, S, 3] and fusion masks of captions and noise f32[B, N]."""
        encoded = [self.tokenizer.encode(text, self.config.data.max_words) for text in captions]
        tokens, mask = (np.stack(part) for part in zip(*encoded, strict=True))
        return self.sampler(self.state, tokens, mask, noise)


def load_model(path: str, checkpoint: int | None = None) -> TrainedModel:
    """Opens a work folder.

    Args:
      path: the work folder.
      checkpoint: step of the checkpoint, the latest where None.

    Raises:
      WorkdirError, TokenizerError, CheckpointError: the folder holds no such model.
    """
    workdir = Workdir(path)
    config = workdir.config()
    tokenizer = workdir.tokenizer()
    checkpoints = Checkpoints(workdir.checkpoints, None, tokenizer.digest)
    state = checkpoints.restore(abstract_state(config, tokenizer), step=checkpoint)
    painter = Sampler(build_networks(config, tokenizer.vocabulary))
    return TrainedModel(workdir, config, tokenizer, state, painter)
