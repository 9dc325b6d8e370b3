"""Reads safetensors files, whose library checks all sizes against the file before it reads."""

import contextlib
import os
from collections.abc import Iterator

import numpy as np
import safetensors
import safetensors.numpy

from ssagan_jax.errors import DamagedFileError
from ssagan_jax.untrusted import limits
from ssagan_jax.untrusted.files import open_regular


@contextlib.contextmanager
def open_safetensors(path: str | os.PathLike[str]) -> Iterator[safetensors.safe_open]:
    """Opens a file, to read names, shapes and metadata.

    Raises:
      OSError: it is missing or cannot be read.
      DamagedFileError: it is damaged, or its header exceeds a limit.
    """
    with open_regular(path) as file:
        size = int.from_bytes(file.read(8), "little")
    if size > limits.SAFETENSORS_HEADER_BYTES:
        raise DamagedFileError(
            f"{path}: is damaged: its header has {size} bytes, more than the "
            f"{limits.SAFETENSORS_HEADER_BYTES} allowed"
        )
    with _naming(path), safetensors.safe_open(path, "numpy") as file:
        yield file


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All tensors of a file by name; errors are those of `open_safetensors`."""
    with open_safetensors(path), _naming(path):
        return safetensors.numpy.load_file(path)


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns errors of the library into one that names the file."""
    try:
        with panics_as_errors():
            yield
    except (OSError, DamagedFileError):
        raise
    except Exception as error:  # It has types that numpy has not, and raises several errors.
        raise DamagedFileError(
            f"{path}: is damaged ({error!s:.300}); copy or download it again"
        ) from None


@contextlib.contextmanager
def panics_as_errors() -> Iterator[None]:
    """Turns a panic of a library in Rust, which is no Exception, into a ValueError."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"the library failed: {error}") from None
