"""Loads the training state of a work folder."""

from ssagan_jax.checkpointing.best_checkpoint import CheckpointChoice, find_checkpoint
from ssagan_jax.checkpointing.checkpoints import Checkpoints
from ssagan_jax.steps.state import TrainState, abstract_state
from ssagan_jax.workdir import Workdir


def load_state(workdir: Workdir, checkpoint: CheckpointChoice = None) -> TrainState:
    """Loads a training state, without opening the folder for writing.

    Args:
      workdir: of the run.
      checkpoint: step of the checkpoint, or "best"; None for the latest intact one.

    Raises:
      WorkdirError, TokenizerError, CheckpointError: the folder holds no such state.
    """
    config, tokenizer = workdir.config(), workdir.tokenizer()
    folder, step = find_checkpoint(workdir, checkpoint)
    checkpoints = Checkpoints(folder, None, tokenizer.digest)
    return checkpoints.restore(abstract_state(config, tokenizer), step=step)
