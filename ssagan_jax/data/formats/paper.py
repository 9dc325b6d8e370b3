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
from ssagan_jax.data.formats.folder_names import (
    is_picture,
    split_from_name,
    strip_extension,
    unique_name,
)
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
            pictures, prefix = _pictures_folder(part), f"{part.name}/" if split else ""
            if os.path.lexists(part / NAMES):
                for name, label in _listed(source, part):  # Others are skipped on purpose.
                    picture = find_picture(pictures, name)
                    captions, error = read_captions(part, picture, texts, texts / f"{name}.txt")
                    yield Item(prefix + name, picture, captions, label, split, error=error)
                continue
            stems: set[str] = set()
            for file in filter(is_picture, walk_files(pictures)):
                text = texts / f"{strip_extension(file)}.txt"
                captions, error = read_captions(part, pictures / file, texts, text)
                name = prefix + unique_name(file, stems)
                yield Item(name, pictures / file, captions, "", split, error=error)
            for file in walk_files(texts):
                if file.endswith(".txt") and strip_extension(file) not in stems:
                    captions, error = read_captions(part, None, texts, texts / file)
                    yield Item(
                        prefix + strip_extension(file), None, captions, "", split, error=error
                    )


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
    """Yields names without extension and classes of the pictures that a split lists."""
    listed = read_filenames(source, part / NAMES)
    classes = [""] * len(listed)
    if os.path.lexists(part / CLASSES):
        classes = read_classes(source, part / CLASSES, len(listed))
    for name, label in zip(listed, classes, strict=True):
        yield (strip_extension(name) if is_picture(name) else name), label
