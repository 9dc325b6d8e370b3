"""CUB-200-2011 birds, or one's own photos, in the folder layout of AttnGAN and its successors."""

import operator
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from ssagan_jax.data.builder import CaptionedImageBuilder
from ssagan_jax.data.images import DataError, open_image, resize_smaller_edge
from ssagan_jax.data.pickles import load_pickle

_FOLDERS = {"train": "train", "validation": "test"}
_PHOTOS = "CUB_200_2011/images"
_BOXES = "CUB_200_2011/bounding_boxes.txt"
_BOX_PHOTOS = "CUB_200_2011/images.txt"
_NAMES = "filenames.pickle"
_CLASSES = "class_info.pickle"
_LAYOUT = (
    f"Expected are {_PHOTOS}/<species>/<photo>.jpg, text/<species>/<photo>.txt with one sentence "
    f"a line, train/{_NAMES} and test/{_NAMES}; point config.data.dir at the folder that holds them"
)

Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""


class Birds(CaptionedImageBuilder, skip_registration=True):
    """Photos of birds with some ten sentences each, cut out around the bird.

    `source` is the folder that AttnGAN, DF-GAN and SSA-GAN call `data/birds`. Training pictures
    are those of `train/filenames.pickle`, validation pictures those of `test/filenames.pickle`;
    no `captions.pickle` is needed. Where there is a `bounding_boxes.txt`, each photo is cropped
    around its box. Classes come from `class_info.pickle` where both splits have one, else from
    the species folders; `class_id` counts from 0 and means the same in both splits.
    """

    VERSION = tfds.core.Version("1.0.0")
    PARTS = (
        _PHOTOS,
        _BOXES,
        _BOX_PHOTOS,
        "text",
        *(f"{folder}/{file}" for folder in _FOLDERS.values() for file in (_NAMES, _CLASSES)),
    )

    def _examples(self, split: str) -> Iterator[dict[str, Any]]:
        """Yields the photos of a split in the order of its filenames.pickle."""
        root = Path(self.source)
        _check_layout(self.source)
        names = {each: _names(root / folder / _NAMES) for each, folder in _FOLDERS.items()}
        class_ids = _class_ids(root, names)
        boxes = _boxes(root)
        for name, class_id in zip(names[split], class_ids[split], strict=True):
            photo = _inside(root / _PHOTOS, f"{name}.jpg")
            captions = _sentences(_inside(root / "text", f"{name}.txt"))
            if boxes is not None and name not in boxes:
                raise DataError(f"{root / _BOXES}: no box for {name}; add it or remove the file")
            try:
                image = open_image(photo)
                if boxes is not None:
                    image = crop_to_box(image, boxes[name])
                image = resize_smaller_edge(image, self.load_size)
            except DataError as error:
                self.bad_image(name, error)
                continue
            yield {
                "image": image,
                "captions": captions,
                "class_id": class_id,
                "name": name,
                "attributes": {},
            }


def crop_to_box(image: Image.Image, box: Box) -> Image.Image:
    """Cuts out a square around a box's centre, as far as it lies within the picture.

    The square reaches three quarters of the box's longer side to each side of the centre, so
    that its edge is one and a half times that side, as AttnGAN and its successors have it.

    Args:
      image: the picture.
      box: left, top, width and height in pixels.

    Raises:
      DataError: if the square and the picture do not overlap.
    """
    left, top, width, height = box
    reach = int(max(width, height) * 0.75)
    x, y = int((2 * left + width) / 2), int((2 * top + height) / 2)
    right, bottom = min(image.width, x + reach), min(image.height, y + reach)
    left, top = max(0, x - reach), max(0, y - reach)
    if left >= right or top >= bottom:
        raise DataError(f"box {box} lies outside the picture of {image.size} pixels")
    return image.crop((left, top, right, bottom))


def _check_layout(source: str) -> None:
    if not source:
        raise DataError(f"config.data.dir='': birds need the folder of the data set. {_LAYOUT}")
    required = ("", _PHOTOS, "text", *(f"{folder}/{_NAMES}" for folder in _FOLDERS.values()))
    for part in required:
        path = Path(source, part)
        if not path.exists():
            raise DataError(f"{path}: there is no such file or folder. {_LAYOUT}")


