"""Loads a trained model from wherever it is."""

import os

from ssagan_jax.checkpointing.best_checkpoint import CheckpointChoice
from ssagan_jax.checkpointing.load_state import load_state
from ssagan_jax.inference.sampler import Sampler, generation_variables
from ssagan_jax.inference.trained_model import TrainedModel
from ssagan_jax.steps.networks import build_networks
from ssagan_jax.steps.state import network_variables
from ssagan_jax.workdir import Workdir, WorkdirError


def load_model(source: str | os.PathLike[str], checkpoint: CheckpointChoice = None) -> TrainedModel:
    """Loads a trained model.

    Args:
      source: the work folder.
      checkpoint: step of the checkpoint, or "best"; None for the latest.

    Raises:
      InputError: the source holds no such model.
    """
    # The one place that tells the kinds of source apart.
    return _from_workdir(Workdir(source), checkpoint)


def _from_workdir(workdir: Workdir, checkpoint: CheckpointChoice) -> TrainedModel:
    config, tokenizer = workdir.config(), workdir.tokenizer()
    workdir.check_generator()
    state = load_state(workdir, checkpoint)
    try:
        captions = tuple(workdir.fixed_samples().captions)
    except WorkdirError:  # A converted model has none, and painting needs none.
        captions = ()
    return TrainedModel(
        config=config,
        tokenizer=tokenizer,
        step=int(state.step),
        variables=generation_variables(state),
        image_encoder=network_variables(state)["image_encoder"],
        example_captions=captions,
        sampler=Sampler(build_networks(config, tokenizer.vocabulary)),
    )
