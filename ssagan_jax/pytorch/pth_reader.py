"""Reads PyTorch's .pth files safely: without PyTorch, and without running code in them.

A PyTorch file is a pickle, which can name any Python function and have it called. Here only
dictionaries and tensors are built, and every other name is refused. What a file declares is checked
against its size before anything is unpacked or allocated.
"""

import contextlib
import functools
import math
import mmap
import pickle
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from ssagan_jax.untrusted import limits
from ssagan_jax.untrusted.archives import BoundedZip
from ssagan_jax.untrusted.files import open_regular
from ssagan_jax.untrusted.pickle_names import Name, Names, PickleRefused, check_key
from ssagan_jax.untrusted.pickle_reader import run_pickle

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_SHORT_TYPES = {"Double": "f8", "Float": "f4", "Half": "f2", "Long": "i8", "Int": "i4"}
_SHORT_TYPES |= {"Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "?"}
STORAGE_TYPES = {f"{name}Storage": np.dtype(code) for name, code in _SHORT_TYPES.items()}
STORAGE_TYPES["BFloat16Storage"] = np.dtype(ml_dtypes.bfloat16)
# Files written by torch.save before version 1.6 begin with a pickle of this number.
_LEGACY_START = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)


class _Storage(NamedTuple):
    """Numbers that tensors share; start and count are those of a view of them."""

    key: str
    kind: str
    start: int
    count: int


