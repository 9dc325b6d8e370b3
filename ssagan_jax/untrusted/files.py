"""Opens only regular files, reads no more than a limit, and parses JSON of bounded depth."""

import errno
import io
import json
import os
import stat
from collections.abc import Iterable
from typing import Any, BinaryIO

from ssagan_jax.errors import DamagedFileError
from ssagan_jax.untrusted.limits import JSON_DEPTH, TEXT_BYTES


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a regular file to read; unlike `open`, never waits for a pipe or a device.

    Raises:
      OSError: it is missing, a folder, or cannot be read.
      DamagedFileError: it is a pipe, a device or a socket.
    """
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    except OSError as error:
        if error.errno != errno.ENXIO:  # What opening a socket raises.
            raise
    except io.UnsupportedOperation:  # Of a pipe, which cannot be positioned.
        pass
    else:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
    raise DamagedFileError(f"{path}: not a plain file; remove it")


def check_regular_files(folder: str | os.PathLike[str]) -> None:
    """Raises DamagedFileError if a file of a folder or below is a pipe, a device or a socket.

    Libraries that open files by themselves would wait for these.
    """
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            try:
                mode = os.stat(path).st_mode
            except OSError:  # A link to nothing, or deleted just now.
                continue
            if not stat.S_ISREG(mode):
                raise DamagedFileError(f"{path}: not a plain file; remove it")


def read_bytes(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """The content of a regular file.

    Raises:
      OSError: it is missing or cannot be read.
      DamagedFileError: it is larger than `max_bytes`, or not a regular file.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > max_bytes else file.read(max_bytes + 1)
    if size > max_bytes or len(content) > max_bytes:
        raise DamagedFileError(f"{path}: {size} bytes are more than the {max_bytes} allowed")
    return content


def read_text(path: str | os.PathLike[str], max_bytes: int = TEXT_BYTES) -> str:
    """The UTF-8 text of a regular file; errors are those of `read_bytes`."""
    content = read_bytes(path, max_bytes)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{path}: not UTF-8 text ({error})") from None


def read_json(path: str | os.PathLike[str], max_bytes: int = TEXT_BYTES) -> Any:
    """The content of a JSON file; errors are those of `read_bytes` and `parse_json`."""
    text = read_text(path, max_bytes)
    try:
        return parse_json(text)
    except ValueError as error:
        raise DamagedFileError(f"{path}: not readable JSON ({error})") from None


def parse_json(text: str | bytes) -> Any:
    """The content of a JSON text, nested at most `JSON_DEPTH` deep.

    Raises:
      ValueError: it is not such a text.
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {JSON_DEPTH}") from None
    level = [content]
    for _ in range(JSON_DEPTH + 1):
        level = [value for each in level for value in _values(each)]
    if level:
        raise ValueError(f"nested deeper than {JSON_DEPTH}")
    return content


def _values(content: Any) -> Iterable[Any]:
    if isinstance(content, dict):
        return content.values()
    return content if isinstance(content, list) else ()
