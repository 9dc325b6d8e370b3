"""The layout of AttnGAN, DF-GAN and SSA-GAN: birds, flowers, COCO, or other photos.

Pictures are in `CUB_200_2011/images/`, `oxford-102-flowers/images/`, `images/` or `jpg/`, sentences
in `text/`, `text_c10/`, `texts/` or `captions/` under the same names, one per line; if no picture
has its text in the same folder, in any folder. `train/filenames.pickle` and `test/filenames.pickle`
list the pictures of both splits; without them all pictures are used. Beside them,
`class_info.pickle` may number the classes, which otherwise are the folders.
`CUB_200_2011/bounding_boxes.txt` and `images.txt` hold the bounding boxes of the birds.
`captions.pickle` is not needed.
"""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from ssagan_jax.data.formats.filename_pickles import CLASSES, read_classes, read_filenames
from ssagan_jax.data.formats.folder_names import (
    SplitFolders,
    is_picture,
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
_PICTURES = ("CUB_200_2011/images", "oxford-102-flowers/images", "images", "jpg")
TEXTS = "text"
_TEXTS = (TEXTS, "text_c10", "cvpr2016_cub/text_c10", "texts", "captions")
# DF-GAN keeps COCO's pictures in the folders that they come in.
_PARTS = ("", "train2014", "val2014")
_MAX_TABLE_BYTES = 64 * 2**20


class AttnGan:
    """Pictures and sentences in two trees of the same names."""

    def recognises(self, source: Path) -> bool:
        """Whether there is one of the folders of texts, with a text, and one of pictures."""
        texts = _first_folder(source, _TEXTS)
        if not texts or not _first_folder(source, _PICTURES):
            return False
        return any(file.endswith(".txt") for file in walk_files(texts))

    def items(self, source: Path) -> Iterator[Item]:
        """Yields the pictures in the order of the listings or, without listings, of their names."""
        boxes = _boxes(source)
        folder = _first_folder(source, _PICTURES) or source / _PICTURES[0]
        listings = _listings(source)
        names = [name for name, _, _ in listings] or map(
            strip_extension, filter(is_picture, walk_files(folder))
        )
        texts = _Texts(_first_folder(source, _TEXTS) or source / TEXTS, names)
        for name, label, split in listings:
            parts = (find_picture(folder / part, name) for part in _PARTS)
            picture = next(filter(None, parts), None)
            yield _item(Item(name, picture, (), label, split), name, folder, texts, boxes)
        if listings:
            return
        stems: set[str] = set()
        split_and_label = SplitFolders(filter(is_picture, walk_files(folder)))
        for file in filter(is_picture, walk_files(folder)):
            split, label = split_and_label(file)
            stem, name = strip_extension(file), unique_name(file, stems)
            yield _item(Item(name, folder / file, (), label, split), stem, folder, texts, boxes)
        yield from texts.without_picture(stems)


def text_file(texts: Path, name: str) -> Path:
    """The file with the captions of a picture, whether or not it exists."""
    path, flat = texts / f"{name}.txt", texts / f"{PurePosixPath(name).name}.txt"
    return flat if not os.path.lexists(path) and os.path.lexists(flat) else path


class _Texts:
    """The files of captions.

    Attributes:
      folder: that has them all.
      in_classes: whether they are in several folders. Those of flowers are, unlike their pictures.
    """

    def __init__(self, folder: Path, pictures: Iterable[str]) -> None:
        self.folder = folder
        self._same_folders = any(os.path.lexists(text_file(folder, name)) for name in pictures)
        self._by_name: dict[str, list[str]] = {}
        for file in walk_files(folder) if folder.is_dir() else ():
            if file.endswith(".txt"):
                self._by_name.setdefault(PurePosixPath(file).stem, []).append(file)
        files = itertools.chain.from_iterable(self._by_name.values())
        self.in_classes = len({PurePosixPath(file).parent for file in files}) > 1

    def find(self, stem: str) -> Path:
        """The text of a picture, whether or not it exists."""
        named = self._by_name.get(PurePosixPath(stem).name, [])
        if len(named) == 1 and not self._same_folders:
            return self.folder / named[0]
        return text_file(self.folder, stem)

    def without_picture(self, stems: set[str]) -> Iterator[Item]:
        """Yields items of the texts that no picture has."""
        used = {self.find(stem) for stem in stems}
        for file in itertools.chain.from_iterable(self._by_name.values()):
            if self.folder / file not in used:
                captions, error = read_captions(self.folder, None, self.folder, self.folder / file)
                yield Item(strip_extension(file), None, captions, error=error)


def _first_folder(source: Path, names: tuple[str, ...]) -> Path | None:
    return next((source / name for name in names if (source / name).is_dir()), None)


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
    item: Item, stem: str, pictures: Path, texts: _Texts, boxes: dict[str, Box] | None
) -> Item:
    """The item with the captions and the box of the picture with the path `stem`."""
    text = texts.find(stem)
    captions, error = read_captions(pictures, item.picture, texts.folder, text)
    if boxes is not None and stem not in boxes:
        error = error or f"{BOXES}: no box for {stem}; add it or remove the file"
    label = item.label
    if not label and texts.in_classes:
        label = text.parent.relative_to(texts.folder).as_posix()
    box = (boxes or {}).get(stem)
    return dataclasses.replace(item, captions=captions, label=label, box=box, error=error)


def _boxes(source: Path) -> dict[str, Box] | None:
    """Each photo's box by its name without extension; None if there is no file of boxes."""
    file, photos_file = BOXES, BOX_PHOTOS
    if not os.path.lexists(source / file):  # The source may be CUB_200_2011/ itself.
        file, photos_file = PurePosixPath(BOXES).name, PurePosixPath(BOX_PHOTOS).name
    if not os.path.lexists(source / file):
        return None
    if not os.path.lexists(source / photos_file):
        raise DataError(f"{source / photos_file}: missing; {file} cannot be read without it")
    boxes = {}
    for number, fields in _read_table(source, file, 5):
        try:
            left, top, width, height = (int(float(field)) for field in fields[1:])
        except (ValueError, OverflowError):
            raise DataError(
                f"{source / file}, line {number}: {fields[1:]} are not numbers of pixels"
            ) from None
        boxes[fields[0]] = (left, top, width, height)
    photos = {fields[0]: fields[1].strip() for _, fields in _read_table(source, photos_file, 2)}
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
