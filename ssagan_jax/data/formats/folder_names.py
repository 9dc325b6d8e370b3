"""Splits, classes and names of pictures from the names of files and folders."""

import os
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

PICTURE_EXTENSIONS = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
PICTURE_EXTENSIONS += (".ppm",)
# Of pictures that are not read.
OTHER_PICTURE_EXTENSIONS = (".heic", ".heif", ".avif", ".jxl", ".tga", ".dng", ".nef", ".cr2")
_DATA_EXTENSIONS = (*PICTURE_EXTENSIONS, ".json", ".jsonl", ".csv", ".parquet", ".tar")
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


def outer_folders(names: Iterable[str]) -> str:
    """The folders, with "/", that all paths share and below which a folder names a split, or ""."""
    folders = [PurePosixPath(name).parent.parts for name in names]
    shared = os.path.commonprefix(folders)
    for depth in range(len(shared) + 1):
        if any(map(split_from_name, {parts[depth] for parts in folders if len(parts) > depth})):
            return "".join(f"{folder}/" for folder in shared[:depth])
    return ""


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
