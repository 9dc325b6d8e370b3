"""A trained model, opened from its work folder alone."""

import dataclasses

import jax
import numpy as np
from ml_collections import ConfigDict

from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.failures import InputError
from ssagan_jax.painting import Painter
from ssagan_jax.rules import RULES
from ssagan_jax.training.checkpoints import Checkpoints
from ssagan_jax.training.state import TrainState, build_networks, initial_state
from ssagan_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Trained:
    """Config, tokenizer and a checkpoint's state, ready to paint."""

    workdir: Workdir
    config: ConfigDict
    tokenizer: Tokenizer
    state: TrainState
    painter: Painter

    def paint(self, captions: list[str], noise: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Pictures u8[B, S, S, 3] and fusion masks of captions and noise f32[B, N]."""
        encoded = [self.tokenizer.encode(text, self.config.data.max_words) for text in captions]
        tokens, mask = (np.stack(part) for part in zip(*encoded, strict=True))
        return self.painter(self.state, tokens, mask, noise)


def check_seed(seed: int) -> None:
    """Refuses a --seed that no config may have either; raises InputError."""
    holds, allowed = RULES["seed"]
    if not holds(seed):
        raise InputError(f"--seed={seed}: must be {allowed}")


def state_shapes(config: ConfigDict, tokenizer: Tokenizer) -> TrainState:
    """Shapes and types of a run's state, without any computation."""
    return jax.eval_shape(lambda: initial_state(config, tokenizer.vocabulary))


def open_trained(path: str, checkpoint: int | None = None) -> Trained:
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
    state = checkpoints.restore(state_shapes(config, tokenizer), step=checkpoint)
    painter = Painter(build_networks(config, tokenizer.vocabulary))
    return Trained(workdir, config, tokenizer, state, painter)
