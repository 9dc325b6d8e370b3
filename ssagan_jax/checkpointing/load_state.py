"""Loads the training state of a work folder."""

from ssagan_jax.checkpointing.checkpoints import Checkpoints
from ssagan_jax.steps.state import TrainState, abstract_state
from ssagan_jax.workdir import Workdir


def load_state(workdir: Workdir, checkpoint: int | None = None) -> TrainState:
    """Loads a training state, without opening the folder for writing.

    Args:
      workdir: of the run.
      checkpoint: step of the checkpoint; None for the latest intact one.

    Raises:
      WorkdirError, TokenizerError, CheckpointError: the folder holds no such state.
    """
    config, tokenizer = workdir.config(), workdir.tokenizer()
    checkpoints = Checkpoints(workdir.checkpoints, None, tokenizer.digest)
    return checkpoints.restore(abstract_state(config, tokenizer), step=checkpoint)
