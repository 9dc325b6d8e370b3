"""Reads pickles of plain data without running code in them."""

import math
import os
import re
from typing import Any, NamedTuple

import numpy as np

from ssagan_jax.errors import DamagedFileError, DataError
from ssagan_jax.untrusted.files import read_bytes
from ssagan_jax.untrusted.limits import PICKLE_BYTES, TENSOR_DIMENSIONS
from ssagan_jax.untrusted.pickle_names import (
    Name,
    Names,
    Pending,
    PickleRefused,
    check_key,
    check_keys,
)
from ssagan_jax.untrusted.pickle_reader import run_pickle

_NUMBERS = re.compile(r"([<>=|]?)([biufcSU])(\d{0,9})")


def load_pickle(
    path: str | os.PathLike[str], encoding: str = "bytes", max_bytes: int = PICKLE_BYTES
) -> Any:
    """Reads a pickle of containers, text, bytes, numbers and numpy arrays of those.

    A pickle is a program that can call any function by name. None is called here: numpy's arrays
    and numbers are made from their bytes, after these were checked against type and shape.

    Args:
      path: a file of any pickle protocol.
      encoding: how Python 2's 8-bit strings are decoded; "bytes" leaves them bytes.
      max_bytes: the largest file that is read.

    Raises:
      DataError: the file is missing, too large or damaged, exceeds a limit, or asks for any other
        function or class, which the message names.
    """
    try:
        data = read_bytes(path, max_bytes)
        content, _ = run_pickle(data, _PlainNames(len(data)), encoding)
        return content
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except DamagedFileError as error:
        raise DataError(str(error)) from None
    except PickleRefused as error:
        raise DataError(
            f"{path}: the pickle {error}, and was not read. Save only lists, text and numbers"
        ) from None


class _Type(NamedTuple):
    """A numpy type of numbers or text; `size` is that of an item in bytes."""

    order: str
    kind: str
    size: int

    def read(self, raw: Any, shape: tuple[int, ...], fortran: bool) -> np.ndarray:
        """An array of its bytes; raises PickleRefused if they are not as many as they must be."""
        if isinstance(raw, list):
            raise PickleRefused("has a numpy array of objects")
        # Python 2 stored the bytes of an array as a string, which an encoding may have decoded.
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if len(shape) > TENSOR_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
            raise PickleRefused(f"has a numpy array of shape {shape!r:.100}")
        if not isinstance(raw, bytes) or math.prod(shape) * self.size != len(raw):
            raise PickleRefused("has a numpy array whose bytes do not fit its shape")
        if not len(raw):
            return np.zeros(shape, f"{self.order}{self.text}")
        values = np.frombuffer(raw, f"{self.order}{self.text}")
        if self.kind == "U" and values.view(f"{self.order}u4").max() > 0x10FFFF:
            raise PickleRefused("has a numpy array with text that is damaged")
        return values.reshape(shape, order="F" if fortran else "C").copy()

    @property
    def text(self) -> str:
        """As numpy writes it, without the byte order."""
        return f"{self.kind}{self.size // 4 if self.kind == 'U' else self.size}"


def _ascii(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


def _parse_type(spec: Any) -> _Type:
    """The type of a text such as "<i8", "f4" or "U7"."""
    match = _NUMBERS.fullmatch(_ascii(spec))
    if not match:
        what = "object" if _ascii(spec)[:1] == "O" else f"{_ascii(spec)[:40]!r}"
        raise PickleRefused(f"has a numpy array of {what}")
    order, kind, size = match[1], match[2], int(match[3] or 0)
    if kind not in "SU":
        size = np.dtype(f"{kind}{size or ''}").itemsize
    return _Type(order.strip("|"), kind, size * 4 if kind == "U" else size)


class _PlainNames(Names):
    """Sets, ordered dictionaries, complex numbers, and numpy's arrays and numbers."""

    results = (np.ndarray, np.generic, complex)

    def __init__(self, size: int) -> None:
        self._spare = 2 * size + 2**20  # bytes that calls may still make
        self._functions = {
            "__builtin__.bytes": lambda: b"",
            "collections.OrderedDict": self._dictionary,
            "_codecs.encode": self._encode,
            "numpy.dtype": lambda spec, *_: _parse_type(spec),
            "numpy.ndarray": lambda *_: self.call(Name("numpy", "ndarray()"), ()),
        }
        for module in ("builtins", "__builtin__"):
            self._functions |= {
                f"{module}.set": lambda items=(): self._members(set, items),
                f"{module}.frozenset": lambda items=(): self._members(frozenset, items),
                f"{module}.complex": self._complex,
            }
        for module in ("numpy.core", "numpy._core"):
            self._functions |= {
                f"{module}.multiarray._reconstruct": lambda *_: Pending("numpy array"),
                f"{module}.multiarray.scalar": lambda kind, raw: self._array(raw, kind, (1,))[0],
                f"{module}.numeric._frombuffer": self._array,
            }

    def check(self, name: Name) -> None:
        if str(name) not in self._functions:
            raise PickleRefused(f"asks for {name}, which is not plain data")

    def call(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        function = self._functions.get(str(name))
        if function is None:
            raise PickleRefused(f"calls {name}, which is not plain data")
        return function(*arguments)

    def build(self, target: Any, state: Any) -> Any:
        if isinstance(target, Pending):
            _, shape, kind, fortran, raw = state
            return self._array(raw, kind, shape, "F" if fortran else "C")
        if isinstance(target, _Type):
            order, size = _ascii(state[1]), state[5]
            if order not in ("<", ">", "=", "|") or state[2:5] != (None, None, None):
                raise PickleRefused("has a numpy array of parts")
            if target.kind in "SU" and size >= 0:
                target = target._replace(size=size)
            return target._replace(order=order.strip("|"))
        return super().build(target, state)

    def _array(self, raw: Any, kind: Any, shape: Any, order: Any = "C") -> np.ndarray:
        if not isinstance(kind, _Type):
            raise PickleRefused("has a numpy array without a type")
        self._spend(len(raw))
        return kind.read(raw, tuple(shape), order == "F")

    def _spend(self, count: int) -> None:
        self._spare -= count
        if self._spare < 0:
            raise PickleRefused("makes more bytes than it has")

    def _encode(self, text: str, encoding: str) -> bytes:
        """How Python 3 pickles bytes in protocols 0 to 2."""
        if _ascii(encoding) not in ("latin1", "latin-1"):
            raise PickleRefused(f"asks for an encoding to {encoding!r:.40}")
        self._spend(len(text))
        return text.encode("latin1")

    def _members(self, kind: type, items: Any) -> Any:
        self._spend(8 * len(items))
        return kind(check_keys(items))

    def _dictionary(self, pairs: Any = ()) -> dict[Any, Any]:
        self._spend(8 * len(pairs))
        for key, _ in pairs:
            check_key(key)
        return dict(pairs)

    def _complex(self, real: float, imaginary: float) -> complex:
        return complex(real, imaginary)
