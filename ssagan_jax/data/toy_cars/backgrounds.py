"""Backgrounds of toy cars: city, desert, forest and others."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

Rgb = tuple[int, int, int]
Scene = Callable[[ImageDraw.ImageDraw, np.random.Generator, int], None]
_HORIZON = 0.6


def mix(color: Rgb, other: Rgb, share: float) -> Rgb:
    """``color`` blended with ``other``, which has the weight ``share`` in [0, 1]."""
    r, g, b = (round(a + (o - a) * share) for a, o in zip(color, other, strict=True))
    return r, g, b


def _skyline(pen: ImageDraw.ImageDraw, rng: np.random.Generator, edge: int) -> None:
    x = -0.05
    while x < 1:
        wide, tall = rng.uniform(0.09, 0.17), rng.uniform(0.16, 0.42)
        grey = int(rng.integers(150, 182))
        box = (x, _HORIZON - tall, x + wide, _HORIZON)
        pen.rectangle([c * edge for c in box], fill=(grey, grey + 4, grey + 12))
        for wx in np.arange(x + 0.018, x + wide - 0.022, 0.034):
            for wy in np.arange(_HORIZON - tall + 0.022, _HORIZON - 0.02, 0.042):
                lit = (214, 214, 204) if rng.random() < 0.7 else (140, 146, 158)
                pane = (wx, wy, wx + 0.016, wy + 0.02)
                pen.rectangle([c * edge for c in pane], fill=lit)
        x += wide + rng.uniform(0.0, 0.02)
    for x in np.arange(-0.05 + rng.uniform(0, 0.1), 1, 0.22):
        dash = (x, 0.86, x + 0.12, 0.872)
        pen.rectangle([c * edge for c in dash], fill=(206, 206, 202))


def _ridges(color: Rgb, low: float, high: float, flat: bool = False) -> Scene:
    """Mountains, or flat-topped rocks, of the given heights above the horizon."""

    def scene(pen: ImageDraw.ImageDraw, rng: np.random.Generator, edge: int) -> None:
        for x in rng.permutation(np.arange(4)) * 0.3 + rng.uniform(-0.1, 0.15, 4):
            tall, half = rng.uniform(low, high), rng.uniform(0.15, 0.24)
            top = half * 0.6 if flat else 0.0
            peak = _HORIZON - tall
            shape = [(x - half, _HORIZON), (x - top, peak), (x + top, peak), (x + half, _HORIZON)]
            tone = mix(color, (255, 255, 255), rng.uniform(0, 0.22))
            pen.polygon([(a * edge, b * edge) for a, b in shape], fill=tone)
            if not flat:
                snow = 0.3
                cap = [(x - half * snow, peak + tall * snow), (x, peak)]
                cap += [(x + half * snow, peak + tall * snow), (x, peak + tall * snow * 0.75)]
                pen.polygon([(a * edge, b * edge) for a, b in cap], fill=(228, 232, 238))

    return scene


def _trees(pen: ImageDraw.ImageDraw, rng: np.random.Generator, edge: int) -> None:
    for row in range(2):
        for x in np.arange(-0.02, 1.05, 0.105) + rng.uniform(-0.03, 0.03):
            tall, half = rng.uniform(0.26, 0.42) - 0.08 * row, rng.uniform(0.06, 0.085)
            tone = mix((122, 150, 128), (196, 210, 200), rng.uniform(0.15, 0.4) + 0.3 - 0.3 * row)
            for step in range(3):
                base = _HORIZON - tall * step * 0.27
                wide = half * (1 - 0.22 * step)
                peak = base - tall * 0.46
                shape = [(x - wide, base), (x, peak), (x + wide, base)]
                pen.polygon([(a * edge, b * edge) for a, b in shape], fill=tone)


def _sea(pen: ImageDraw.ImageDraw, rng: np.random.Generator, edge: int) -> None:
    pen.rectangle((0, 0.47 * edge, edge, 0.6 * edge), fill=(142, 184, 198))
    for y in (0.5, 0.535, 0.57):
        for x in rng.uniform(0, 1, 4):
            foam = (x, y, x + rng.uniform(0.06, 0.14), y + 0.006)
            pen.rectangle([c * edge for c in foam], fill=(206, 224, 228))
    x, y = rng.uniform(0.12, 0.88), rng.uniform(0.1, 0.2)
    pen.ellipse([c * edge for c in (x - 0.06, y - 0.06, x + 0.06, y + 0.06)], fill=(250, 244, 222))


def _wall(pen: ImageDraw.ImageDraw, rng: np.random.Generator, edge: int) -> None:
    for y in np.arange(0.1, _HORIZON, 0.07):
        pen.line((0, y * edge, edge, y * edge), fill=(170, 170, 170), width=max(1, edge // 120))
    left = rng.uniform(0.08, 0.5)
    for x in (left, left + 0.2):
        pen.rectangle([c * edge for c in (x, 0.12, x + 0.17, 0.28)], fill=(150, 154, 158))
        pane = (x + 0.012, 0.132, x + 0.158, 0.268)
        pen.rectangle([c * edge for c in pane], fill=(212, 222, 228))


def _hills(pen: ImageDraw.ImageDraw, rng: np.random.Generator, edge: int) -> None:
    for x, pale in zip(rng.permutation([0.0, 0.5, 1.0]), (0.5, 0.3, 0.1), strict=True):
        wide, tall = rng.uniform(0.35, 0.5), rng.uniform(0.1, 0.2)
        box = (x - wide, _HORIZON - tall, x + wide, _HORIZON + tall)
        tone = mix((158, 180, 140), (226, 232, 218), pale)
        pen.chord([c * edge for c in box], 180, 360, fill=tone)
    for x in rng.uniform(0.05, 0.95, 3):
        y, size = rng.uniform(0.1, 0.24), rng.uniform(0.05, 0.08)
        for shift, share in ((-0.9, 0.6), (0.0, 1.0), (0.9, 0.65)):
            r, c = size * share, x + shift * size
            pen.ellipse(
                [k * edge for k in (c - r, y - r * 0.6, c + r, y + r * 0.6)], (240, 243, 245)
            )


_ROCKS = _ridges((198, 166, 144), 0.08, 0.26, flat=True)
_MOUNTAINS = _ridges((146, 156, 172), 0.18, 0.42)
# Colours of the sky's top and bottom and of the ground's top and bottom, and what stands there.
_SCENES: dict[str, tuple[Rgb, Rgb, Rgb, Rgb, Scene]] = {
    "city": ((168, 194, 216), (214, 222, 228), (150, 151, 154), (126, 127, 132), _skyline),
    "desert": ((176, 202, 218), (232, 226, 210), (216, 198, 166), (196, 172, 138), _ROCKS),
    "forest": ((190, 208, 214), (220, 228, 222), (172, 176, 152), (146, 150, 128), _trees),
    "beach": ((160, 198, 220), (216, 228, 230), (222, 208, 178), (204, 186, 152), _sea),
    "garage": ((190, 190, 188), (204, 204, 202), (164, 162, 160), (138, 136, 136), _wall),
    "studio": ((186, 188, 194), (214, 214, 216), (196, 196, 198), (164, 164, 168), lambda *_: None),
    "mountains": ((164, 192, 218), (220, 226, 230), (168, 172, 160), (140, 144, 134), _MOUNTAINS),
    "countryside": ((166, 200, 222), (222, 230, 228), (176, 178, 168), (150, 150, 142), _hills),
}
BACKGROUNDS = tuple(_SCENES)


def draw_background(background: str, seed: tuple[int, ...], edge: int) -> Image.Image:
    """Sky, ground and what stands there: ``edge`` x ``edge`` RGB.

    ``background`` is one of ``BACKGROUNDS``; ``seed`` varies the hills, houses or trees.
    """
    sky_top, sky_low, ground_top, ground_low, scene = _SCENES[background]
    y = (np.arange(edge) + 0.5) / edge
    stops = (0.0, _HORIZON, _HORIZON + 1e-6, 1.0)
    colors = np.asarray((sky_top, sky_low, ground_top, ground_low), float)
    column = np.stack([np.interp(y, stops, colors[:, c]) for c in range(3)], -1)
    image = Image.fromarray(column.round().astype(np.uint8)[:, None, :])
    image = image.resize((edge, edge), Image.Resampling.NEAREST)
    scene(ImageDraw.Draw(image), np.random.default_rng(seed), edge)
    return image
