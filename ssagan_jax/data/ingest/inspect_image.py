"""A look at one picture: whether it can be read, what it is, and bringing it to size."""

import dataclasses
import hashlib
import threading
from pathlib import Path

import numpy as np
from PIL import Image

from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.image_loading import (
    Box,
    DataError,
    TooManyPixels,
    crop_to_box,
    open_image,
    resize_smaller_edge,
)

# Beyond this many pixels one picture is read at a time: sixteen cores with the largest allowed
# would take as many GiB.
_LARGE = 2**24
_ONE_LARGE = threading.Lock()
_ENDINGS = {
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),  # A JPEG with more pictures behind the first, as phones write.
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm",),
}


@dataclasses.dataclass(frozen=True, slots=True)
class ImageInfo:
    """What one look at a picture tells.

    Attributes:
      size: width and height in pixels.
      digest: 16 bytes that two pictures share only if all pixels are the same.
      fault: why it cannot be read or brought to size, "" if it can; the others are empty then.
      written_as: the format of the file, if its name says another one, else "".
      grey: whether it has hardly any colour.
    """

    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    fault: str = ""
    written_as: str = ""
    grey: bool = False


def inspect_image(item: Item, load_size: int) -> ImageInfo:
    """Reads an item's picture as `fitted` will, and says what it is."""
    try:
        image = load_item(item)
        pixels = hashlib.blake2b(image.tobytes(), digest_size=16, salt=_salt(image.size))
        crop_and_resize(image, item.box, load_size)
    except DataError as error:
        return ImageInfo(fault=str(error))
    return ImageInfo(image.size, pixels.digest(), "", _mislabelled(item, image), _is_grey(image))


def load_item(item: Item) -> Image.Image:
    """The picture of an item as RGB, whole.

    Raises:
      DataError: it is missing, damaged, too large, or no picture.
    """
    if isinstance(item.picture, np.ndarray):
        if item.picture.dtype != np.uint8 or item.picture.ndim != 3 or item.picture.shape[2] != 3:
            raise DataError(f"{item.picture.dtype} {item.picture.shape} is not uint8 [H, W, 3]")
        return Image.fromarray(item.picture)
    if item.picture is None:
        raise DataError(f"{item.name}: there is no picture")
    try:
        return open_image(item.picture, _LARGE)
    except TooManyPixels:
        with _ONE_LARGE:
            return open_image(item.picture)


def crop_and_resize(image: Image.Image, box: Box | None, load_size: int) -> Image.Image:
    """The part of a picture within its box, with a smaller edge of `load_size` pixels.

    Raises:
      DataError: the box lies outside, or the picture is too narrow.
    """
    if box is not None:
        image = crop_to_box(image, box)
    return resize_smaller_edge(image, load_size)


def _is_grey(image: Image.Image) -> bool:
    # Small, so that what JPEG leaves of colour at edges evens out. Photos of grey seas have 7.
    small = np.asarray(image.resize((32, 32), Image.Resampling.BOX)).astype(int)
    return bool((small.max(2) - small.min(2)).mean() < 3)


def _salt(size: tuple[int, int]) -> bytes:
    return b"".join(edge.to_bytes(8, "little") for edge in size)


def _mislabelled(item: Item, image: Image.Image) -> str:
    ending = item.picture.suffix.lower() if isinstance(item.picture, Path) else ""
    return "" if not ending or ending in _ENDINGS.get(image.format, ()) else str(image.format)
