"""Opening the pictures that people have as plain RGB, and bringing them to size."""

import os

import numpy as np
from PIL import Image, ImageOps

from ssagan_jax.errors import InputError

MAX_PIXELS = 1024**3 // 4 // 3  # Pillow's own line for a decompression bomb, 89 megapixels.
# Formats with decoders of Pillow's own: its EPS reader, for one, would start Ghostscript.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")


Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""


class DataError(InputError):
    """A source of data is missing, damaged or in another layout; the message says which."""


class TooManyPixels(DataError):
    """A picture is larger than the reader allows."""


def open_image(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Opens a picture of any common format and kind as 8-bit RGB, upright.

    Transparent pixels are laid on white, 16-bit greys are scaled to 8 bits, and a rotation noted
    in the EXIF data is carried out. The format is told by the content, not by the name's ending; it
    stays as the picture's `format`.

    Args:
      path: the file to read.
      max_pixels: the most pixels, width times height, that are decoded.

    Raises:
      DataError: naming the file, if it is missing, empty, cut short, no picture, or too large.
    """
    try:
        if not os.path.getsize(path):
            raise DataError("the file is empty")
        with Image.open(path, formats=_FORMATS) as image:
            _check_pixels(image.size, max_pixels)
            image.load()
            upright = _as_rgb(ImageOps.exif_transpose(image))
            upright.format = image.format
            return upright
    except DataError as error:
        raise type(error)(f"{path}: {error}") from None
    except Image.UnidentifiedImageError:
        raise DataError(f"{path}: not a picture; readable are {', '.join(_FORMATS)}") from None
    except Exception as error:  # Pillow's decoders let many kinds out on damaged input.
        raise DataError(f"{path}: cannot be read as a picture ({error})") from error


def resize_smaller_edge(image: Image.Image, size: int) -> Image.Image:
    """Scales a picture, up or down, so that its smaller edge is `size` pixels.

    Bilinear with antialiasing, and the longer edge rounded down, as torchvision's `Resize` does
    with PIL pictures.

    Raises:
      DataError: if the picture is so narrow that the result would pass `MAX_PIXELS`.
    """
    width, height = image.size
    smaller = min(width, height)
    if smaller == size:
        return image
    target = (size * width // smaller, size * height // smaller)
    _check_pixels(target, MAX_PIXELS)
    return image.resize(target, Image.Resampling.BILINEAR)


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


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise TooManyPixels(f"{size[0]} x {size[1]} pixels are more than the {max_pixels} allowed")


def _as_rgb(image: Image.Image) -> Image.Image:
    """Returns the picture in mode RGB."""
    if image.mode.startswith("I"):
        # Pillow would clip 16-bit greys at 255, which turns nearly every picture white.
        grey = np.clip(np.asarray(image), 0, 65535) / 257
        return Image.fromarray(np.round(grey).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise DataError("floating-point greys have no known range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
