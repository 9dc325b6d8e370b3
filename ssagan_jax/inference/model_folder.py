"""A model folder: the weights that generate images, with what is needed to use them.

config.json                 format version, step, example captions and the run's config
tokenizer.json              vocabulary
generator.safetensors       "params/..." and "batch_stats/...", averaged if the run has averages
text_encoder.safetensors    parameters
image_encoder.safetensors   of the small CNN, to score images; an Inception v3 is left out
README.md, samples.png      model card

Reading it runs no code, and allocates no more than a multiple of the size of its files.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
import safetensors.numpy
from ml_collections import ConfigDict

from ssagan_jax.config import config_from_dict, flatten
from ssagan_jax.config.validation import validate
from ssagan_jax.data.tokenizer import Tokenizer, TokenizerError, tokenizer_from_json
from ssagan_jax.errors import DamagedFileError, InputError
from ssagan_jax.inference.sampler import Sampler
from ssagan_jax.inference.trained_model import TrainedModel
from ssagan_jax.steps.networks import build_networks, initial_variables
from ssagan_jax.untrusted.files import parse_json, read_text
from ssagan_jax.untrusted.limits import TEXT_BYTES, TOKENIZER_BYTES
from ssagan_jax.untrusted.safetensors_files import open_safetensors, read_safetensors

PyTree = Any

FORMAT_VERSION = 1
CONFIG, TOKENIZER, CARD, SAMPLES = "config.json", "tokenizer.json", "README.md", "samples.png"
NETWORKS = ("generator", "text_encoder", "image_encoder")
WEIGHTS = {network: f"{network}.safetensors" for network in NETWORKS}
FILES = (CONFIG, TOKENIZER, *WEIGHTS.values(), CARD, SAMPLES)
_NETWORKS_BY_KEY = {"generator": "generator", "text": "text_encoder"}
_OPTIONAL = "image_encoder"
_MAX_EXAMPLES, _MAX_EXAMPLE_LENGTH = 64, 1000
# Sizes of unused parts, such as BERT's in a model with an LSTM, may exceed a small model's weights.
_MAX_UNUSED_SIZE = 2**16


class ModelFolderError(InputError):
    """A folder holds no model, a damaged one, or one of a newer version."""


def is_model_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a folder looks like a model folder, complete or not, rather than a work folder."""
    path = Path(path)
    if any((path / name).exists() for name in WEIGHTS.values()):
        return True
    try:
        return "format_version" in parse_json(_read_text(path / CONFIG))
    except (OSError, ValueError, TypeError, InputError):
        return False


