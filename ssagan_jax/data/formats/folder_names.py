"""Splits, classes and names of pictures from the names of files and folders."""

import os
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

PICTURE_EXTENSIONS = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
PICTURE_EXTENSIONS += (".ppm",)
# Of pictures that are not read.
_OTHER_PICTURE_EXTENSIONS = (".heic", ".heif", ".avif", ".jxl", ".tga", ".dng", ".nef", ".cr2")
_DATA_EXTENSIONS = (*PICTURE_EXTENSIONS, ".json", ".jsonl", ".csv", ".parquet", ".tar")
_SPLITS = dict.fromkeys(("train", "training", "restval"), "train")
_SPLITS |= dict.fromkeys(("val", "valid", "validation", "dev", "test", "testing"), "validation")


def split_from_name(word: str) -> str:
    """ "train" or "validation" for a word such as "train2014" or "val", "" for any other.

    Test pictures are held out too, so "test" is "validation".
    """
    return _SPLITS.get(re.sub(r"\d+$", "", word.lower()), "")


def split_of_file(file: str) -> str:
    """The split named by a folder of a path, or by a word of the file's name: "train-00000.tar"."""
    path = PurePosixPath(file)
    return next(filter(None, map(split_from_name, path.parent.parts)), "") or _split_of_words(
        path.stem
    )


def _split_of_words(name: str) -> str:
    """The split of the first word that names one, as in "cars_train"."""
    return next(filter(None, map(split_from_name, re.split(r"[-_. ]", name))), "")


class SplitFolders:
    """Reads split and class of a picture from its folders, given those of all pictures.

    The first folder may name a split; the others are the class. Folders that all pictures share are
    left out if one below them names a split. Names such as "cars_train" and "cars_test" only name
    splits together. Numbers such as 00012 are no classes but parts of a large set.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """Keeps what the pictures' paths tell of the folders."""
        folders = {PurePosixPath(name).parent.parts for name in names}
        shared = len(os.path.commonprefix(list(folders)))
        self._outer, self._split = 0, split_from_name
        for depth in range(shared + 1):
            words = {parts[depth] for parts in folders if len(parts) > depth}
            if any(map(split_from_name, words)):
                self._outer = depth
            elif {"train", "validation"} <= set(map(_split_of_words, words)):
                self._outer, self._split = depth, _split_of_words
            else:
                continue
            break

    def __call__(self, name: str) -> tuple[str, str]:
        """The split, "" if none is named, and the class of a path."""
        folders = PurePosixPath(name).parent.parts[self._outer :]
        split = self._split(folders[0]) if folders else ""
        # As in training_set/training_set/cats.
        while split and folders and self._split(folders[0]) == split:
            folders = folders[1:]
        return split, "/".join(part for part in folders if not re.fullmatch(r"\d{5,}", part))


def unwrap_splits(source: str) -> str:
    """The folder of the splits, if the source has no other folder and no data, as archives do."""
    folder = source
    while os.path.isdir(folder):
        with os.scandir(folder) as found:
            entries = [e for e in found if not e.name.startswith(".") and e.name != "__MACOSX"]
        folders = [entry for entry in entries if entry.is_dir()]
        if folder != source and any(split_from_name(entry.name) for entry in folders):
            return folder
        has_data = any(entry.name.lower().endswith(_DATA_EXTENSIONS) for entry in entries)
        if has_data or len(folders) != 1 or folders[0].is_symlink():
            break
        if split_from_name(folders[0].name):
            break
        folder = folders[0].path
    return source


def is_picture(name: str) -> bool:
    """Whether a file has the extension of a picture."""
    return name.lower().endswith(PICTURE_EXTENSIONS)


def unread_reason(name: str) -> str:
    """Why a picture is not read, judged by its extension; "" for other files."""
    suffix = PurePosixPath(name).suffix
    is_other = suffix.lower() in _OTHER_PICTURE_EXTENSIONS
    return f"{suffix} is not read; save it as JPEG or PNG" if is_other else ""


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
