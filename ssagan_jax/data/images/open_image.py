"""Decodes image files of any common format to upright 8-bit RGB."""

import io
import os

import numpy as np
from PIL import Image, ImageOps

from ssagan_jax.data.images.decompression_bombs import MAX_PIXELS, check_pixels
from ssagan_jax.errors import DataError

# Formats that Pillow decodes itself: its EPS reader, for one, would start Ghostscript.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")


def open_image(
    source: str | os.PathLike[str] | bytes, max_pixels: int = MAX_PIXELS, *, name: str = ""
) -> Image.Image:
    """Decodes an image file, or the content of one, as 8-bit RGB.

    Transparent pixels are blended onto white, 16-bit grey is scaled to 8 bits, and the EXIF
    rotation is applied. The format is detected from the content, not from the file name, and is
    kept as the image's `format`.

    Raises:
      DataError: the file is missing, empty, truncated, not an image, or has more than `max_pixels`;
        the message has the file, or the `name` of the content.
    """
    path = name if isinstance(source, bytes) else source
    try:
        if not (len(source) if isinstance(source, bytes) else os.path.getsize(source)):
            raise DataError("the file is empty")
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=_FORMATS) as image:
            check_pixels(image.size, max_pixels)
            image.load()
            upright = to_upright_rgb(image)
            upright.format = image.format
            return upright
    except DataError as error:
        raise type(error)(f"{path}: {error}") from None
    except Image.UnidentifiedImageError:
        raise DataError(f"{path}: not a picture; readable are {', '.join(_FORMATS)}") from None
    except Exception as error:  # Pillow's decoders raise many kinds of errors on damaged input.
        raise DataError(f"{path}: cannot be read as a picture ({error})") from error


def to_upright_rgb(image: Image.Image) -> Image.Image:
    """An image as `open_image` returns it; raises DataError for floating-point pixels."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        # Pillow would clip 16-bit grey at 255, which turns nearly every image white.
        grey = np.clip(np.asarray(image), 0, 65535) / 257
        return Image.fromarray(np.round(grey).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise DataError("floating-point pixels have no known range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
