"""The pickles that list a split's pictures and their classes, in AttnGAN's way."""

import operator
from pathlib import Path
from typing import Any

import numpy as np

from ssagan_jax.data.formats.safe_paths import safe_name, unsafe_reason
from ssagan_jax.data.image_loading import DataError
from ssagan_jax.data.safe_pickle import load_pickle

CLASSES = "class_info.pickle"


def read_filenames(root: Path, path: Path) -> list[str]:
    """The pictures that a pickled list names, checked to be names inside a folder.

    Raises:
      DataError: the file leads out of `root`, or is no such list.
    """
    names = _plain(root, path)
    if not isinstance(names, list | tuple | np.ndarray) or not len(names):
        raise DataError(f"{path}: holds {type(names).__name__}, not a list of <species>/<photo>")
    return [_name(name, path) for name in names]


def read_classes(root: Path, path: Path, pictures: int) -> list[str]:
    """The class number of each of a listing's pictures, as text.

    Raises:
      DataError: the file is no list of so many whole numbers.
    """
    values = _plain(root, path)
    try:
        classes = [str(operator.index(value)) for value in values]
    except TypeError:
        raise DataError(f"{path}: holds no list of whole numbers, one a photo") from None
    if len(classes) != pictures:
        raise DataError(f"{path}: {len(classes)} classes for the {pictures} photos listed")
    return classes


def _plain(root: Path, path: Path) -> Any:
    if refused := unsafe_reason(root, path):
        raise DataError(refused)
    return load_pickle(path)


def _name(name: Any, path: Path) -> str:
    try:
        text = name.decode() if isinstance(name, bytes) else str(name)
        text.encode()
    except UnicodeError:
        raise DataError(f"{path}: {name!r} is not UTF-8") from None
    if not isinstance(name, bytes | str):
        raise DataError(f"{path}: {name!r} is not a name such as <species>/<photo>")
    return safe_name(text, path)
