"""Pictures with their sentences beside them: `car_01.jpg` and `car_01.txt`, one per line.

The first folder may be a split ("train", "val", ...); other folders are classes.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ssagan_jax.data.formats.folder_names import (
    is_picture,
    split_and_label,
    strip_extension,
    unique_name,
)
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.formats.safe_paths import read_captions, walk_files

# Texts about a folder as a whole.
_NOT_CAPTIONS = ("readme", "license", "licence", "copying", "classes", "labels", "requirements")


class Sidecar:
    """A tree in which each picture has a text file of the same name beside it."""

    def recognises(self, source: Path) -> bool:
        """Whether some picture has a text file beside it."""
        return source.is_dir() and any(
            is_picture(file) and os.path.lexists(source / f"{strip_extension(file)}.txt")
            for file in walk_files(source)
        )

    def items(self, source: Path) -> Iterator[Item]:
        """Yields the pictures in the order of their names, then texts without a picture."""
        stems, texts = set(), []
        for file in walk_files(source):
            stem = strip_extension(file)
            if is_picture(file):
                name = unique_name(file, stems)
                yield _item(source, name, source / file, source / f"{stem}.txt")
            elif file.endswith(".txt") and PurePosixPath(stem).name.lower() not in _NOT_CAPTIONS:
                texts.append(stem)
        for stem in texts:
            if stem not in stems:
                yield _item(source, stem, None, source / f"{stem}.txt")


def _item(source: Path, name: str, picture: Path | None, text: Path) -> Item:
    captions, error = read_captions(source, picture, source, text)
    split, label = split_and_label(name)
    return Item(name, picture, captions, label, split, error=error)
