"""Reads colour and facing of toy cars from images by fixed rules, with nothing learned.

Images are uint8 [B, H, W, 3] in 0..255, square, at least 32 pixels, as a model sees them: crops of
``image_size`` pixels out of the ``get_load_size(image_size)`` that were drawn.
"""

import numpy as np

from ssagan_jax.data.toy_cars.car import COLORS, FACINGS

# Fractions of the image's edge: for any body type and crop, much of this box is door.
_DOOR_ROWS, _DOOR_COLUMNS = (0.48, 0.67), (0.4, 0.6)
# The lamps' rows, and the outer columns (mirrored for the other side) in which they lie.
_LAMP_ROWS, _LAMP_COLUMNS = (0.42, 0.66), (0.0, 0.3)
_LAMPS = np.array([(196, 8, 22), (252, 234, 138)])  # tail light and headlight, RGB
_LAB_WEIGHTS = np.array([0.5, 1, 1], np.float32)  # shade changes lightness more than hue
_VOTE_WIDTH, _LAMP_WIDTH = 22.0, 12.0  # units of L*a*b*
# Next to the doors every car has dark trim and a shadow, and many have a pale background.
_NEUTRAL_VOTE = {"black": 0.3, "white": 0.5}


def rgb_to_lab(rgb: np.ndarray) -> np.ndarray:
    """Converts sRGB [..., 3] in 0..255 to CIE L*a*b* (D65) [..., 3], L* in 0..100."""
    c = np.asarray(rgb, np.float32) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ],
        np.float32,
    )
    xyz = linear @ to_xyz.T / to_xyz.sum(1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def _checked(images: np.ndarray) -> np.ndarray:
    """Raises ValueError unless ``images`` is uint8 [B, H, H, 3] with H >= 32."""
    images = np.asarray(images)
    square = images.ndim == 4 and images.shape[1] == images.shape[2] and images.shape[3] == 3
    if images.dtype != np.uint8 or not square or images.shape[1] < 32:
        raise ValueError(
            f"images are {images.dtype} {list(images.shape)}; pass uint8 [B, H, H, 3] in 0..255 "
            "with H >= 32"
        )
    return images


def _crop(
    images: np.ndarray, rows: tuple[float, float], columns: tuple[float, float]
) -> np.ndarray:
    """The part between fractions ``rows`` and ``columns`` of the edge: uint8 [B, h, w, 3]."""
    top, bottom, left, right = (round(c * images.shape[1]) for c in (*rows, *columns))
    return images[:, top:bottom, left:right]


def squared_distance(lab: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Between colors in L*a*b* [..., 3], lightness counting less: [...]."""
    return (((lab - other) * _LAB_WEIGHTS) ** 2).sum(-1)


def _door_pixels(images: np.ndarray) -> np.ndarray:
    """Colors around the doors in L*a*b*: [B, pixels, 3]."""
    door = _crop(_checked(images), _DOOR_ROWS, _DOOR_COLUMNS)
    return rgb_to_lab(door).reshape(len(door), -1, 3)


def read_color(images: np.ndarray) -> list[str]:
    """Names the body colour of each car, one of the eight of COLORS.

    Each pixel around the doors votes for the paint nearest to it in L*a*b*, the more the nearer it
    is, so door lines, windows and ground hardly count and light and shade are forgiven.

    Args:
        images: uint8 [B, H, H, 3] in 0..255, H >= 32; crops off the centre by up to 8% are fine.

    Raises:
        ValueError: the images have another type or shape.
    """
    paints = rgb_to_lab(np.array(list(COLORS.values())))
    apart = squared_distance(_door_pixels(images)[..., None, :], paints)
    nearest = apart == apart.min(-1, keepdims=True)
    votes = (nearest * np.exp(-apart / (2 * _VOTE_WIDTH**2))).mean(1)
    votes *= [_NEUTRAL_VOTE.get(name, 1.0) for name in COLORS]
    return [list(COLORS)[i] for i in votes.argmax(1)]


def read_paint(images: np.ndarray) -> np.ndarray:
    """The shade in which the color that `read_color` names shows: L*a*b* f32[B, 3]."""
    door = _door_pixels(images)
    named = rgb_to_lab(np.array([COLORS[name] for name in read_color(images)]))
    weights = np.exp(-squared_distance(door, named[:, None]) / (2 * _VOTE_WIDTH**2))[..., None]
    return (door * weights).sum(1) / np.maximum(weights.sum(1), 1e-6)


def read_facing(images: np.ndarray) -> list[str]:
    """Names the side each car's front points to, "left" or "right".

    The rule compares how much of the red tail light and of the pale yellow headlight the outer
    columns of both sides show. The tail light of a red car and the headlight of a yellow one are
    ignored, because there the paint itself would count. Images and errors as for `read_color`.
    """
    paints = np.array(read_color(images))
    trusted = np.stack([paints != "red", paints != "yellow"], -1)
    score = np.zeros(len(images))
    for side, flipped in ((1, images), (-1, images[:, :, ::-1])):
        lab = rgb_to_lab(_crop(flipped, _LAMP_ROWS, _LAMP_COLUMNS))
        apart = squared_distance(lab[..., None, :], rgb_to_lab(_LAMPS))
        similarity = np.exp(-apart / (2 * _LAMP_WIDTH**2))
        tail, head = (similarity.mean((1, 2)) * trusted).T
        score += side * (tail - head)
    return [FACINGS[int(value > 0)] for value in score]
