"""Loads the training state of a work folder."""

from ssagan_jax.checkpointing.best_checkpoint import CheckpointChoice, find_checkpoint
from ssagan_jax.checkpointing.checkpoints import Checkpoints
from ssagan_jax.steps.state import TrainState, abstract_state
from ssagan_jax.workdir import Workdir


def load_state(workdir: Workdir, checkpoint: CheckpointChoice = None) -> TrainState:
    """Loads a training state, without opening the folder for writing.

    If a training that goes on replaces checkpoints meanwhile, reads those that there are then.

    Args:
      workdir: of the run.
      checkpoint: step of the checkpoint, or "best"; None for the latest intact one.

    Raises:
      WorkdirError, TokenizerError, CheckpointError: the folder holds no such state.
    """
    config, tokenizer = workdir.config(), workdir.tokenizer()
    template = abstract_state(config, tokenizer)
    while True:
        there = workdir.checkpoint_steps(), find_checkpoint(workdir, checkpoint)
        _, (folder, step) = there
        try:
            return Checkpoints(folder, None, tokenizer.digest).restore(template, step=step)
        except Exception:  # Of a folder that is deleted while it is read, any.
            if there == (workdir.checkpoint_steps(), find_checkpoint(workdir, checkpoint)):
                raise