class _Tensor(NamedTuple):
    """A tensor as the pickle describes it; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def is_plain(self) -> bool:
        """Whether all of it are numbers that can be those of a tensor."""
        (_, _, start, count), offset, shape, strides = self
        sizes = (start, count, offset, *shape, *strides)
        few = len(shape) == len(strides) <= limits.TENSOR_DIMENSIONS
        return few and all(isinstance(n, int) and 0 <= n < 2**63 for n in sizes)


class _Storages(NamedTuple):
    """The storages of a file: their sizes in bytes by key, and the function that reads one."""

    sizes: dict[str, int]
    read: Callable[[str], bytes]


def read_pth(path: str, keep_prefix: bool = False) -> dict[str, np.ndarray]:
    """Reads the tensors of a file that `torch.save` wrote, zip or older than PyTorch 1.6.

    Types are kept (bfloat16 as ml_dtypes'), strided tensors become contiguous, and devices are
    ignored. If the file holds more than a state dict, the dictionary under the first of
    "state_dict", "model_state_dict" and "model" is read, else all of it, with nested names joined
    by dots. Anything but tensors (epochs, learning rates) is skipped, and without `keep_prefix` the
    prefix "module." that DataParallel writes is removed.

    Raises:
      ValueError, zipfile.BadZipFile: the file calls a function, is damaged or of another format, or
        exceeds a limit (`ssagan_jax.untrusted.limits`).
    """
    with open_regular(path) as file:
        start = file.read(len(_LEGACY_START))
        file.seek(0)
        if start.startswith(b"PK"):
            content, storages = _open_zip(BoundedZip(file))
        elif start == _LEGACY_START:
            content, storages = _read_legacy(file)
        else:
            raise ValueError("neither a PyTorch file nor named *.safetensors")
        if not isinstance(content, dict):
            raise ValueError(f"holds a {type(content).__name__}, not a dictionary")
        if not any(isinstance(value, _Tensor) for value in content.values()):
            wrapped = (content[key] for key in _WRAPPERS if isinstance(content.get(key), dict))
            content = next(wrapped, content)
        flat = dict(_flatten(content, keep_prefix))
        _check_sizes(flat, storages)
        return {name: _to_array(tensor, storages) for name, tensor in flat.items()}


def _flatten(content: dict[Any, Any], keep_prefix: bool) -> Iterator[tuple[str, _Tensor]]:
    named = {str(key): value for key, value in content.items()}
    if max(map(len, named), default=0) > limits.TENSOR_NAME:
        raise ValueError(f"has a name of more than {limits.TENSOR_NAME} letters")
    if not keep_prefix and all(name.startswith("module.") for name in named):
        named = {name.removeprefix("module."): value for name, value in named.items()}
    for name, value in named.items():
        if isinstance(value, _Tensor):
            yield name, value
        elif isinstance(value, dict):
            inside = _flatten(value, keep_prefix)
            yield from ((f"{name}.{inner}", tensor) for inner, tensor in inside)


def _open_zip(archive: BoundedZip) -> tuple[Any, _Storages]:
    """The pickled object, and the storages."""
    names = set(archive.names)
    pickles = (name for name in archive.names if name.endswith("/data.pkl"))
    root = next(pickles, "").removesuffix("data.pkl")
    if not root or f"{root}constants.pkl" in names:
        raise ValueError("not of torch.save (for TorchScript, save the state_dict())")
    if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
        raise ValueError("written on a big-endian machine, which cannot be read")
    if archive.size(f"{root}data.pkl") > limits.PICKLE_BYTES:
        raise ValueError(f"its pickle has more than {limits.PICKLE_BYTES} bytes")
    content, _ = _run(archive.read(f"{root}data.pkl"), _TensorNames())
    prefix = f"{root}data/"
    sizes = {n.removeprefix(prefix): archive.size(n) for n in names if n.startswith(prefix)}
    return content, _Storages(sizes, functools.cache(lambda key: archive.read(f"{prefix}{key}")))


def _read_legacy(file: BinaryIO) -> tuple[Any, _Storages]:
    """As `_open_zip`, for files from before PyTorch 1.6: five pickles, then the storages."""
    with contextlib.closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as data:
        position, parts = 0, []
        names = _TensorNames()
        for _ in range(5):
            part, position = _run(data, names, position)
            parts.append(part)
        _, version, system, content, keys = parts
        if version != 1001 or not system["little_endian"]:
            raise ValueError(f"unknown format version {version} or byte order {system}")
        storages: dict[str, bytes] = {}
        for key in map(str, keys):
            count = int.from_bytes(data[position : position + 8], "little", signed=True)
            size = count * STORAGE_TYPES[names.kinds[key]].itemsize
            position += 8
            if not 0 <= size <= len(data) - position:
                raise ValueError(f"truncated or damaged: storage {key} has {size} bytes")
            storages[key] = data[position : position + size]
            position += size
    sizes = {key: len(storage) for key, storage in storages.items()}
    return content, _Storages(sizes, storages.__getitem__)


def _run(data: bytes | mmap.mmap, names: Names, start: int = 0) -> tuple[Any, int]:
    """`run_pickle` of text in UTF-8, since checkpoints of Python 2 hold byte strings."""
    try:
        return run_pickle(data, names, "utf-8", start)
    except PickleRefused as error:
        raise ValueError(f"refused: its pickle {error}") from None


class _TensorNames(Names):
    """Dictionaries and tensors.

    Attributes:
      kinds: types of the storages that were referred to, by key.
    """

    results = (Name, _Storage, _Tensor)

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}
        self._count = 0
        self._functions = {
            "collections.OrderedDict": self._dictionary,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
            "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
        }

    def check(self, name: Name) -> None:
        is_storage = name.module in ("torch", "torch.cuda") and name.name in STORAGE_TYPES
        if not is_storage and str(name) not in self._functions:
            raise PickleRefused(
                f"asks for {name}, which is neither a tensor nor a dictionary. If you trust the "
                "file, save its state_dict() alone from PyTorch"
            )

    def call(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        if str(name) not in self._functions:
            raise PickleRefused(f"calls {name}")
        return self._functions[str(name)](*arguments)

    def build(self, target: Any, state: Any) -> Any:
        # PyTorch sets attributes of dictionaries, such as the versions of modules.
        return target if type(target) is dict else super().build(target, state)

    def load_persistent(self, reference: Any) -> _Storage:
        """The storage that a persistent id of torch.save refers to."""
        tag, kind, key, _, count, *view = reference
        if tag != "storage" or not isinstance(kind, Name) or kind.name not in STORAGE_TYPES:
            raise PickleRefused(f"refers to {reference!r:.80}")
        self.kinds[str(key)] = kind.name
        _, start, count = view[0] if view and view[0] else (key, 0, count)
        return _Storage(str(key), kind.name, start, count)

    def _dictionary(self, pairs: Any = ()) -> dict[Any, Any]:
        """Python 2 pickles an ordered dictionary with its pairs."""
        self._count_entries(len(pairs))
        for key, _ in pairs:
            check_key(key)
        return dict(pairs)

    def _count_entries(self, count: int) -> None:
        self._count += count
        if self._count > limits.TENSORS:
            raise PickleRefused(f"has more than {limits.TENSORS:,} tensors")

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
        self._count_entries(1)
        tensor = _Tensor(storage, offset, tuple(shape), tuple(strides))
        if not isinstance(storage, _Storage) or not tensor.is_plain():
            raise PickleRefused(f"has a damaged tensor of shape {shape!r:.80}")
        return tensor


def _check_sizes(tensors: dict[str, _Tensor], storages: _Storages) -> None:
    """Checks that tensors are inside of their storages, and take little more memory than these.

    Raises:
      ValueError: names the first one that is not.
    """
    total = 0
    for name, (storage, offset, shape, strides) in tensors.items():
        size = STORAGE_TYPES[storage.kind].itemsize
        there = storages.sizes.get(storage.key, 0) // size - storage.start
        count, last = math.prod(shape), offset
        last += sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if count and (last >= min(there, storage.count) or count > there):
            raise ValueError(
                f"truncated or damaged: tensor {name:.80} of shape {shape} extends to element "
                f"{max(last, count - 1)} of storage {storage.key:.80}, which has {max(there, 0)}"
            )
        total += count * size
    stored = sum(storages.sizes.values())
    if total > (most := limits.TENSOR_RATIO * stored + limits.TENSOR_SPARE_BYTES):
        raise ValueError(f"its tensors take {total} bytes; at most {most} are read")


def _to_array(tensor: _Tensor, storages: _Storages) -> np.ndarray:
    """Copies a tensor's numbers; it is inside of its storage."""
    storage, offset, shape, strides = tensor
    dtype = STORAGE_TYPES[storage.kind]
    if 0 in shape:
        return np.zeros(shape, dtype)
    data = storages.read(storage.key)
    numbers = np.frombuffer(data, dtype, len(data) // dtype.itemsize)[storage.start + offset :]
    steps = [step * dtype.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(numbers, shape, steps).copy()
