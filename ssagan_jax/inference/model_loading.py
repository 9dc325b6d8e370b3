"""Loads a trained model from wherever it is, and the training state of a work folder."""

import os
from logging import root
from pathlib import Path

import jax
from absl import logging

from ssagan_jax.checkpointing.best_checkpoint import CheckpointChoice, find_checkpoint
from ssagan_jax.checkpointing.checkpoints import Checkpoints
from ssagan_jax.errors import InputError
from ssagan_jax.inference.hub import download_model, is_on_hub
from ssagan_jax.inference.model_folder import is_model_folder, read_model_folder
from ssagan_jax.inference.sampler import Sampler, generation_variables
from ssagan_jax.inference.trained_model import TrainedModel
from ssagan_jax.steps.networks import build_networks
from ssagan_jax.steps.state import TrainState, abstract_state, network_variables
from ssagan_jax.workdir import Workdir, WorkdirError

_SOURCES = "a work folder, a model folder or a model's name on the hub, USER/NAME"


def load_model(source: str | os.PathLike[str], checkpoint: CheckpointChoice = None) -> TrainedModel:
    """Loads a trained model.

    Args:
      source: a work folder, a model folder, or a model's name "USER/NAME" on the Hugging Face hub,
        if there is no folder of that name.
      checkpoint: step of the checkpoint of a work folder, "best", or None for the latest.

    Raises:
      InputError: the source holds no such model.
    """
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"{source!r}: must be the path of {_SOURCES}")
    is_step = isinstance(checkpoint, int) and not isinstance(checkpoint, bool)
    if not is_step and checkpoint not in (None, "best"):
        raise InputError(f"checkpoint={checkpoint!r}: must be a step (an int), 'best' or None")
    folder = find_model_folder(source)
    if folder is None:
        _check_is_trained(source)
        handlers = root.handlers[:]
        try:
            return _from_workdir(Workdir(source), checkpoint)
        finally:
            root.handlers[:] = handlers  # Without one, the first message of absl sets it.
    model = read_model_folder(folder)
    if checkpoint is not None:
        raise InputError(
            f"checkpoint={checkpoint}: {source} is a model folder with a single checkpoint (step "
            f"{model.step}); leave out the checkpoint"
        )
    return model


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
    with jax.enable_x64(False):  # The user's program may have enabled it.
        template = abstract_state(config, tokenizer)
    while True:
        there = workdir.checkpoint_steps(), find_checkpoint(workdir, checkpoint)
        _, (folder, step) = there
        verbosity = logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)  # Orbax warns that a folder is opened read-only.
        try:
            return Checkpoints(folder, None, tokenizer.digest).restore(template, step=step)
        except Exception:  # Of a folder that is deleted while it is read, any.
            if there == (workdir.checkpoint_steps(), find_checkpoint(workdir, checkpoint)):
                raise
        finally:
            logging.set_verbosity(verbosity)


def find_model_folder(source: str | os.PathLike[str]) -> str | os.PathLike[str] | None:
    """The model folder that a source of `load_model` means; None if it means a work folder.

    Raises:
      InputError: it is a name on the hub, and there is no such model or no connection.
    """
    if is_on_hub(source):
        return download_model(source)
    source = os.path.expanduser(source)
    return source if is_model_folder(source) else None


def _check_is_trained(source: str | os.PathLike[str]) -> None:
    """Raises InputError, in words for the command line and Python, unless there is a config."""
    folder = Path(source).expanduser()
    if not (folder / "config.json").exists():
        missing = "no trained model here (config.json is missing)" if folder.exists() else ""
        raise InputError(f"{source}: {missing or 'there is no such folder'}; give {_SOURCES}")


def _from_workdir(workdir: Workdir, checkpoint: CheckpointChoice) -> TrainedModel:
    config, tokenizer = workdir.config(), workdir.tokenizer()
    workdir.check_generator()
    state = load_state(workdir, checkpoint)
    try:
        captions = tuple(workdir.fixed_samples().captions)
    except WorkdirError:  # A converted model has none, and painting needs none.
        captions = ()
    image_encoder = jax.device_put(network_variables(state)["image_encoder"])
    return TrainedModel(
        config=config,
        tokenizer=tokenizer,
        step=int(state.step),
        # On the device already, so that not every batch moves them there.
        variables=jax.device_put(generation_variables(state)),
        image_encoder=image_encoder if workdir.has_image_encoder() else None,
        example_captions=captions,
        sampler=Sampler(build_networks(config, tokenizer.vocabulary)),
    )
