"""Cropping images to a box and scaling them to the size at which they are kept."""

from PIL import Image

from ssagan_jax.data.images.decompression_bombs import check_pixels
from ssagan_jax.errors import DataError

Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""

LOAD_SCALE = 76 / 64
"""Edge at which images are kept over the edge at which they are trained, for random crops."""


def get_load_size(image_size: int) -> int:
    """Smaller edge, in pixels, at which images are kept for training at `image_size` pixels."""
    return int(image_size * LOAD_SCALE)


def resize_smaller_edge(image: Image.Image, size: int) -> Image.Image:
    """Scales an image, up or down, so that its smaller edge is `size` pixels.

    Bilinear with antialiasing; the longer edge is rounded down, as torchvision's `Resize` does
    with PIL images.

    Raises:
      DataError: the image is so narrow that the result would exceed `MAX_PIXELS`.
    """
    width, height = image.size
    smaller = min(width, height)
    if smaller == size:
        return image
    target = (size * width // smaller, size * height // smaller)
    check_pixels(target)
    return image.resize(target, Image.Resampling.BILINEAR)


def crop_to_box(image: Image.Image, box: Box) -> Image.Image:
    """Crops a square around the centre of a box, clipped to the image.

    The square extends three quarters of the box's longer side in each direction, so its edge is
    1.5 times that side, as in AttnGAN and its successors.

    Raises:
      DataError: the square and the image do not overlap.
    """
    left, top, width, height = box
    reach = int(max(width, height) * 0.75)
    x, y = int((2 * left + width) / 2), int((2 * top + height) / 2)
    right, bottom = min(image.width, x + reach), min(image.height, y + reach)
    left, top = max(0, x - reach), max(0, y - reach)
    if left >= right or top >= bottom:
        raise DataError(f"box {box} lies outside the picture of {image.size} pixels")
    return image.crop((left, top, right, bottom))


def crop_and_resize(image: Image.Image, box: Box | None, load_size: int) -> Image.Image:
    """Crops to the box, if there is one, and scales the smaller edge to `load_size` pixels.

    Raises:
      DataError: the box lies outside the image, or the result would be too large.
    """
    return resize_smaller_edge(crop_to_box(image, box) if box else image, load_size)
