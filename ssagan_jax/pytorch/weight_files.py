"""Reads tensors from model files of any format, and finds those of a Hugging Face checkpoint."""

import os
import re

import numpy as np

from ssagan_jax.errors import DamagedFileError
from ssagan_jax.pytorch.pth_reader import read_pth
from ssagan_jax.untrusted import limits
from ssagan_jax.untrusted.files import read_json
from ssagan_jax.untrusted.published_files import find_published_file
from ssagan_jax.untrusted.safetensors_files import read_safetensors

_WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
_WEIGHT_FILES += ("pytorch_model.bin", "pytorch_model.bin.index.json")


def read_tensors(path: str | os.PathLike[str], keep_prefix: bool = False) -> dict[str, np.ndarray]:
    """Reads the tensors of a model file by name, without PyTorch and without running code in it.

    Reads .safetensors, PyTorch's .pth, .pt and .bin (see `read_pth`), and Hugging Face's
    .index.json with its shards beside it. `keep_prefix` is that of `read_pth`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: the file is damaged, of another format, without tensors, or calls a function.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no tensor file at {path}")
    try:
        if path.endswith(".index.json"):
            shards = [read_tensors(os.path.join(os.path.dirname(path), n)) for n in _shards(path)]
            tensors = {name: tensor for shard in shards for name, tensor in shard.items()}
        elif path.endswith(".safetensors"):
            tensors = read_safetensors(path)
        else:
            tensors = read_pth(path, keep_prefix)
    except (OSError, DamagedFileError):
        raise
    # Damage can raise any exception inside zipfile, zlib or numpy.
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read: {type(error).__name__}: {error!s:.300}"
        ) from error
    if not tensors:
        raise ValueError(f"{path} holds no tensor")
    return tensors


def find_weight_file(folder_or_name: str) -> str:
    """Path of the weights of a Hugging Face checkpoint; downloads the shards of an index, too.

    Argument and errors are those of `find_published_file`.
    """
    path = find_published_file(folder_or_name, *_WEIGHT_FILES)
    if not os.path.isdir(folder_or_name) and path.endswith(".index.json"):
        for shard in _shards(path):
            find_published_file(folder_or_name, shard)
    return path


def _shards(path: str) -> list[str]:
    """File names of the shards of an index file, all of them beside it.

    Raises:
      ValueError: it names something else, such as a file of another folder or another index.
    """
    names = read_json(path, limits.INDEX_BYTES)["weight_map"].values()
    shards = sorted({name for name in names if isinstance(name, str)})
    wrong = [name for name in shards if not re.fullmatch(r"[\w.-]+\.(safetensors|bin)", name)]
    if wrong or len(shards) > limits.SHARDS:
        listed = f"{wrong[0]!r:.80}" if wrong else f"{len(shards)} files"
        raise ValueError(f"{path}: names {listed}, not files *.safetensors or *.bin beside it")
    return shards
