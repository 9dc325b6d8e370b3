"""Readers of tensor files: safetensors and PyTorch's, without PyTorch.

A PyTorch file is a pickle, which can name any Python function and have it called. The unpickler
here knows dictionaries and tensors and refuses every other name, so reading runs no code.
"""

import collections
import functools
import json
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np
import safetensors.numpy
from flax import traverse_util

WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
WEIGHT_FILES += ("pytorch_model.bin", "pytorch_model.bin.index.json")
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_SHORT_TYPES = {"Double": "f8", "Float": "f4", "Half": "f2", "Long": "i8", "Int": "i4"}
_SHORT_TYPES |= {"Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "?"}
STORAGE_TYPES = {f"{name}Storage": np.dtype(code) for name, code in _SHORT_TYPES.items()}
STORAGE_TYPES["BFloat16Storage"] = np.dtype(ml_dtypes.bfloat16)
# torch.save before version 1.6 begins with a pickle of this number.
_LEGACY_START = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)


class _Tensor(NamedTuple):
    """A tensor as the pickle tells it; offset and strides count elements."""

    storage: tuple[str, str, int, int]  # key, type, count and, for a view of another, start
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_tensors(path: str | os.PathLike[str], keep_prefix: bool = False) -> dict[str, np.ndarray]:
    """Reads the tensors of a model file by name, without PyTorch and without running its code.

    Reads .safetensors, PyTorch's .pth, .pt and .bin (zip files and those from before PyTorch 1.6),
    and Hugging Face's .index.json with its shards beside it. Types are kept (bfloat16 as
    ml_dtypes'), strided tensors become contiguous, and the device does not matter.

    Of a PyTorch file that holds more than a state dict, the dictionary under the first of
    "state_dict", "model_state_dict" and "model" is read; failing these, all of it, with nested
    names joined by dots. What is no tensor (epochs, learning rates) is left out. The prefix
    "module." that DataParallel writes is taken off, unless `keep_prefix`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: the file is damaged, of another format, holds no tensor or asks for code.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no tensor file at {path}")
    try:
        if path.endswith(".index.json"):
            shards = [read_tensors(os.path.join(os.path.dirname(path), n)) for n in _shards(path)]
            tensors = {name: tensor for shard in shards for name, tensor in shard.items()}
        elif path.endswith(".safetensors"):
            tensors = safetensors.numpy.load_file(path)
        else:
            tensors = _read_torch(path, keep_prefix)
    except OSError:
        raise
    # Damage shows as any exception from inside the unpickler, zipfile or numpy.
    except Exception as error:
        raise ValueError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    if not tensors:
        raise ValueError(f"{path} holds no tensor")
    return tensors


def find_weight_file(folder_or_name: str, *names: str) -> str:
    """Path of the first of the files `names` that a checkpoint has.

    `folder_or_name` is a folder, or a name on the Hugging Face hub, whose local cache is used where
    it has the file. With an .index.json the hub's shards come along.

    Raises:
      FileNotFoundError: none is in the folder, or in the cache or on the hub.
    """
    if os.path.isdir(folder_or_name):
        paths = (os.path.join(folder_or_name, name) for name in names)
        if path := next(filter(os.path.isfile, paths), None):
            return path
        raise FileNotFoundError(f"{folder_or_name} holds none of {', '.join(names)}")
    # Slow to import, and of no use where the checkpoint is a folder.
    from transformers.utils import cached_file

    for name in names:
        try:
            path = cached_file(folder_or_name, name)
            for shard in _shards(path) if name.endswith(".index.json") else []:
                cached_file(folder_or_name, shard)
            return path
        except OSError as error:
            cause = error
    raise FileNotFoundError(
        f"no folder {folder_or_name!r} here, and a model of that name with {' or '.join(names)} is "
        "neither in the local Hugging Face cache nor to be had from the hub. Where there is a "
        f"network, run `hf download {folder_or_name} --local-dir FOLDER`, bring FOLDER here and "
        f"give its path instead of the name. Cause: {cause}"
    ) from cause


def match_tensors(
    tensors: Mapping[str, np.ndarray],
    variables: Any,
    torch_name: Callable[[tuple[str, ...]], str],
    ignored: str,
    source: str,
) -> dict[str, Any]:
    """Arranges PyTorch's tensors as a tree of float32 Flax variables.

    Args:
      tensors: by PyTorch's names.
      variables: the nested dictionary wanted, its leaves with a `shape`. Leaves with "kernel" in
        their name are [in, out] or [height, width, in, out]; PyTorch's are [out, in(, height,
        width)].
      torch_name: from a leaf's path to its name in `tensors`.
      ignored: regular expression for the beginning of names that may stand in `tensors` unused.
      source: what an error calls the tensors' origin.

    Raises:
      ValueError: names every tensor that is missing, misshapen or unknown.
    """
    arrays, problems, left = {}, [], dict(tensors)
    for place, wanted in traverse_util.flatten_dict(variables).items():
        name, shape = torch_name(place), tuple(wanted.shape)
        order = tuple(range(len(shape)))
        if "kernel" in place[-1]:
            shape, order = (shape[-1], shape[-2], *shape[:-2]), (*order[2:], 1, 0)
        tensor = left.pop(name, None)
        if tensor is None:
            problems.append(f"{name} is missing")
        elif tensor.shape != shape:
            problems.append(f"{name} has shape {tensor.shape} instead of {shape}")
        else:
            arrays[place] = np.ascontiguousarray(tensor.transpose(order), np.float32)
    problems += [f"{name} is unknown" for name in left if not re.match(ignored, name)]
    if problems:
        raise ValueError(f"{source} does not hold the network asked for: {'; '.join(problems)}")
    return traverse_util.unflatten_dict(arrays)


def _shards(path: str) -> list[str]:
    """File names of the shards of an index file."""
    with open(path, encoding="utf-8") as file:
        return sorted(set(json.load(file)["weight_map"].values()))


def _read_torch(path: str, keep_prefix: bool) -> dict[str, np.ndarray]:
    with open(path, "rb") as file:
        start = file.read(len(_LEGACY_START))
        file.seek(0)
        if start.startswith(b"PK"):
            content, storages = _open_zip(zipfile.ZipFile(file))
        elif start == _LEGACY_START:
            content, storages = _read_legacy(file)
        else:
            raise pickle.UnpicklingError("neither a PyTorch file nor called .safetensors")
        if not isinstance(content, dict):
            raise pickle.UnpicklingError(f"holds a {type(content).__name__}, not a dictionary")
        if not any(isinstance(value, _Tensor) for value in content.values()):
            wrapped = (content[key] for key in _WRAPPERS if isinstance(content.get(key), dict))
            content = next(wrapped, content)
        flat = _flatten(content, keep_prefix)
        return {name: _to_array(tensor, storages) for name, tensor in flat}


def _flatten(content: dict[Any, Any], keep_prefix: bool) -> Iterator[tuple[str, _Tensor]]:
    named = {str(key): value for key, value in content.items()}
    if not keep_prefix and all(name.startswith("module.") for name in named):
        named = {name.removeprefix("module."): value for name, value in named.items()}
    for name, value in named.items():
        if isinstance(value, _Tensor):
            yield name, value
        elif isinstance(value, dict):
            inside = _flatten(value, keep_prefix)
            yield from ((f"{name}.{inner}", tensor) for inner, tensor in inside)


def _open_zip(archive: zipfile.ZipFile) -> tuple[Any, Callable[[str], bytes]]:
    """The pickled object, and the reader of a storage's bytes by its key."""
    names = archive.namelist()
    root = next((name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")), "")
    if not root or f"{root}constants.pkl" in names:
        raise pickle.UnpicklingError("not of torch.save (of a TorchScript, save the state_dict())")
    if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
        raise pickle.UnpicklingError("written on a big-endian machine, which cannot be read")
    content = _Unpickler(archive.open(f"{root}data.pkl")).load()
    return content, functools.cache(lambda key: archive.read(f"{root}data/{key}"))


def _read_legacy(file: BinaryIO) -> tuple[Any, Callable[[str], bytes]]:
    """As `_open_zip`, for files from before PyTorch 1.6: five pickles, then the storages."""
    _, version, system = (_Unpickler(file).load() for _ in range(3))
    if version != 1001 or not system["little_endian"]:
        raise pickle.UnpicklingError(f"unknown format version {version} or byte order {system}")
    unpickler = _Unpickler(file)
    content = unpickler.load()
    storages = {}
    for key in _Unpickler(file).load():
        (count,) = struct.unpack("<q", file.read(8))
        kind = unpickler.kinds[str(key)]
        storages[str(key)] = file.read(count * STORAGE_TYPES[kind].itemsize)
    return content, storages.__getitem__


class _Unpickler(pickle.Unpickler):
    """Builds dictionaries and `_Tensor`s, and refuses every other name that a pickle asks for.

    What `find_class` gives out must have no state that a pickle's BUILD could overwrite: hence
    strings, tuples and bound methods instead of types and arrays.
    """

    def __init__(self, file: BinaryIO) -> None:
        # Checkpoints written under Python 2 hold byte strings.
        super().__init__(file, encoding="utf-8")
        self.kinds: dict[str, str] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name in the pickle; pickle.UnpicklingError if it has none."""
        if module in ("torch", "torch.cuda") and name in STORAGE_TYPES:
            return name
        allowed = {
            "collections.OrderedDict": collections.OrderedDict,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": self._parameter,
            "torch._utils._rebuild_parameter_with_state": self._parameter,
        }
        if f"{module}.{name}" not in allowed:
            raise pickle.UnpicklingError(
                f"refused: its pickle asks for {module}.{name}, which is neither a tensor nor a "
                "dictionary. If you trust the file, save its state_dict() alone from PyTorch"
            )
        return allowed[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> tuple[str, str, int, int]:
        """The storage that a persistent id of torch.save stands for."""
        tag, kind, key, _, count, *view = pid
        if tag != "storage" or kind not in STORAGE_TYPES:
            raise pickle.UnpicklingError(f"refused: its pickle refers to {pid!r}")
        self.kinds[str(key)] = kind
        _, start, count = view[0] if view and view[0] else (key, 0, count)
        return str(key), kind, count, start

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
        return _Tensor(storage, offset, tuple(shape), tuple(strides))

    def _parameter(self, tensor: Any, *_: Any) -> Any:
        return tensor


def _to_array(tensor: _Tensor, storages: Callable[[str], bytes]) -> np.ndarray:
    """Looks up a tensor's numbers, after checking that they lie inside its storage."""
    (key, kind, count, start), offset, shape, strides = tensor
    sizes = (count, start, offset, *shape, *strides)
    if len(shape) != len(strides) or not all(isinstance(n, int) and n >= 0 for n in sizes):
        raise pickle.UnpicklingError(f"a tensor of shape {shape} and strides {strides} is damaged")
    dtype = STORAGE_TYPES[kind]
    if 0 in shape:
        return np.zeros(shape, dtype)
    data = storages(key)
    numbers = np.frombuffer(data, dtype, len(data) // dtype.itemsize)[start : start + count]
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if last >= len(numbers):
        raise pickle.UnpicklingError(
            f"cut off or damaged: a tensor of shape {shape} reaches to number {last} of storage "
            f"{key}, which has {len(numbers)}"
        )
    steps = [step * dtype.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps).copy()
