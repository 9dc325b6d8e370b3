"""The layout of "Text to Image Generation with Semantic-Spatial Aware GAN and BERT", section IV-A.

The pictures of each split are numbered from 00000, their sentences are in a folder of captions, and
`filenames_car.pickle` lists them:

    train/00000.jpg ...  (or train/images/00000.jpg)
    train/captions/00000.txt ...  one sentence per line
    train/filenames_car.pickle  (optional; without it all pictures are used)
    train/class_info.pickle  (optional) a class number for each picture listed
    validation/...  the same; "val" and "test" are read too

A single folder of pictures and captions, without splits, is read as well.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from ssagan_jax.data.formats.filename_pickles import CLASSES, read_classes, read_filenames
from ssagan_jax.data.formats.folder_names import is_picture, split_from_name, strip_extension
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.formats.safe_paths import find_picture, read_captions, walk_files
from ssagan_jax.errors import DataError

NAMES = "filenames_car.pickle"
_CAPTIONS = ("captions", "caption")


class Paper:
    """Numbered pictures with a folder of captions, for each split."""

    def recognises(self, source: Path) -> bool:
        """Whether the folder, or the folder of a split, has a folder of captions."""
        return source.is_dir() and any(_captions_folder(part) for part, _ in _parts(source))

    def items(self, source: Path) -> Iterator[Item]:
        """Yields each split's pictures as listed, or in the order of their names."""
        for part, split in _parts(source):
            texts = _captions_folder(part)
            if texts is None:
                raise DataError(f"{part}: no folder captions/; put 00000.txt, 00001.txt ... there")
            names, prefix = set(), f"{part.name}/" if split else ""
            for name, label in _listed(source, part):
                names.add(name)
                yield _item(part, texts, name, label, split, prefix)
            if os.path.lexists(part / NAMES):
                continue  # What is not listed is skipped on purpose.
            for file in walk_files(texts):
                if file.endswith(".txt") and strip_extension(file) not in names:
                    yield _item(part, texts, strip_extension(file), "", split, prefix)


def _parts(source: Path) -> list[tuple[Path, str]]:
    """The folders of the splits with their splits, or the source itself if there are none."""
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
    """Yields names without extension and classes of a split's pictures."""
    if os.path.lexists(part / NAMES):
        listed = read_filenames(source, part / NAMES)
        classes = [""] * len(listed)
        if os.path.lexists(part / CLASSES):
            classes = read_classes(source, part / CLASSES, len(listed))
        for name, label in zip(listed, classes, strict=True):
            yield (strip_extension(name) if is_picture(name) else name), label
    else:
        for file in filter(is_picture, walk_files(_pictures_folder(part))):
            yield strip_extension(file), ""


def _item(part: Path, texts: Path, name: str, label: str, split: str, prefix: str) -> Item:
    picture = find_picture(_pictures_folder(part), name)
    captions, error = read_captions(part, picture, texts, texts / f"{name}.txt")
    return Item(prefix + name, picture, captions, label, split, error=error)
