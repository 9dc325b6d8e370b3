"""The layout of AttnGAN, DF-GAN and SSA-GAN: birds, flowers, COCO, or other photos.

Pictures are in `CUB_200_2011/images/`, `oxford-102-flowers/images/` or `images/`, sentences in
`text/` under the same names, one per line. `train/filenames.pickle` and `test/filenames.pickle`
list the pictures of both splits; without them all pictures are used. Beside them,
`class_info.pickle` may number the classes, which otherwise are the folders.
`CUB_200_2011/bounding_boxes.txt` and `images.txt` hold the bounding boxes of the birds.
`captions.pickle` is not needed.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ssagan_jax.data.formats.filename_pickles import CLASSES, read_classes, read_filenames
from ssagan_jax.data.formats.folder_names import (
    is_picture,
    split_and_label,
    strip_extension,
    unique_name,
)
from ssagan_jax.data.formats.item import Box, Item
from ssagan_jax.data.formats.safe_paths import find_picture, read_captions, read_text, walk_files
from ssagan_jax.errors import DataError

SPLITS = {"train": "train", "validation": "test"}
NAMES = "filenames.pickle"
BOXES = "CUB_200_2011/bounding_boxes.txt"
BOX_PHOTOS = "CUB_200_2011/images.txt"
_PICTURES = ("CUB_200_2011/images", "oxford-102-flowers/images", "images")
# DF-GAN keeps COCO's pictures in the folders that they come in.
_PARTS = ("", "train2014", "val2014")
_MAX_TABLE_BYTES = 64 * 2**20


class AttnGan:
    """Pictures and sentences in two trees of the same names."""

    def recognises(self, source: Path) -> bool:
        """Whether there is `text/` and one of the folders of pictures."""
        return (source / "text").is_dir() and _pictures_folder(source) is not None

    def items(self, source: Path) -> Iterator[Item]:
        """Yields the pictures in the order of the listings or, without listings, of their names."""
        boxes = _boxes(source)
        folder = _pictures_folder(source) or source / _PICTURES[0]
        listings = _listings(source)
        for name, label, split in listings:
            parts = (find_picture(folder / part, name) for part in _PARTS)
            picture = next(filter(None, parts), None)
            yield _item(source, folder, picture, name, name, label, split, boxes)
        if listings:
            return
        stems: set[str] = set()
        for file in filter(is_picture, walk_files(folder)):
            split, label = split_and_label(file)
            stem, name = strip_extension(file), unique_name(file, stems)
            yield _item(source, folder, folder / file, stem, name, label, split, boxes)
        yield from _texts_without_picture(source, stems)


def text_file(source: Path, name: str) -> Path:
    """The file with the captions of a picture, whether or not it exists."""
    path = source / "text" / f"{name}.txt"
    flat = source / "text" / f"{PurePosixPath(name).name}.txt"
    return flat if not os.path.lexists(path) and os.path.lexists(flat) else path


def _pictures_folder(source: Path) -> Path | None:
    return next((source / part for part in _PICTURES if (source / part).is_dir()), None)


def _listings(source: Path) -> list[tuple[str, str, str]]:
    """Name, class and split of all pictures that the pickles list, [] without pickles."""
    paths = {split: source / folder / NAMES for split, folder in SPLITS.items()}
    paths = {split: path for split, path in paths.items() if os.path.lexists(path)}
    names = {split: read_filenames(source, path) for split, path in paths.items()}
    infos = {split: path.with_name(CLASSES) for split, path in paths.items()}
    numbered = bool(infos) and all(os.path.lexists(path) for path in infos.values())
    found = []
    for split, listed in names.items():
        classes = (
            read_classes(source, infos[split], len(listed))
            if numbered
            else [name.rpartition("/")[0] for name in listed]
        )
        # A single listing says which pictures to use, not which to hold out.
        known = split if len(names) == 2 else ""
        found += [(name, label, known) for name, label in zip(listed, classes, strict=True)]
    return found


def _item(
    source: Path,
    folder: Path,
    picture: Path | None,
    stem: str,
    name: str,
    label: str,
    split: str,
    boxes: dict[str, Box] | None,
) -> Item:
    """The item of a picture whose text and box are those of `stem`."""
    captions, error = read_captions(folder, picture, source / "text", text_file(source, stem))
    if boxes is not None and stem not in boxes:
        error = error or f"{source / BOXES}: no box for {stem}; add it or remove the file"
    return Item(name, picture, captions, label, split, (boxes or {}).get(stem), error)


def _texts_without_picture(source: Path, names: set[str]) -> Iterator[Item]:
    texts = source / "text"
    names = names | {PurePosixPath(name).name for name in names}  # Texts may be in one folder.
    for file in walk_files(texts):
        name = strip_extension(file)
        if file.endswith(".txt") and name not in names:
            captions, error = read_captions(texts, None, texts, texts / file)
            yield Item(name, None, captions, error=error)


def _boxes(source: Path) -> dict[str, Box] | None:
    """Each photo's box by its name without extension; None if there is no file of boxes."""
    if not os.path.lexists(source / BOXES):
        return None
    if not os.path.lexists(source / BOX_PHOTOS):
        raise DataError(f"{source / BOX_PHOTOS}: missing; {BOXES} cannot be read without it")
    boxes = {}
    for number, fields in _read_table(source, BOXES, 5):
        try:
            left, top, width, height = (int(float(field)) for field in fields[1:])
        except (ValueError, OverflowError):
            raise DataError(
                f"{source / BOXES}, line {number}: {fields[1:]} are not numbers of pixels"
            ) from None
        boxes[fields[0]] = (left, top, width, height)
    photos = {fields[0]: fields[1].strip() for _, fields in _read_table(source, BOX_PHOTOS, 2)}
    return {path.rpartition(".")[0]: boxes[key] for key, path in photos.items() if key in boxes}


def _read_table(source: Path, file: str, fields: int) -> Iterator[tuple[int, list[str]]]:
    """Yields the line numbers and the blank-separated fields of a text file."""
    lines = read_text(source, source / file, _MAX_TABLE_BYTES).splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            parts = line.split(maxsplit=fields - 1)
            if len(parts) != fields:
                raise DataError(
                    f"{source / file}, line {number}: {line!r} must have {fields} fields"
                )
            yield number, parts
