"""CUB-200-2011 birds, or other photos in the same folder layout (AttnGAN and its successors)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from ssagan_jax.data.class_ids import assign_class_ids
from ssagan_jax.data.formats.attngan import (
    BOX_PHOTOS,
    BOXES,
    NAMES,
    SPLITS,
    TEXTS,
    AttnGan,
    text_file,
)
from ssagan_jax.data.formats.filename_pickles import CLASSES
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.formats.safe_paths import check_safe
from ssagan_jax.data.images.open_image import open_image
from ssagan_jax.data.images.resizing import crop_and_resize
from ssagan_jax.data.prepared.builder import CaptionedImageBuilder
from ssagan_jax.errors import DataError

_PHOTOS = "CUB_200_2011/images"
_LAYOUT = (
    f"Expected are {_PHOTOS}/<species>/<photo>.jpg, text/<species>/<photo>.txt with one sentence "
    f"a line, train/{NAMES} and test/{NAMES}; point config.data.dir at the folder that holds them"
)


class Birds(CaptionedImageBuilder, skip_registration=True):
    """Photos of birds with about ten sentences each, cropped around the bird.

    `source` is the folder that AttnGAN, DF-GAN and SSA-GAN call `data/birds`. Training pictures
    are those of `train/filenames.pickle`, validation pictures those of `test/filenames.pickle`;
    no `captions.pickle` is needed. If there is a `bounding_boxes.txt`, each photo is cropped
    around its box. Classes come from `class_info.pickle` if both splits have one, else from the
    species folders; `class_id` counts from 0 and means the same in both splits.
    """

    VERSION = tfds.core.Version("1.0.0")
    PARTS = (
        _PHOTOS,
        BOXES,
        BOX_PHOTOS,
        "text",
        *(f"{folder}/{file}" for folder in SPLITS.values() for file in (NAMES, CLASSES)),
    )

    def _examples(self, split: str) -> Iterator[dict[str, Any]]:
        """Yields the photos of a split in the order of its filenames.pickle."""
        root = Path(self.source)
        _check_layout(self.source)
        items = list(AttnGan().items(root))
        class_ids = assign_class_ids([item.label for item in items])
        for item, class_id in zip(items, class_ids, strict=True):
            if item.split != split:
                continue
            _check_item(root, item)
            try:
                image = open_image(item.picture or root / _PHOTOS / f"{item.name}.jpg")
                image = crop_and_resize(image, item.box, self.load_size)
            except DataError as error:
                self.bad_image(item.name, error)
                continue
            yield {
                "image": image,
                "captions": list(item.captions),
                "class_id": class_id,
                "name": item.name,
                "attributes": {},
            }


def _check_item(root: Path, item: Item) -> None:
    if item.error:
        raise DataError(item.error)
    if not item.captions:
        path = text_file(root / TEXTS, item.name)
        check_safe(root / TEXTS, path)  # Raises if there is no such file.
        raise DataError(f"{path}: no sentences; write at least one, one a line")


def _check_layout(source: str) -> None:
    if not source:
        raise DataError(f"config.data.dir='': birds need the folder of the data set. {_LAYOUT}")
    for part in ("", _PHOTOS, TEXTS, *(f"{folder}/{NAMES}" for folder in SPLITS.values())):
        if not (path := Path(source, part)).exists():
            raise DataError(f"{path}: there is no such file or folder. {_LAYOUT}")
