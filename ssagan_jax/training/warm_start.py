"""Starting from another run or a model: with its encoders instead of stage 1, or with all networks.

A source is a work folder, a model folder or a model's name on the hub, as for `load_model`.
"""

import copy
import os
from collections.abc import Iterable
from typing import Any

import jax
from ml_collections import ConfigDict

from ssagan_jax.config import ConfigError, incompatible_keys, warm_start_dir
from ssagan_jax.config.validation import validate
from ssagan_jax.data.tokenizer import Tokenizer, TokenizerError
from ssagan_jax.errors import InputError
from ssagan_jax.inference.hub import is_on_hub
from ssagan_jax.inference.model_folder import (
    ModelFolderError,
    is_model_folder,
    read_model_folder,
)
from ssagan_jax.inference.model_loading import find_model_folder, load_state
from ssagan_jax.inference.trained_model import TrainedModel
from ssagan_jax.steps.networks import build_networks, initial_variables
from ssagan_jax.steps.optimizers import build_optimizers
from ssagan_jax.steps.state import TrainState, network_variables, state_from_variables
from ssagan_jax.workdir import Workdir

PyTree = Any

_ENCODERS = ("tokenizer", "text_encoder", "image_encoder")
_SHARED_TEXT_KEYS, _LSTM_KEYS = ("name", "embedding_dim", "normalize"), ("word_dim",)
# The other keys fix the shapes and function of a network.
_TRAINING_KEYS = ("dropout", "bert_dropout", "learning_rate", "updates")


def warm_start_tokenizer(config: ConfigDict, captions: Iterable[str]) -> Tokenizer:
    """The tokenizer of the run to start from.

    Raises:
      ConfigError: there is none.
      TokenizerError: it knows no word of one of the captions.
    """
    source = warm_start_dir(config)
    try:
        model = _read_model(source)
        tokenizer = model.tokenizer if model else Workdir(source).tokenizer()
    except InputError as error:
        key = "train.checkpoint" if config.train.checkpoint else "damsm.checkpoint"
        raise ConfigError(f"config.{key}={source!r}: {error}") from error
    for caption in captions:
        try:
            tokenizer.encode(caption, 1)
        except TokenizerError as error:
            raise TokenizerError(
                f"{source}: {error}. A run that starts from another one uses its "
                "vocabulary; change such captions, or train from scratch"
            ) from None
    return tokenizer


def with_warm_start_sizes(config: ConfigDict, resumed: Workdir | None = None) -> ConfigDict:
    """A copy of the config with the network sizes of the run or model in `train.checkpoint`.

    Args:
      config: with a `train.checkpoint`.
      resumed: the run's own folder if it has a checkpoint, which replaces the other run's folder.

    Raises:
      ConfigError: there is no such run, or the rest of the config does not fit its networks.
    """
    config, name = copy.deepcopy(config), config.train.checkpoint
    try:
        model = None if resumed else _read_model(name)
        # A model folder has no discriminator: its keys are the user's, also when resuming.
        has_discriminator = not model and not _names_model(name)
        if model:
            source = model.config
        else:
            folder = resumed or Workdir(name)
            source = folder.config()
            folder.check_generator()
    except InputError as error:
        raise ConfigError(f"config.train.checkpoint={name!r}: {error}") from error
    config.data.image_size = source.data.image_size
    sections = (*_ENCODERS, "generator")
    if has_discriminator:
        sections += ("discriminator",)
    for section in sections:
        sizes = {key: value for key, value in source[section].items() if key not in _TRAINING_KEYS}
        config[section].update(sizes)
    try:
        validate(config)
    except ConfigError as error:
        raise ConfigError(
            f"{error} (sizes are those of config.train.checkpoint={name!r})"
        ) from error
    return config.lock()


