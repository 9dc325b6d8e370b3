"""A toy car: its attributes, and the proportions of its body.

Lengths of the car are in car lengths: ``u`` runs from the rear (0) to the front (1) and ``v``
upwards from the ground.
"""

import dataclasses

import numpy as np

from ssagan_jax.data.toy_cars.backgrounds import Rgb

COLORS: dict[str, Rgb] = {
    "red": (206, 30, 40),
    "orange": (243, 122, 20),
    "yellow": (246, 208, 36),
    "green": (34, 142, 66),
    "blue": (34, 88, 200),
    "purple": (122, 56, 168),
    "white": (242, 242, 240),
    "black": (36, 37, 42),
}
FACINGS = ("left", "right")
# The light multiplies the whole image; a mild tint keeps the eight paints apart.
LIGHTS: dict[str, tuple[float, float, float]] = {
    "day": (1.0, 1.0, 1.0),
    "morning": (1.0, 0.97, 0.91),
    "overcast": (0.9, 0.92, 0.94),
    "dusk": (0.94, 0.87, 0.83),
}
WHEELS: dict[str, tuple[Rgb, int]] = {  # the rim's colour and its number of spokes, 0 for a disc
    "silver five-spoke": ((206, 210, 216), 5),
    "silver disc": ((206, 210, 216), 0),
    "golden multi-spoke": ((206, 172, 96), 9),
    "dark five-spoke": ((98, 101, 108), 5),
    "chrome wire": ((226, 230, 234), 12),
}


@dataclasses.dataclass(frozen=True)
class Car:
    """What one image shows; every image is drawn from these fields alone.

    ``length`` is the car's length and ``shift`` its offset (x, y) from the usual place, as
    fractions of the image's edge; ``wheel_scale`` multiplies the wheels' usual size; ``seed``
    fixes background and sentences.
    """

    name: str
    class_id: int
    make: str
    model: str
    body: str
    color: str
    facing: str
    background: str
    light: str
    wheels: str
    wheel_scale: float
    length: float
    shift: tuple[float, float]
    seed: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Profile:
    """A body type's side view, in car lengths."""

    sill: float
    belt: float  # lower edge of the windows
    roof: float
    cowl: float  # u where the windscreen meets the bonnet
    roof_front: float
    roof_rear: float
    deck: float  # u where the rear window meets the boot
    nose: float  # height of the bonnet's front edge
    tail: float  # height of the rear edge
    wheel: float  # radius
    axles: tuple[float, float]
    pillars: tuple[float, ...]
    doors: tuple[float, ...]


_AXLES = (0.19, 0.81)
_PROFILES: dict[str, Profile] = {
    "sedan": Profile(
        0.065, 0.31, 0.465, 0.735, 0.58, 0.33, 0.15, 0.26, 0.29, 0.098, _AXLES, (0.46,), (0.46, 0.7)
    ),
    "hatchback": Profile(
        0.065, 0.32, 0.5, 0.79, 0.61, 0.19, 0.035, 0.265, 0.3, 0.1, _AXLES, (0.42,), (0.42, 0.72)
    ),
    "suv": Profile(
        0.085, 0.335, 0.545, 0.76, 0.65, 0.09, 0.02, 0.3, 0.32, 0.118, _AXLES, (0.27, 0.48), (0.48,)
    ),
    "pickup": Profile(
        0.085, 0.33, 0.53, 0.77, 0.665, 0.43, 0.4, 0.295, 0.3, 0.118, (0.18, 0.82), (), (0.4, 0.72)
    ),
    "van": Profile(
        0.06, 0.33, 0.59, 0.945, 0.8, 0.05, 0.012, 0.275, 0.33, 0.092, _AXLES, (0.3, 0.57), (0.57,)
    ),
    "coupe": Profile(
        0.055, 0.3, 0.42, 0.69, 0.5, 0.37, 0.05, 0.235, 0.285, 0.103, _AXLES, (0.38,), (0.36, 0.68)
    ),
    "roadster": Profile(
        0.055, 0.3, 0.425, 0.65, 0.56, 0.3, 0.26, 0.235, 0.28, 0.103, _AXLES, (), (0.38, 0.64)
    ),
    "wagon": Profile(
        0.065, 0.31, 0.465, 0.74, 0.59, 0.1, 0.025, 0.26, 0.3, 0.098, _AXLES, (0.28, 0.47), (0.47,)
    ),
}
BODIES = tuple(_PROFILES)


def body_profile(car: Car) -> Profile:
    """The body type's profile, slightly varied by the car's model."""
    base = _PROFILES[car.body]
    tall, long, tail = np.random.default_rng((7, car.class_id)).uniform(-1, 1, 3)
    return dataclasses.replace(
        base,
        roof=base.roof + 0.014 * tall,
        cowl=min(base.cowl + 0.018 * long, 0.95),
        roof_front=base.roof_front + 0.018 * long,
        tail=base.tail + 0.012 * tail,
        wheel=base.wheel * car.wheel_scale,
    )