def write_model_folder(folder: Path, model: TrainedModel, dtype: str = "float32") -> None:
    """Writes all files but the model card.

    Args:
      folder: an existing folder.
      model: to write.
      dtype: of the stored parameters, "float32" or "float16". Statistics, and parameters too large
        for float16, stay float32.
    """
    content = {
        "model_type": "ssagan_jax",
        "format_version": FORMAT_VERSION,
        "step": model.step,
        "example_captions": [
            caption[:_MAX_EXAMPLE_LENGTH] for caption in model.example_captions[:_MAX_EXAMPLES]
        ],
        "config": _without_paths(model.config),
    }
    (folder / CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    model.tokenizer.save(folder / TOKENIZER)
    variables = {_NETWORKS_BY_KEY[key]: tree for key, tree in model.variables.items()}
    if model.image_encoder is not None and model.config.image_encoder.name == "cnn":
        variables[_OPTIONAL] = model.image_encoder
    for network, tree in variables.items():
        tensors = {
            name: _stored(name, np.asarray(leaf, np.float32), dtype)
            for name, leaf in flax.traverse_util.flatten_dict(tree, sep="/").items()
        }
        # save_file would make a file that only its owner can read.
        (folder / WEIGHTS[network]).write_bytes(safetensors.numpy.save(tensors))


def _stored(name: str, tensor: np.ndarray, dtype: str) -> np.ndarray:
    fits = np.abs(tensor).max(initial=0) <= np.finfo(np.float16).max
    halve = dtype == "float16" and fits and not name.startswith("batch_stats/")
    return np.ascontiguousarray(tensor.astype(np.float16) if halve else tensor)


def _without_paths(config: ConfigDict) -> dict[str, Any]:
    """The config's values, in which paths of the machine are shortened to their last part."""
    values = config.to_dict()
    for section, key in (
        ("data", "dir"),
        ("data", "prepared_dir"),
        ("damsm", "checkpoint"),
        ("train", "checkpoint"),
        ("image_encoder", "weights"),
        ("eval", "inception_weights"),
        ("text_encoder", "pretrained"),
        ("tokenizer", "pretrained"),
    ):
        value = values[section][key]
        # "pretrained" may be a name on the hub.
        is_name = key == "pretrained" and not os.path.isabs(value) and not os.path.exists(value)
        if not is_name:
            values[section][key] = Path(value).name
    if config.image_encoder.name != "cnn":
        values["image_encoder"]["weights"] = "left out"
    return values


def read_model_folder(path: str | os.PathLike[str]) -> TrainedModel:
    """Reads a folder that `write_model_folder` wrote, after checking that all of it fits together.

    Raises:
      ModelFolderError: it is not a model, of a newer version, or its tensors do not fit.
      ConfigError, TokenizerError: its config or vocabulary cannot be used.
    """
    path = Path(path)
    content = _read_config(path / CONFIG)
    shapes = {
        network: _read_shapes(path / name)
        for network, name in WEIGHTS.items()
        if network != _OPTIONAL or (path / name).exists()
    }
    config = _checked_config(path / CONFIG, content["config"], shapes)
    try:
        tokenizer = tokenizer_from_json(_read_text(path / TOKENIZER))
    except ModelFolderError:
        raise
    except (ValueError, TypeError, LookupError) as error:
        raise TokenizerError(f"{path / TOKENIZER}: not a tokenizer file ({error})") from error
    wanted = _wanted_shapes(path / CONFIG, config, tokenizer)
    variables = {}
    for network, found in shapes.items():
        _check_shapes(path / WEIGHTS[network], found, wanted[network])
        variables[network] = _read_tensors(path / WEIGHTS[network])
    if _OPTIONAL in variables:
        variables[_OPTIONAL].setdefault("trunk", {})
    return TrainedModel(
        config=config,
        tokenizer=tokenizer,
        step=content["step"],
        variables={key: variables[network] for key, network in _NETWORKS_BY_KEY.items()},
        image_encoder=variables.get(_OPTIONAL),
        example_captions=tuple(content["example_captions"]),
        sampler=Sampler(build_networks(config, tokenizer.vocabulary)),
    )


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise ModelFolderError(
            f"{path.parent}: no model here ({path.name} is missing); give a work folder or a "
            "folder of python -m ssagan_jax.export"
        )
    try:
        return read_text(path, TOKENIZER_BYTES if path.name == TOKENIZER else TEXT_BYTES)
    except DamagedFileError as error:
        raise ModelFolderError(str(error)) from None


def _read_config(path: Path) -> dict[str, Any]:
    """The content of config.json with values of the right types."""
    try:
        content = parse_json(_read_text(path))
        version = int(content["format_version"])
        if version > FORMAT_VERSION:
            raise ModelFolderError(
                f"{path}: format_version={version} is newer than this version of the project, "
                f"which reads up to {FORMAT_VERSION}; upgrade ssagan_jax"
            )
        examples = content["example_captions"]
        if not (
            version >= 1
            and isinstance(content["step"], int)
            and isinstance(examples, list)
            and len(examples) <= _MAX_EXAMPLES
            and all(isinstance(each, str) for each in examples)
            and max(map(len, examples), default=0) <= _MAX_EXAMPLE_LENGTH
        ):
            raise ValueError("format_version, step or example_captions have another form")
        return content
    except ModelFolderError:
        raise
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ModelFolderError(
            f"{path}: not the config of a model folder ({type(error).__name__}: {error}); export "
            "the model again"
        ) from error


def _read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes by name, from the header, whose offsets safetensors checks against the file's size."""
    if not path.is_file():
        raise ModelFolderError(f"{path}: is missing; copy or download the model folder again")
    try:
        with open_safetensors(path) as file:
            slices = {name: file.get_slice(name) for name in file.keys()}
            dtypes = {name: each.get_dtype() for name, each in slices.items()}
            shapes = {name: tuple(each.get_shape()) for name, each in slices.items()}
    except DamagedFileError as error:
        raise ModelFolderError(str(error)) from error
    if wrong := [name for name, dtype in dtypes.items() if dtype not in ("F32", "F16")]:
        problem = f"{wrong[0]} has type {dtypes[wrong[0]]}; allowed: F32, F16"
        raise ModelFolderError(f"{path}: {problem}; convert it, or export the model again")
    return shapes


def _checked_config(
    path: Path, values: dict[str, Any], shapes: dict[str, dict[str, tuple[int, ...]]]
) -> ConfigDict:
    """The config, if the networks that it describes are no larger than the stored weights."""
    try:
        config = config_from_dict(values)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ModelFolderError(f"{path}: not a config of this version ({error!s:.300})") from error
    validate(config)
    numbers = sum(int(np.prod(shape)) for each in shapes.values() for shape in each.values())
    most = max(numbers, _MAX_UNUSED_SIZE)
    for key, value in flatten(config).items():
        size = key.startswith(("text_encoder.", "image_encoder.", "generator.", "discriminator."))
        if size and isinstance(value, int) and value > most:
            raise ModelFolderError(f"{path}: {key}={value} exceeds the {numbers} stored numbers")
    layers, text = config.text_encoder.num_layers, shapes["text_encoder"]
    if config.text_encoder.name == "bert" and layers > len(text):
        raise ModelFolderError(
            f"{path}: text_encoder.num_layers={layers} exceeds the {len(text)} stored tensors"
        )
    return config


def _wanted_shapes(
    path: Path, config: ConfigDict, tokenizer: Tokenizer
) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes of each network's variables, by name."""
    networks = build_networks(config, tokenizer.vocabulary)
    try:
        variables = jax.eval_shape(lambda: initial_variables(config, networks))
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelFolderError(f"{path}: describes no network ({error})") from error
    variables["text_encoder"] = variables["text_encoder"]["params"]
    return {
        network: {
            name: tuple(leaf.shape)
            for name, leaf in flax.traverse_util.flatten_dict(variables[network], sep="/").items()
        }
        for network in NETWORKS
    }


def _check_shapes(
    path: Path, found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]
) -> None:
    problems = list(_differences(found, wanted))
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelFolderError(
            f"{path}: does not fit config.json: {'; '.join(problems[:3])}{more}; export the model "
            "again"
        )


def _differences(
    found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]
) -> Iterator[str]:
    for name in sorted(found.keys() | wanted.keys()):
        shown = re.sub(r"[^ -~]", "?", name)[:100]
        if name not in found:
            yield f"{shown} is missing"
        elif name not in wanted:
            yield f"{shown} is unknown"
        elif found[name] != wanted[name]:
            yield f"{shown} has shape {list(found[name])}, not {list(wanted[name])}"


def _read_tensors(path: Path) -> PyTree:
    tensors = read_safetensors(path)
    tree = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    return jax.device_put(flax.traverse_util.unflatten_dict(tree, sep="/"))
