"""Decodes one picture of a source and checks it: readable, size, duplicates, grey, file type."""

import dataclasses
import hashlib
import threading
from pathlib import Path

import numpy as np
from PIL import Image

from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.images.decompression_bombs import TooManyPixelsError
from ssagan_jax.data.images.open_image import open_image
from ssagan_jax.data.images.resizing import crop_and_resize
from ssagan_jax.errors import DataError
from ssagan_jax.untrusted.tar_members import FileSlice

# Pictures with more pixels are decoded one at a time: sixteen cores with one of the largest
# allowed each would need as many GiB.
_LARGE_PIXELS = 2**24
_LARGE_IMAGE_LOCK = threading.Lock()
_MAX_BYTES = 2**28  # Of an encoded picture in a shard: what MAX_PIXELS take without compression.
# Those of other formats are their names. MPO is a JPEG with several images, as phones write it.
_EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jfif"),
    "MPO": (".jpg", ".jpeg"),
    "TIFF": (".tif", ".tiff"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class ImageInfo:
    """Properties of a readable picture.

    Attributes:
      size: width and height in pixels.
      digest: 16 bytes that two pictures share only if all their pixels are the same.
      mislabelled: whether the file name's extension is that of another format.
      grey: whether it has hardly any colour.
    """

    size: tuple[int, int]
    digest: bytes
    mislabelled: bool
    grey: bool


def inspect_image(item: Item, load_size: int) -> ImageInfo:
    """Decodes, crops and scales an item's picture as the writer will.

    Raises:
      DataError: it cannot be read, cropped to its box or scaled.
    """
    image = load_item(item)
    # The pixels alone could be of 2 x 3 or of 3 x 2.
    salt = b"".join(edge.to_bytes(8, "little") for edge in image.size)
    digest = hashlib.blake2b(image.tobytes(), digest_size=16, salt=salt).digest()
    crop_and_resize(image, item.box, load_size)
    return ImageInfo(image.size, digest, _is_mislabelled(item, image), _is_grey(image))


def load_item(item: Item) -> Image.Image:
    """The picture of an item as RGB, before it is cropped.

    Raises:
      DataError: it is missing, damaged, too large, or not an image.
    """
    if isinstance(item.picture, np.ndarray):
        if item.picture.dtype != np.uint8 or item.picture.ndim != 3 or item.picture.shape[2] != 3:
            raise DataError(f"{item.picture.dtype} {item.picture.shape} is not uint8 [H, W, 3]")
        return Image.fromarray(item.picture)
    if item.picture is None:
        raise DataError(f"{item.name}: there is no picture")
    picture, name = item.picture, item.name
    if isinstance(picture, FileSlice):
        picture, name = picture.read(_MAX_BYTES), f"{picture.path}, {picture.name}"
    try:
        return open_image(picture, _LARGE_PIXELS, name=name)
    except TooManyPixelsError:
        with _LARGE_IMAGE_LOCK:
            return open_image(picture, name=name)


def _is_grey(image: Image.Image) -> bool:
    # Small, so that JPEG's colour noise at edges averages out. Photos of grey seas have 7.
    small = np.asarray(image.resize((32, 32), Image.Resampling.BOX)).astype(int)
    return bool((small.max(2) - small.min(2)).mean() < 3)


def _is_mislabelled(item: Item, image: Image.Image) -> bool:
    file = item.picture.name if isinstance(item.picture, Path | FileSlice) else ""
    extension = Path(file).suffix.lower()
    known = _EXTENSIONS.get(image.format, (f".{image.format}".lower(),))
    return bool(extension) and extension not in known
