"""Weights of another run: its encoders instead of stage 1, or all of its networks to fine-tune."""

from collections.abc import Iterable

from ml_collections import ConfigDict

from ssagan_jax.config import ConfigError, incompatible_keys, warm_start_dir
from ssagan_jax.config_validation import validate
from ssagan_jax.data.tokenizer import Tokenizer, TokenizerError
from ssagan_jax.inference.model import load_model
from ssagan_jax.steps.optimizers import build_optimizers
from ssagan_jax.steps.state import TrainState, network_variables, state_from_variables
from ssagan_jax.workdir import Workdir, WorkdirError

# What makes a network's shape and function; how it is trained stays the run's own.
_SIZES = {
    "data": ("image_size",),
    "generator": (
        "noise_dim",
        "channels",
        "ssacn_blocks",
        "mask_channels",
        "modulation",
        "upsampling",
    ),
    "discriminator": ("channels",),
}
_ENCODERS = ("tokenizer", "text_encoder", "image_encoder")
_OWN = ("dropout", "bert_dropout")


def warm_start_tokenizer(config: ConfigDict, captions: Iterable[str]) -> Tokenizer:
    """The donor's tokenizer.

    Raises:
      TokenizerError: there is none, or one of the captions has no word that it knows.
    """
    tokenizer = Workdir(warm_start_dir(config)).tokenizer()
    for caption in captions:
        try:
            tokenizer.encode(caption, 1)
        except TokenizerError as error:
            raise TokenizerError(
                f"{warm_start_dir(config)}: {error}. Its words are all that the run can read; "
                "change such captions, or train without it"
            ) from None
    return tokenizer


def with_warm_start_sizes(config: ConfigDict, started: Workdir | None = None) -> ConfigDict:
    """A copy of the config with the networks of the run that `train.checkpoint` names.

    Args:
      config: with a `train.checkpoint`.
      started: the run's own folder once it has a checkpoint; the donor is no longer needed then.

    Raises:
      ConfigError: there is no such run, or the rest of the config does not fit its networks.
    """
    config, folder = ConfigDict(config), started or Workdir(config.train.checkpoint)
    try:
        donor = folder.config()
        folder.check_generator()
    except WorkdirError as error:
        key = f"config.train.checkpoint={config.train.checkpoint!r}"
        raise ConfigError(f"{key}: {error}") from error
    for section, keys in _SIZES.items():
        config[section].update({key: donor[section][key] for key in keys})
    for section in _ENCODERS:
        sizes = {key: value for key, value in donor[section].items() if key not in _OWN}
        config[section].update(sizes)
    validate(config)
    return config.lock()


def warm_start_state(config: ConfigDict) -> TrainState:
    """The state at step 0 with all weights of the run that `train.checkpoint` names.

    Raises:
      InputError: there is no such run.
    """
    donor = load_model(config.train.checkpoint).state
    state = state_from_variables(
        config, network_variables(donor), build_optimizers(config, damsm_steps=1)
    )
    if state.ema is not None and donor.ema is not None:
        state = state.replace(ema=donor.ema)
    return state


def with_warm_start_encoders(state: TrainState, config: ConfigDict) -> TrainState:
    """The state with the encoders of the run that `damsm.checkpoint` names.

    Raises:
      InputError: there is no such run, or it has other encoders.
    """
    donor = load_model(config.damsm.checkpoint)
    if faults := incompatible_keys(_encoders_of(donor.config), _encoders_of(config)):
        raise ConfigError(
            f"config.damsm.checkpoint={config.damsm.checkpoint!r}: its encoders differ: "
            + "; ".join(faults)
        )
    return state.replace(encoders=donor.state.encoders, trunk=donor.state.trunk)


def _encoders_of(config: ConfigDict) -> ConfigDict:
    """What the encoders' variables depend on."""
    parts = {section: config[section].to_dict() for section in _ENCODERS}
    if config.image_encoder.name == "cnn":
        parts["data"] = {"image_size": config.data.image_size}
    return ConfigDict(parts)
