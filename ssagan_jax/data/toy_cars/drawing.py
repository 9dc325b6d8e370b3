"""Draws one toy car from the side, with its background, at any square resolution.

Lengths of the car are as in `car.py`; those of the image are fractions of its edge, ``y``
downwards.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ssagan_jax.data.toy_cars.backgrounds import Rgb, draw_background, mix
from ssagan_jax.data.toy_cars.car import COLORS, LIGHTS, WHEELS, Car, Profile, body_profile

Point = tuple[float, float]

GLASS, _TYRE, _TRIM = (92, 112, 128), (29, 29, 32), (52, 53, 58)
_HEADLIGHT, _TAILLIGHT = (255, 240, 140), (196, 8, 22)
MIN_SIZE = 32  # Pixels.
_DOOR_CENTRE_Y = 0.57  # The body colour can be read around this height in every image.


def _rounded(points: Sequence[Point], radius: float) -> list[Point]:
    """The closed polygon with each corner replaced by a quadratic curve of about ``radius``."""
    corners = np.asarray(points, float)
    smooth: list[Point] = []
    for i, corner in enumerate(corners):
        ends = []
        for other in (corners[i - 1], corners[(i + 1) % len(corners)]):
            reach = np.linalg.norm(other - corner)
            ends.append(corner + (other - corner) * min(radius / max(reach, 1e-9), 0.5))
        for t in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
            point = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * corner + t**2 * ends[1]
            smooth.append((float(point[0]), float(point[1])))
    return smooth


class _Brush:
    """Draws shapes given in car lengths onto an image of ``edge`` x ``edge`` pixels."""

    def __init__(self, image: Image.Image, car: Car, door_centre: float) -> None:
        self.pen = ImageDraw.Draw(image)
        self.edge = image.width
        self.unit = car.length * image.width
        self.sign = 1 if car.facing == "right" else -1
        self.centre = (0.5 + car.shift[0]) * image.width
        self.ground = (_DOOR_CENTRE_Y + car.shift[1] + door_centre * car.length) * image.width

    def at(self, u: float, v: float) -> Point:
        """Pixel position of a point of the car."""
        return self.centre + self.sign * (u - 0.5) * self.unit, self.ground - v * self.unit

    def polygon(self, points: Sequence[Point], fill: Rgb | int, radius: float = 0.0) -> None:
        """Fills a polygon, its corners rounded by ``radius``."""
        shape = _rounded(points, radius) if radius else points
        self.pen.polygon([self.at(u, v) for u, v in shape], fill=fill)

    def box(self, u0: float, v0: float, u1: float, v1: float, fill: Rgb, radius: float) -> None:
        """Fills an upright box with rounded corners."""
        self.polygon([(u0, v0), (u0, v1), (u1, v1), (u1, v0)], fill, radius)

    def line(self, points: Sequence[Point], fill: Rgb, width: float) -> None:
        """Strokes a polyline of ``width`` car lengths."""
        pixels = max(1, round(width * self.unit))
        self.pen.line([self.at(u, v) for u, v in points], fill=fill, width=pixels, joint="curve")

    def disc(self, u: float, v: float, radius: float, fill: Rgb) -> None:
        """Fills a circle."""
        (x, y), r = self.at(u, v), radius * self.unit
        self.pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)


def _silhouette(p: Profile, open_top: bool) -> list[Point]:
    """Outline of the painted body, from the lower rear corner over the roof to the front."""
    roof = [(p.deck, p.belt), (p.roof_rear, p.roof), (p.roof_front, p.roof), (p.cowl, p.belt)]
    if open_top:
        roof = [(p.deck, p.belt), (p.cowl, p.belt)]
    rear = [(0.025, p.sill), (0.0, p.sill + 0.05), (0.0, p.tail - 0.01), (0.012, p.tail)]
    front = [(0.955, p.nose), (1.0, p.nose - 0.05), (1.0, p.sill + 0.04), (0.98, p.sill)]
    return _rounded(rear + roof + front, 0.035)


def _paint_layer(car: Car, p: Profile, edge: int, ground: float) -> Image.Image:
    """The body colour shaded from top to bottom: ``edge`` x ``edge`` RGB.

    The middle of the doors keeps the pure colour, so that it can be read from the image.
    """
    v = (ground - np.arange(edge)) / (car.length * edge)
    shine = 0.42 * np.exp(-(((v - p.belt + 0.028) / 0.012) ** 2)) + 0.16 * (v > p.belt + 0.01)
    shade = 0.34 * np.clip((p.sill + 0.075 - v) / 0.075, 0, 1)
    paint = np.asarray(COLORS[car.color], float) * np.ones((edge, 1))
    paint = paint + (255 - paint) * shine[:, None]
    paint = paint * (1 - shade[:, None])
    column = paint.round().astype(np.uint8)[:, None, :]
    return Image.fromarray(column).resize((edge, edge), Image.Resampling.NEAREST)


def _windows(brush: _Brush, p: Profile, paint: Rgb) -> None:
    """Glass, its reflection, and the pillars between the windows."""
    top, low, rise = p.roof - 0.028, p.belt + 0.006, p.roof - p.belt
    rear_slope, front_slope = (p.roof_rear - p.deck) / rise, (p.roof_front - p.cowl) / rise

    def rear(v: float) -> float:
        return p.deck + rear_slope * (v - p.belt) + 0.036

    def front(v: float) -> float:
        return p.cowl + front_slope * (v - p.belt) - 0.03

    glass = [(rear(low), low), (rear(top), top), (front(top), top), (front(low), low)]
    brush.polygon(glass, GLASS, 0.016)
    middle = front(low) - 0.1
    shine = [(middle - 0.05, low), (middle - 0.005, low), (middle - 0.05, top)]
    right = min(front(top), middle - 0.05)
    if right - 0.045 > rear(top):
        shine[2:] = [(right, top), (right - 0.045, top)]
        brush.polygon(shine, mix(GLASS, (255, 255, 255), 0.38))
    for u in p.pillars:
        pillar = [(u - 0.013, low - 0.01), (u - 0.009, p.roof - 0.01)]
        pillar += [(u + 0.013, p.roof - 0.01), (u + 0.013, low - 0.01)]
        brush.polygon(pillar, paint)


def _panels(brush: _Brush, car: Car, p: Profile) -> None:
    """Door lines, handles, sill, bumpers and wheel arches on the painted body."""
    paint = COLORS[car.color]
    line = mix(paint, (140, 140, 146) if car.color == "black" else (20, 20, 26), 0.42)
    top = p.belt + 0.004
    for u in p.doors:
        brush.line([(u, top), (u, p.sill + 0.03)], line, 0.007)
        brush.box(u - 0.062, p.belt - 0.068, u - 0.02, p.belt - 0.054, line, 0.005)
    if car.body == "pickup":
        brush.box(0.0, p.tail - 0.022, p.deck - 0.004, p.tail, _TRIM, 0.004)
    for u0, u1 in ((-0.01, 0.075), (0.925, 1.01)):
        brush.box(u0, p.sill, u1, p.sill + 0.062, mix(paint, (96, 97, 102), 0.5), 0.012)
    deep = 0.034 if car.body in ("suv", "pickup") else 0.016
    brush.box(-0.01, p.sill - 0.01, 1.01, p.sill + deep, _TRIM, 0.004)
    for u in p.axles:
        if car.body in ("suv", "pickup"):
            brush.disc(u, p.wheel, p.wheel + 0.038, _TRIM)
        brush.disc(u, p.wheel, p.wheel + 0.02, (20, 20, 23))


def _lamps(brush: _Brush, car: Car, p: Profile) -> None:
    """A pale headlight and a red tail light, their shape by make."""
    rim = mix(COLORS[car.color], (30, 30, 34), 0.55)
    style = car.class_id // 4 % 3
    low, high = p.nose - 0.098, p.nose - 0.026
    front = [(0.925, low + 0.02), (0.94, high), (1.02, high), (1.02, low)]
    if style == 1:
        front = [(0.895, high - 0.012), (0.94, high), (1.02, high), (1.02, low + 0.01)]
    brush.polygon(_grown(front, 1.16), rim, 0.012)
    brush.polygon(front, _HEADLIGHT, 0.012)
    if style == 2:
        brush.disc(0.962, (low + high) / 2, 0.024, (255, 250, 206))
    low, high = p.tail - 0.105, p.tail - 0.026
    if style == 2:
        low -= 0.03
    rear = [(-0.02, low), (-0.02, high), (0.056, high), (0.048, low)]
    brush.polygon(_grown(rear, 1.16), rim, 0.012)
    brush.polygon(rear, _TAILLIGHT, 0.012)


def _grown(points: Sequence[Point], factor: float) -> list[Point]:
    """The polygon scaled about its centre."""
    shape = np.asarray(points)
    centre = shape.mean(0)
    return [(float(u), float(v)) for u, v in centre + (shape - centre) * factor]


def _wheel(brush: _Brush, car: Car, u: float, radius: float) -> None:
    """Tyre, rim and spokes."""
    rim, spokes = WHEELS[car.wheels]
    inner = 0.66 * radius
    brush.disc(u, radius, radius, _TYRE)
    brush.disc(u, radius, inner, rim)
    if spokes == 0:
        brush.disc(u, radius, 0.46 * radius, mix(rim, (70, 72, 78), 0.35))
        brush.disc(u, radius, 0.4 * radius, rim)
    else:
        brush.disc(u, radius, 0.87 * inner, mix(rim, (20, 20, 24), 0.72))
    for angle in np.arange(spokes) * 2 * np.pi / max(spokes, 1) + np.pi / 2:
        tip = (u + 0.9 * inner * np.cos(angle), radius + 0.9 * inner * np.sin(angle))
        brush.line([(u, radius), tip], rim, inner * (0.3 if spokes < 8 else 0.15))
    brush.disc(u, radius, 0.2 * radius, mix(rim, (255, 255, 255), 0.3))


def _open_top(brush: _Brush, p: Profile) -> None:
    """Windscreen, seats and the folded roof of a roadster, behind the painted body."""
    for u in (0.34, 0.45):
        brush.box(u, p.belt - 0.02, u + 0.062, p.belt + 0.062, _TRIM, 0.018)
    brush.box(0.2, p.belt - 0.03, 0.33, p.belt + 0.022, _TRIM, 0.02)
    screen = [(p.cowl - 0.085, p.belt - 0.01), (p.cowl - 0.1, p.roof - 0.02)]
    screen += [(p.roof_front, p.roof - 0.01), (p.cowl, p.belt - 0.01)]
    brush.polygon(screen, mix(GLASS, (255, 255, 255), 0.3))
    brush.line([screen[2], screen[3]], _TRIM, 0.014)


def _draw_car(canvas: Image.Image, car: Car) -> None:
    """Draws the car with its shadow onto the background."""
    p, edge = body_profile(car), canvas.width
    centre = (p.sill + p.belt) / 2
    shadow = Image.new("L", canvas.size)
    soft = _Brush(shadow, car, centre)
    soft.polygon([(-0.03, -0.03), (0.0, 0.03), (1.0, 0.03), (1.03, -0.03)], 120, 0.03)
    shadow = shadow.filter(ImageFilter.BoxBlur(0.012 * edge))
    canvas.paste((30, 30, 40), mask=shadow)

    brush = _Brush(canvas, car, centre)
    outline = _silhouette(p, car.body == "roadster")
    if car.body == "roadster":
        _open_top(brush, p)
    layer = _paint_layer(car, p, edge, brush.ground)
    on_body = _Brush(layer, car, centre)
    if car.body != "roadster":
        _windows(on_body, p, mix(COLORS[car.color], (255, 255, 255), 0.1))
    _panels(on_body, car, p)
    _lamps(on_body, car, p)
    mask = Image.new("L", canvas.size)
    _Brush(mask, car, centre).polygon(outline, 255)
    canvas.paste(layer, mask=mask)
    edge_color = mix(COLORS[car.color], (24, 24, 30), 0.5)
    brush.line([*outline, outline[0], outline[1]], edge_color, 0.008)
    if car.body in ("suv", "wagon"):
        rail = p.roof + 0.012
        brush.line([(p.roof_rear + 0.04, rail), (p.roof_front - 0.03, rail)], _TRIM, 0.012)
    if car.body != "roadster":
        brush.box(p.cowl - 0.1, p.belt, p.cowl - 0.06, p.belt + 0.034, edge_color, 0.01)
    for u in p.axles:
        _wheel(brush, car, u, p.wheel)


def draw_car(car: Car, size: int) -> Image.Image:
    """Draws ``car`` as an RGB image of ``size`` x ``size`` pixels.

    Other sizes give the same image, finer or coarser.

    Raises:
        ValueError: ``size`` is below 32 pixels.
    """
    if size < MIN_SIZE:
        raise ValueError(
            f"size={size}: a toy car needs {MIN_SIZE} pixels or more; pass a larger size"
        )
    scale = 4 if size <= 160 else 3
    canvas = draw_background(car.background, (*car.seed, 2), size * scale)
    _draw_car(canvas, car)
    small = np.asarray(canvas.reduce(scale), np.float32)
    lit = small * np.asarray(LIGHTS[car.light], np.float32)
    return Image.fromarray(lit.round().clip(0, 255).astype(np.uint8))
