"""Makes a config and a training state from PyTorch weights of SSA-GAN, AttnGAN and DF-GAN."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ssagan_jax.config import default_config, set_dataset
from ssagan_jax.config.validation import CONSTRAINTS, check_value
from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.errors import InputError
from ssagan_jax.models.generator import num_blocks
from ssagan_jax.pytorch.name_mapping import PYTORCH_NETWORKS, from_pytorch, infer_sizes
from ssagan_jax.pytorch.weight_files import read_tensors
from ssagan_jax.steps.networks import build_networks, initial_variables
from ssagan_jax.steps.optimizers import build_optimizers
from ssagan_jax.steps.state import (
    TrainState,
    abstract_state,
    network_variables,
    state_from_variables,
)

_KEYS = {
    "embedding_dim": "text_encoder.embedding_dim",
    "word_dim": "text_encoder.word_dim",
    "image_size": "data.image_size",
    "noise_dim": "generator.noise_dim",
    "mask_channels": "generator.mask_channels",
}


@dataclasses.dataclass(frozen=True)
class WeightSource:
    """A network's state dict.

    Attributes:
      flag: the flag that named the file.
      prefix: "module." if the names in the file have it, else "".
      tensors: by name, without the prefix.
      sizes: see `infer_sizes`.
    """

    flag: str
    prefix: str
    tensors: dict[str, np.ndarray]
    sizes: dict[str, int]


def read_weight_source(network: str, path: str) -> WeightSource:
    """Reads a network's state dict from a file that may hold those of several networks.

    Raises:
      InputError: the file is missing or damaged, calls a function, or is of another network.
    """
    flag = f"--{network}={path}"
    with _naming_flag(flag):
        tensors = read_tensors(path, keep_prefix=True)
        tensors = without_prefix(tensors, f"{PYTORCH_NETWORKS[network]}.") or tensors
        prefix = "module." if all(name.startswith("module.") for name in tensors) else ""
        tensors = without_prefix(tensors, prefix)
        return WeightSource(flag, prefix, tensors, infer_sizes(network, tensors))


def without_prefix(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The tensors whose names begin with a prefix, by their names without it."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def config_from_weights(
    sources: Mapping[str, WeightSource], data: str, data_dir: str
) -> ConfigDict:
    """The default config with the sizes that the tensors have.

    Raises:
      InputError: two files disagree, or a size or the name of the data set is not allowed.
    """
    check_value("data.name", data)
    config = set_dataset(default_config(), data)
    config.data.dir = data_dir
    config.damsm.epochs = 0  # The encoders are trained already.
    found: dict[str, dict[str, int]] = {}
    for network, source in sources.items():
        for name, size in source.sizes.items():
            key = _KEYS.get(name, f"{network}.{name}")
            found.setdefault(key, {})[source.flag] = size
    del found["text_encoder.vocab_size"]
    for key, values in found.items():
        size, *others = set(values.values())
        listed = ", ".join(f"{value} in {flag}" for flag, value in values.items())
        if others:
            raise InputError(f"{key} is {listed}; give files of the same model")
        is_valid, allowed = CONSTRAINTS[key]
        if not is_valid(size):
            raise InputError(f"{key} is {listed}; it must be {allowed}")
        config.update_from_flattened_dict({key: size})
    if "generator" not in sources:
        config.generator.channels = 1  # A placeholder, since the state needs a generator.
    if "discriminator" not in sources:
        config.discriminator.channels = config.generator.channels
    if "image_encoder" in sources:
        config.image_encoder.name = "inception_v3"
    blocks = num_blocks(config.data.image_size)
    config.generator.ssacn_blocks = max(blocks, config.generator.ssacn_blocks)
    return config


def state_from_weights(
    sources: Mapping[str, WeightSource], config: ConfigDict, tokenizer: Tokenizer
) -> tuple[TrainState, dict[str, np.ndarray]]:
    """A training state at step 0 with the given networks, the others untrained.

    Returns:
      The state, and the tensors that our networks do not use, as "network/name".

    Raises:
      InputError: names every tensor of a file that is missing, misshapen or unknown.
    """
    wanted = network_variables(abstract_state(config, tokenizer))
    converted, extras = {}, {}
    for network, source in sources.items():
        with _naming_flag(source.flag):
            converted[network], spare = from_pytorch(
                network, source.tensors, wanted[network], "the file"
            )
        extras |= {f"{network}/{name}": tensor for name, tensor in spare.items()}

    def untrained() -> dict[str, Any]:
        variables = initial_variables(config, build_networks(config, tokenizer.vocabulary))
        return {network: variables[network] for network in variables if network not in sources}

    variables = converted | jax.jit(untrained)()
    return state_from_variables(config, variables, build_optimizers(config, damsm_steps=1)), extras


@contextlib.contextmanager
def _naming_flag(flag: str) -> Iterator[None]:
    """Turns errors of a file into InputErrors that name the flag which gave it."""
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{flag}: {error}") from error