def _names(path: Path) -> list[str]:
    """Returns the photos that a filenames.pickle lists, checked to be names inside a folder."""
    names = load_pickle(path)
    if not isinstance(names, list | tuple | np.ndarray) or not len(names):
        raise DataError(f"{path}: holds {type(names).__name__}, not a list of <species>/<photo>")
    return [_name(name, path) for name in names]


def _name(name: Any, path: Path) -> str:
    try:
        text = name.decode() if isinstance(name, bytes) else str(name)
        text.encode()
    except UnicodeError:
        raise DataError(f"{path}: {name!r} is not UTF-8") from None
    parts = PurePosixPath(text).parts
    if not isinstance(name, bytes | str) or not parts or "\0" in text:
        raise DataError(f"{path}: {name!r} is not a name such as <species>/<photo>")
    if text.startswith("/") or ".." in parts:
        raise DataError(f"{path}: {text!r} leads out of the folder; list <species>/<photo> only")
    return text


def _inside(folder: Path, name: str) -> Path:
    """Returns the path of a file below `folder`, with no link on the way that leads out of it."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{path}: a link leads out of {folder}, to {path.resolve()}; copy the file")
    return path


def _class_ids(root: Path, names: dict[str, list[str]]) -> dict[str, list[int]]:
    """Returns every photo's class, numbered 0, 1, ... in the order of both splits' classes."""
    paths = {split: root / folder / _CLASSES for split, folder in _FOLDERS.items()}
    if all(path.exists() for path in paths.values()):
        classes = {split: _class_info(path, len(names[split])) for split, path in paths.items()}
    else:
        classes = {
            split: [name.rpartition("/")[0] for name in listed] for split, listed in names.items()
        }
    ids = {value: index for index, value in enumerate(sorted(set().union(*classes.values())))}
    return {split: [ids[value] for value in values] for split, values in classes.items()}


def _class_info(path: Path, photos: int) -> list[int]:
    values = load_pickle(path)
    try:
        classes = [operator.index(value) for value in values]
    except TypeError:
        raise DataError(f"{path}: holds no list of whole numbers, one a photo") from None
    if len(classes) != photos:
        raise DataError(f"{path}: {len(classes)} classes for the {photos} photos of {_NAMES}")
    return classes


def _boxes(root: Path) -> dict[str, Box] | None:
    """Returns each photo's box under its name without ending; None where no boxes are known."""
    if not (root / _BOXES).exists():
        return None
    if not (root / _BOX_PHOTOS).exists():
        raise DataError(f"{root / _BOX_PHOTOS}: not there; {_BOXES} cannot be read without it")
    boxes = {}
    for number, fields in _numbered(root / _BOXES, 5):
        try:
            left, top, width, height = (int(float(field)) for field in fields[1:])
        except (ValueError, OverflowError):
            raise DataError(f"{root / _BOXES}, line {number}: {fields[1:]} are no pixels") from None
        boxes[fields[0]] = (left, top, width, height)
    photos = {fields[0]: fields[1].strip() for _, fields in _numbered(root / _BOX_PHOTOS, 2)}
    return {path.rpartition(".")[0]: boxes[key] for key, path in photos.items() if key in boxes}


def _numbered(path: Path, fields: int) -> Iterator[tuple[int, list[str]]]:
    """Yields the line numbers and the fields, parted by blanks, of a text file."""
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            parts = line.split(maxsplit=fields - 1)
            if len(parts) != fields:
                raise DataError(f"{path}, line {number}: {line!r} has not {fields} fields")
            yield number, parts


def _sentences(path: Path) -> list[str]:
    """Returns the lines of a text file that hold more than blanks."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; write one sentence a line") from None
    sentences = [line for line in text.split("\n") if line.strip()]
    if not sentences:
        raise DataError(f"{path}: no sentences; write at least one, one a line")
    return sentences
