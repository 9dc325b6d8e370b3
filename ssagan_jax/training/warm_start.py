"""Starting from another run: with its encoders instead of stage 1, or with all its networks."""

from collections.abc import Iterable

from ml_collections import ConfigDict

from ssagan_jax.checkpointing.load_state import load_state
from ssagan_jax.config import ConfigError, incompatible_keys, warm_start_dir
from ssagan_jax.config.validation import validate
from ssagan_jax.data.tokenizer import Tokenizer, TokenizerError
from ssagan_jax.steps.optimizers import build_optimizers
from ssagan_jax.steps.state import TrainState, network_variables, state_from_variables
from ssagan_jax.workdir import Workdir, WorkdirError

_ENCODERS = ("tokenizer", "text_encoder", "image_encoder")
# The other keys fix the shapes and function of a network.
_TRAINING_KEYS = ("dropout", "bert_dropout", "learning_rate", "updates")


def warm_start_tokenizer(config: ConfigDict, captions: Iterable[str]) -> Tokenizer:
    """The tokenizer of the run to start from.

    Raises:
      TokenizerError: there is none, or it knows no word of one of the captions.
    """
    tokenizer = Workdir(warm_start_dir(config)).tokenizer()
    for caption in captions:
        try:
            tokenizer.encode(caption, 1)
        except TokenizerError as error:
            raise TokenizerError(
                f"{warm_start_dir(config)}: {error}. A run that starts from another one uses its "
                "vocabulary; change such captions, or train from scratch"
            ) from None
    return tokenizer


def with_warm_start_sizes(config: ConfigDict, resumed: Workdir | None = None) -> ConfigDict:
    """A copy of the config with the network sizes of the run that `train.checkpoint` names.

    Args:
      config: with a `train.checkpoint`.
      resumed: the run's own folder if it has a checkpoint, which replaces the other run's folder.

    Raises:
      ConfigError: there is no such run, or the rest of the config does not fit its networks.
    """
    config, folder = ConfigDict(config), resumed or Workdir(config.train.checkpoint)
    try:
        source = folder.config()
        folder.check_generator()
    except WorkdirError as error:
        key = f"config.train.checkpoint={config.train.checkpoint!r}"
        raise ConfigError(f"{key}: {error}") from error
    config.data.image_size = source.data.image_size
    for section in (*_ENCODERS, "generator", "discriminator"):
        sizes = {key: value for key, value in source[section].items() if key not in _TRAINING_KEYS}
        config[section].update(sizes)
    validate(config)
    return config.lock()


def warm_start_state(config: ConfigDict) -> TrainState:
    """The state at step 0 with the weights of all networks of the run in `train.checkpoint`.

    Raises:
      InputError: there is no such run.
    """
    source = load_state(Workdir(config.train.checkpoint))
    state = state_from_variables(
        config, network_variables(source), build_optimizers(config, damsm_steps=1)
    )
    if state.ema is not None and source.ema is not None:
        state = state.replace(ema=source.ema)
    return state


def with_warm_start_encoders(state: TrainState, config: ConfigDict) -> TrainState:
    """The state with the encoders of the run in `damsm.checkpoint`.

    Raises:
      InputError: there is no such run, or it has other encoders.
    """
    workdir = Workdir(config.damsm.checkpoint)
    if differences := incompatible_keys(_encoder_keys(workdir.config()), _encoder_keys(config)):
        raise ConfigError(
            f"config.damsm.checkpoint={config.damsm.checkpoint!r}: its encoders differ: "
            + "; ".join(differences)
        )
    source = load_state(workdir)
    return state.replace(encoders=source.encoders, trunk=source.trunk)


def _encoder_keys(config: ConfigDict) -> ConfigDict:
    """The part of a config that the encoders' variables depend on."""
    parts = {section: config[section].to_dict() for section in _ENCODERS}
    if config.image_encoder.name == "cnn":
        parts["data"] = {"image_size": config.data.image_size}
    return ConfigDict(parts)
