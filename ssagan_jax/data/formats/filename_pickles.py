"""The pickles of AttnGAN's layout that list a split's pictures and their classes."""

import operator
from pathlib import Path
from typing import Any

import numpy as np

from ssagan_jax.data.formats.safe_paths import check_name, check_safe
from ssagan_jax.data.safe_pickle import load_pickle
from ssagan_jax.errors import DataError

CLASSES = "class_info.pickle"


def read_filenames(root: Path, path: Path) -> list[str]:
    """The pictures that a pickled list names, checked to stay inside of the folder.

    Raises:
      DataError: the file leads out of `root`, or is not such a list.
    """
    names = _load(root, path)
    if not isinstance(names, list | tuple | np.ndarray) or not len(names):
        raise DataError(f"{path}: holds {type(names).__name__}, not a list of <species>/<photo>")
    return [_decode_name(name, path) for name in names]


def read_classes(root: Path, path: Path, pictures: int) -> list[str]:
    """The class number of each of a listing's pictures, as text.

    Raises:
      DataError: the file is not a list of so many whole numbers.
    """
    values = _load(root, path)
    try:
        classes = [str(operator.index(value)) for value in values]
    except TypeError:
        raise DataError(f"{path}: not a list of whole numbers, one for each photo") from None
    if len(classes) != pictures:
        raise DataError(f"{path}: {len(classes)} classes for the {pictures} photos listed")
    return classes


def _load(root: Path, path: Path) -> Any:
    check_safe(root, path)
    return load_pickle(path)


def _decode_name(name: Any, path: Path) -> str:
    try:
        text = name.decode() if isinstance(name, bytes) else str(name)
        text.encode()
    except UnicodeError:
        raise DataError(f"{path}: {name!r:.200} is not UTF-8") from None
    if not isinstance(name, bytes | str):
        raise DataError(f"{path}: {name!r:.200} is not a name such as <species>/<photo>")
    return check_name(text, path)
