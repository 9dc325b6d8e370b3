"""Writes PyTorch's state dict files without PyTorch."""

import os
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from ssagan_jax.pytorch.pth_reader import STORAGE_TYPES

_STORAGE_NAMES = {dtype: name for name, dtype in STORAGE_TYPES.items()}
_EMPTY_DICT = pickle.GLOBAL + b"collections\nOrderedDict\n" + pickle.EMPTY_TUPLE + pickle.REDUCE


def write_pth(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray]) -> None:
    """Writes tensors as `torch.save(state_dict)` does, for `torch.load(weights_only=True)`.

    The file is a zip archive of a pickle, with names, types and shapes, and of the numbers of each
    tensor. It is overwritten if it exists. The same tensors give the same bytes.

    Raises:
      KeyError: PyTorch has no such type.
    """
    program = [pickle.PROTO + b"\x02", _EMPTY_DICT, pickle.MARK]
    for key, (name, tensor) in enumerate(tensors.items()):
        program += [_plain(name), _rebuild(str(key), tensor)]
    program += [pickle.SETITEMS, pickle.STOP]
    with zipfile.ZipFile(path, "w") as archive:

        def add(name: str, content: bytes) -> None:
            # Without a date, so that the bytes do not change from day to day.
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)

        add("data.pkl", b"".join(program))
        add("byteorder", b"little")
        for key, tensor in enumerate(tensors.values()):
            little = tensor.astype(tensor.dtype.newbyteorder("<"), copy=False)
            add(f"data/{key}", little.tobytes())
        add("version", b"3\n")


def _rebuild(key: str, tensor: np.ndarray) -> bytes:
    """Pickle of the call that makes a contiguous tensor of the whole storage `key`."""
    storage_type = pickle.GLOBAL + b"torch\n%s\n" % _STORAGE_NAMES[tensor.dtype].encode()
    storage = [pickle.MARK, _plain("storage"), storage_type]
    storage += [_plain(key), _plain("cpu"), _plain(tensor.size), pickle.TUPLE, pickle.BINPERSID]
    strides = tuple(int(np.prod(tensor.shape[axis + 1 :])) for axis in range(tensor.ndim))
    # Offset 0, no gradient, no hooks.
    rest = [_plain(0), _plain(tensor.shape), _plain(strides), _plain(False), _EMPTY_DICT]
    call = pickle.GLOBAL + b"torch._utils\n_rebuild_tensor_v2\n"
    return b"".join([call, pickle.MARK, *storage, *rest, pickle.TUPLE, pickle.REDUCE])


def _plain(value: Any) -> bytes:
    """Pickle of text, numbers or tuples of them, without its first and last opcode."""
    return pickle.dumps(value, protocol=2)[2:-1]
