"""The limit on the pixels of an image, so that a small file cannot fill the memory."""

from ssagan_jax.errors import DataError

MAX_PIXELS = 1024**3 // 4 // 3  # 89 megapixels, above which Pillow warns of a decompression bomb.


class TooManyPixelsError(DataError):
    """An image is larger than allowed."""


def check_pixels(size: tuple[int, int], max_pixels: int = MAX_PIXELS) -> None:
    """Raises TooManyPixelsError if width times height exceeds `max_pixels`."""
    if size[0] * size[1] > max_pixels:
        raise TooManyPixelsError(
            f"{size[0]} x {size[1]} pixels are more than the {max_pixels} allowed"
        )
