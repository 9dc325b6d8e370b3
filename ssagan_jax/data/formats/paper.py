"""The layout of "Text to Image Generation with Semantic-Spatial Aware GAN and BERT", section IV-A.

The paper numbers the pictures of both splits from 00000 on, keeps the sentences in a folder of
captions, and lists the pictures in `filenames_car.pickle`:

    train/00000.jpg ...  (or train/images/00000.jpg)
    train/captions/00000.txt ...  one sentence a line
    train/filenames_car.pickle  (may be missing: all pictures are taken)
    train/class_info.pickle  (may be missing) a class number for each picture listed
    validation/...  the same; "val" and "test" are read too

A folder with pictures, captions and pickle of its own, without splits, is read as well.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from ssagan_jax.data.formats.filename_pickles import CLASSES, read_classes, read_filenames
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.formats.safe_paths import (
    find_picture,
    is_picture,
    read_pair,
    split_from_name,
    strip_extension,
    walk_files,
)
from ssagan_jax.data.image_loading import DataError

NAMES = "filenames_car.pickle"
_CAPTIONS = ("captions", "caption")


class Paper:
    """Numbered pictures with a folder of captions, split by split."""

    def recognises(self, source: Path) -> bool:
        """Whether a split's folder, or the folder itself, has a folder of captions."""
        return source.is_dir() and any(_captions_folder(part) for part, _ in _parts(source))

    def items(self, source: Path) -> Iterator[Item]:
        """Yields each split's pictures as listed, or in the order of their names."""
        for part, split in _parts(source):
            texts = _captions_folder(part)
            if texts is None:
                raise DataError(f"{part}: no folder captions/; put 00000.txt, 00001.txt ... there")
            names = set()
            prefix = f"{part.name}/" if split else ""
            for name, label in _listed(source, part):
                names.add(name)
                yield _item(part, texts, name, label, split, prefix)
            if os.path.lexists(part / NAMES):
                continue  # What a listing leaves out is left out on purpose.
            for file in walk_files(texts):
                if file.endswith(".txt") and strip_extension(file) not in names:
                    yield _item(part, texts, strip_extension(file), "", split, prefix)


def _parts(source: Path) -> list[tuple[Path, str]]:
    """The folders of the splits with their splits, or else the source itself."""
    if not source.is_dir():
        raise DataError(f"{source}: there is no such folder")
    with os.scandir(source) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    parts = [(source / name, split_from_name(name)) for name in names if split_from_name(name)]
    return parts or [(source, "")]


def _captions_folder(part: Path) -> Path | None:
    return next((part / name for name in _CAPTIONS if (part / name).is_dir()), None)


def _pictures_folder(part: Path) -> Path:
    return part / "images" if (part / "images").is_dir() else part


def _listed(source: Path, part: Path) -> Iterator[tuple[str, str]]:
    """Yields names without ending and classes of a split's pictures."""
    if os.path.lexists(part / NAMES):
        listed = read_filenames(source, part / NAMES)
        classes = [""] * len(listed)
        if os.path.lexists(part / CLASSES):
            classes = read_classes(source, part / CLASSES, len(listed))
        for name, label in zip(listed, classes, strict=True):
            yield (strip_extension(name) if is_picture(name) else name), label
    else:
        for file in walk_files(_pictures_folder(part)):
            if is_picture(file):
                yield strip_extension(file), ""


def _item(part: Path, texts: Path, name: str, label: str, split: str, prefix: str) -> Item:
    picture = find_picture(_pictures_folder(part), name)
    text = texts / f"{name}.txt"
    captions, fault = read_pair(part, picture, texts, text)
    return Item(prefix + name, picture, captions, label, split, fault=fault)