def warm_start_state(config: ConfigDict) -> TrainState:
    """The state at step 0 with the weights of all networks that `train.checkpoint` names.

    A model folder has no discriminator; the state then has a new one.

    Raises:
      InputError: there is no such run or model.
    """
    optimizers = build_optimizers(config, damsm_steps=1)
    if model := _read_model(config.train.checkpoint):
        return state_from_variables(config, _variables(config, model), optimizers)
    source = _load_trained("train.checkpoint", config.train.checkpoint)
    state = state_from_variables(config, network_variables(source), optimizers)
    if state.ema is not None and source.ema is not None:
        state = state.replace(ema=source.ema)
    return state


def with_warm_start_encoders(state: TrainState, config: ConfigDict) -> TrainState:
    """The state with the encoders of the run or model in `damsm.checkpoint`.

    Raises:
      InputError: there is no such run or model, or it has other encoders.
    """
    name = config.damsm.checkpoint
    model = _read_model(name)
    source = model.config if model else Workdir(name).config()
    if differences := incompatible_keys(_encoder_keys(source), _encoder_keys(config)):
        raise ConfigError(
            f"config.damsm.checkpoint={name!r}: its encoders differ: {'; '.join(differences)}; set "
            "these keys to its values, or use config.train.checkpoint, which takes its sizes over"
        )
    if model:
        encoders = {"text": model.variables["text"], "image": model.image_encoder["params"]}
        return state.replace(encoders=encoders, trunk=model.image_encoder["trunk"])
    source = _load_trained("damsm.checkpoint", name)
    return state.replace(encoders=source.encoders, trunk=source.trunk)


def _load_trained(key: str, name: str) -> TrainState:
    """The state of a work folder that a key names; ConfigError if it is not trained so far."""
    workdir = Workdir(name)
    state, schedule = load_state(workdir), workdir.schedule()
    step, last = int(state.step), schedule.damsm_steps
    if step < last:
        raise ConfigError(
            f"config.{key}={name!r}: its encoders have been trained for {step} of {last} steps; "
            "resume it until stage 1 has ended"
        )
    if key == "train.checkpoint" and not schedule.is_generator_trained(step):
        raise ConfigError(
            f"config.{key}={name!r}: its generator is not trained yet; name it in "
            "config.damsm.checkpoint to start stage 2 with its encoders"
        )
    return state


def _names_model(source: str) -> bool:
    """Whether this names a model folder or a model on the hub, without downloading it."""
    return is_on_hub(source) or is_model_folder(os.path.expanduser(source))


def _read_model(source: str) -> TrainedModel | None:
    """The model of a model folder or of the hub; None if the source is a work folder.

    Raises:
      InputError: there is no such model, or it has no image encoder.
    """
    folder = find_model_folder(source)
    if folder is None:
        if not Workdir(source).path.exists():
            raise ModelFolderError(
                "no work folder or model folder there; give one, or USER/NAME of a model on the hub"
            )
        return None
    model = read_model_folder(folder)
    if model.image_encoder is None:
        raise ModelFolderError(
            f"{source}: has no image encoder, which training needs; start from its work folder"
        )
    return model


def _variables(config: ConfigDict, model: TrainedModel) -> dict[str, PyTree]:
    """Variables as `network_variables` returns them, the discriminator's drawn anew."""
    networks = build_networks(config, model.tokenizer.vocabulary)
    return {
        "text_encoder": {"params": model.variables["text"]},
        "image_encoder": model.image_encoder,
        "generator": model.variables["generator"],
        "discriminator": jax.jit(lambda: initial_variables(config, networks)["discriminator"])(),
    }


def _encoder_keys(config: ConfigDict) -> ConfigDict:
    """The part of a config that the encoders' variables depend on."""
    parts = {section: config[section].to_dict() for section in _ENCODERS}
    name = config.text_encoder.name
    parts["text_encoder"] = {
        key: value
        for key, value in parts["text_encoder"].items()
        if key in _SHARED_TEXT_KEYS or (key in _LSTM_KEYS) == (name == "lstm")
    }
    for section in parts.values():
        for key in _TRAINING_KEYS:
            section.pop(key, None)
    if config.image_encoder.name == "cnn":
        parts["data"] = {"image_size": config.data.image_size}
    return ConfigDict(parts)
