"""Splits, classes and names of pictures from the names of files and folders."""

import re
from pathlib import PurePosixPath

PICTURE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
_SPLITS = dict.fromkeys(("train", "training"), "train")
_SPLITS |= dict.fromkeys(("val", "valid", "validation", "dev", "test", "testing"), "validation")


def split_from_name(word: str) -> str:
    """ "train" or "validation" for a word such as "train2014" or "val", "" for any other.

    Test pictures are held out too, so "test" is "validation".
    """
    return _SPLITS.get(re.sub(r"\d+$", "", word.lower()), "")


def split_of_file(file: str) -> str:
    """The split named by a folder of a path, or by a word of the file's name: "train-00000.tar"."""
    path = PurePosixPath(file)
    words = [*path.parent.parts, *re.split(r"[-_.]", path.stem)]
    return next(filter(None, map(split_from_name, words)), "")


def split_and_label(name: str) -> tuple[str, str]:
    """The split named by the first folder of a path, and the other folders as a class."""
    folders = PurePosixPath(name).parent.parts
    split = split_from_name(folders[0]) if folders else ""
    return split, "/".join(folders[1:] if split else folders)


def is_picture(name: str) -> bool:
    """Whether a file has the extension of a picture."""
    return name.lower().endswith(PICTURE_EXTENSIONS)


def strip_extension(name: str) -> str:
    """ "a/b.c" for "a/b.c.jpg"."""
    return name.removesuffix(PurePosixPath(name).suffix)


def unique_name(file: str, stems: set[str]) -> str:
    """A picture's path without extension, or with it if that is among `stems` already.

    The path without extension is added to `stems`.
    """
    stem = strip_extension(file)
    name = file if stem in stems else stem
    stems.add(stem)
    return name
