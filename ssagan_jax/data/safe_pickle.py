"""Reads pickles of plain data without running code in them."""

import collections
import os
import pickle
from typing import Any

import numpy as np

from ssagan_jax.errors import DataError

MAX_BYTES = 256 * 2**20


def load_pickle(
    path: str | os.PathLike[str], encoding: str = "bytes", max_bytes: int = MAX_BYTES
) -> Any:
    """Reads a pickle of containers, text, bytes, numbers and numpy arrays of those.

    A pickle is a program that can call any function by name. Here it can only call sets, ordered
    dicts, and numpy scalars and arrays.

    Args:
      path: a file of any pickle protocol.
      encoding: how Python 2's 8-bit strings are decoded; "bytes" leaves them bytes.
      max_bytes: the largest file that is read.

    Raises:
      DataError: the file is missing, too large or damaged, or it calls any other function or
        class, which the message names.
    """
    try:
        size = os.path.getsize(path)
        if size > max_bytes:
            raise DataError(f"{path}: {size} bytes are more than the {max_bytes} allowed")
        with open(path, "rb") as file:
            return _PlainUnpickler(file, encoding=encoding).load()
    except _Refused as error:
        raise DataError(
            f"{path}: the pickle asks for {error}, which is not plain data, and was not run. "
            "Save only lists, text and numbers"
        ) from None
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except Exception as error:  # A damaged pickle can raise any exception.
        raise DataError(f"{path}: not a readable pickle ({error})") from error


class _Refused(Exception):
    """A pickle refers to this name, which is not allowed."""


class _DType:
    """A numpy type that a pickle describes; a real dtype would let the pickle alter its layout."""

    def __init__(self, spec: str | bytes, align: bool = False, copy: bool = True) -> None:
        self.dtype = np.dtype(_text(spec))
        if self.dtype.kind not in "biufcSU":
            raise _Refused(f"a numpy array of {self.dtype}")

    def __setstate__(self, state: tuple) -> None:
        kind, size = self.dtype.kind, state[5]
        if kind in "SU" and size > 0:
            self.dtype = np.dtype(f"{kind}{size // 4 if kind == 'U' else size}")
        self.dtype = self.dtype.newbyteorder(_text(state[1]))


class _Array(np.ndarray):
    """A numpy array whose pickled state is checked by `np.frombuffer` before it is used."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, described, fortran, raw = state
        values = _values(raw, described).reshape(shape, order="F" if fortran else "C")
        super().__setstate__((1, values.shape, values.dtype, False, values.tobytes()))


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value


def _values(raw: bytes | str, described: _DType) -> np.ndarray:
    # Python 2 stored the bytes of an array as a string, which an encoding may have decoded.
    return np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, described.dtype)


def _buffer(raw: bytes, described: _DType, shape: tuple, order: str) -> np.ndarray:
    return _values(raw, described).reshape(shape, order=order).copy()


def _bytes(text: str, encoding: str) -> bytes:
    """How Python 3 pickles bytes in protocols 0 to 2."""
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"an encoding to {encoding!r}")
    return text.encode("latin1")


_ALLOWED: dict[str, Any] = {
    "__builtin__.bytes": lambda: b"",
    "collections.OrderedDict": collections.OrderedDict,
    "_codecs.encode": _bytes,
    "numpy.dtype": _DType,
    "numpy.ndarray": np.ndarray,
}
for _module in ("builtins", "__builtin__"):
    _ALLOWED |= {f"{_module}.{kind.__name__}": kind for kind in (set, frozenset, complex)}
for _module in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_module}.multiarray._reconstruct"] = lambda *_: _Array((0,))
    _ALLOWED[f"{_module}.multiarray.scalar"] = lambda described, raw: _values(raw, described)[0]
    _ALLOWED[f"{_module}.numeric._frombuffer"] = _buffer


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}"
        if full_name not in _ALLOWED:
            raise _Refused(full_name)
        function = _ALLOWED[full_name]
        # A pickle can set attributes of what it names, so it gets a new object each time.
        return lambda *arguments: function(*arguments)
