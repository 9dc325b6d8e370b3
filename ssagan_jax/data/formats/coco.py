"""COCO's captions: `captions_train2014.json` beside the pictures in `train2014/`.

The JSON files may be in `annotations/`, the folders of pictures in `images/`, and both in folders
as Kaggle has them. What follows
`captions_` in a file's name is the folder, and its beginning the split. Years and further words may
differ.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ssagan_jax.data.caption_columns import texts_of
from ssagan_jax.data.formats.folder_names import split_from_name, strip_extension
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.formats.safe_paths import check_name, read_text, unsafe_reason
from ssagan_jax.errors import DataError
from ssagan_jax.untrusted.pickle_names import check_key

_MAX_BYTES = 2**30


class Coco:
    """Lists of images, and of annotations that refer to them by number."""

    def recognises(self, source: Path) -> bool:
        """Whether there is a `captions_*.json` in the folder or up to two folders below."""
        return source.is_dir() and bool(_tables(source))

    def items(self, source: Path) -> Iterator[Item]:
        """Yields each file's images in its order, then captions of images it does not list."""
        for table in _tables(source):
            part = table.stem.removeprefix("captions_")
            images, captions = _read(source, table)
            roots = [root for root in (source, *table.parents[:3]) if root.is_relative_to(source)]
            places = (part, f"{part}/{part}", f"images/{part}", "images", "")
            folders = [root / place for root in dict.fromkeys(roots) for place in places]
            split = split_from_name(part.partition("_")[0])
            for number, file in images.items():
                name, found = strip_extension(f"{part}/{file}"), tuple(captions.pop(number, ()))
                picture, error = _find_picture(source, folders, file)
                yield Item(name, picture, found, split=split, error=error)
            for number, found in captions.items():
                yield Item(f"{part}/image_id={number}", None, tuple(found), split=split)


def _tables(source: Path) -> list[Path]:
    patterns = ("captions_*.json", "*/captions_*.json", "*/*/captions_*.json")
    return [table for pattern in patterns for table in sorted(source.glob(pattern))]


def _read(source: Path, table: Path) -> tuple[dict[Any, str], dict[Any, list[str]]]:
    """File names and captions, both by the image's number."""
    try:
        content = json.loads(read_text(source, table, _MAX_BYTES))
        images = {_key(image["id"]): str(image["file_name"]) for image in content["images"]}
        captions: dict[Any, list[str]] = {}
        for annotation in content["annotations"]:
            texts = texts_of(annotation["caption"])
            if texts is None:
                raise TypeError(f"caption {annotation['caption']!r:.40}")
            captions.setdefault(_key(annotation["image_id"]), []).extend(texts)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{table}: not COCO's captions ({type(error).__name__}: {error}); it must "
            "hold images with id and file_name, and annotations with image_id and caption"
        ) from None
    return images, captions


def _key(number: Any) -> Any:
    """The number or name of an image; ValueError for one that is slow to look up."""
    check_key(number)
    return number


def _find_picture(source: Path, folders: list[Path], file: str) -> tuple[Path | None, str]:
    """The picture, None if it is missing, and why it cannot be used, "" if it can."""
    try:
        check_name(file, source)
    except DataError as error:
        return None, str(error)
    picture = next(filter(os.path.lexists, (folder / file for folder in folders)), None)
    return picture, unsafe_reason(source, picture) if picture else ""
