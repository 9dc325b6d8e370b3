"""Reads PyTorch's .pth files safely: without PyTorch, and without running code in them.

A PyTorch file is a pickle, which can name any Python function and have it called. The unpickler
here knows dictionaries and tensors and refuses every other name.
"""

import collections
import functools
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_SHORT_TYPES = {"Double": "f8", "Float": "f4", "Half": "f2", "Long": "i8", "Int": "i4"}
_SHORT_TYPES |= {"Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "?"}
STORAGE_TYPES = {f"{name}Storage": np.dtype(code) for name, code in _SHORT_TYPES.items()}
STORAGE_TYPES["BFloat16Storage"] = np.dtype(ml_dtypes.bfloat16)
# Files written by torch.save before version 1.6 begin with a pickle of this number.
_LEGACY_START = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)


class _Tensor(NamedTuple):
    """A tensor as the pickle describes it; offset and strides count elements."""

    storage: tuple[str, str, int, int]  # key, type, count and, for a view of another, start
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_pth(path: str, keep_prefix: bool = False) -> dict[str, np.ndarray]:
    """Reads the tensors of a file that `torch.save` wrote, zip or older than PyTorch 1.6.

    Types are kept (bfloat16 as ml_dtypes'), strided tensors become contiguous, and devices are
    ignored. If the file holds more than a state dict, the dictionary under the first of
    "state_dict", "model_state_dict" and "model" is read, else all of it, with nested names joined
    by dots. Anything but tensors (epochs, learning rates) is skipped, and without `keep_prefix` the
    prefix "module." that DataParallel writes is removed.

    Raises:
      pickle.UnpicklingError: the file calls a function, or is of another format. Damage can raise
        any exception.
    """
    with open(path, "rb") as file:
        start = file.read(len(_LEGACY_START))
        file.seek(0)
        if start.startswith(b"PK"):
            content, storages = _open_zip(zipfile.ZipFile(file))
        elif start == _LEGACY_START:
            content, storages = _read_legacy(file)
        else:
            raise pickle.UnpicklingError("neither a PyTorch file nor named *.safetensors")
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
        raise pickle.UnpicklingError("not of torch.save (for TorchScript, save the state_dict())")
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
    """Builds dictionaries and `_Tensor`s, and refuses every other name in a pickle.

    What `find_class` returns must have no state that a pickle's BUILD could overwrite: hence
    strings, tuples and bound methods instead of types and arrays.
    """

    def __init__(self, file: BinaryIO) -> None:
        # Checkpoints written under Python 2 hold byte strings.
        super().__init__(file, encoding="utf-8")
        self.kinds: dict[str, str] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The replacement for a name in the pickle; raises pickle.UnpicklingError without one."""
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
        """The storage that a persistent id of torch.save refers to."""
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
    """Copies a tensor's numbers, after checking that they are inside of its storage."""
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
            f"truncated or damaged: a tensor of shape {shape} extends to element {last} of storage "
            f"{key}, which has {len(numbers)}"
        )
    steps = [step * dtype.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps).copy()
