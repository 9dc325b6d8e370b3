"""Toy cars: a captioned data set that needs no download, because its images are drawn here.

As in the paper there are 8 makes with 4 models each, 20 training and 5 validation images of each
model, and 5 sentences for each image. Everything follows from a seed: image ``index`` of a split is
the same whichever images are drawn before it.
"""

from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

from ssagan_jax.data.prepared.builder import CaptionedImageBuilder
from ssagan_jax.data.toy_cars.backgrounds import BACKGROUNDS
from ssagan_jax.data.toy_cars.car import BODIES, COLORS, FACINGS, LIGHTS, WHEELS, Car
from ssagan_jax.data.toy_cars.drawing import MIN_SIZE, draw_car
from ssagan_jax.errors import DataError

MAKES: dict[str, tuple[str, str, str, str]] = {
    "Velora": ("Lumo", "Pavane", "Tressel", "Brindo"),
    "Kantaro": ("Mikoro", "Sabiro", "Hadano", "Renzu"),
    "Brunwick": ("Harrow", "Coldwell", "Fenmore", "Baskin"),
    "Solvane": ("Rivelle", "Dorane", "Cassin", "Meline"),
    "Tarnox": ("Grudo", "Vexel", "Braddok", "Torvin"),
    "Melira": ("Pippa", "Fiorel", "Bellino", "Gavotto"),
    "Dunmar": ("Stroma", "Lochen", "Skerry", "Tarbet"),
    "Zephra": ("Quillo", "Nimbo", "Zorin", "Halcyo"),
}
IMAGES_PER_MODEL = {"train": 20, "validation": 5}

_MODELS = tuple((make, model) for make, models in MAKES.items() for model in models)
_NOUNS = {"suv": "SUV", "pickup": "pickup truck", "wagon": "station wagon"}
PLACES = {
    "city": ("on a city street", "in front of tall buildings"),
    "desert": ("in the desert", "on sand near flat rocks"),
    "forest": ("at the edge of a forest", "in front of tall trees"),
    "beach": ("on the beach", "on sand beside the sea"),
    "garage": ("inside a garage", "in front of a garage wall"),
    "studio": ("in a plain studio", "against a plain backdrop"),
    "mountains": ("in the mountains", "below snowy peaks"),
    "countryside": ("in the countryside", "in front of gentle hills"),
}
MOMENTS = {
    "day": ("in bright daylight", "around noon"),
    "morning": ("in warm morning light", "early in the morning"),
    "overcast": ("under an overcast sky", "on a cloudy day"),
    "dusk": ("at dusk", "in the evening light"),
}
# An image gets one sentence of each group, so its five sentences are all different.
_TEMPLATES = (
    (
        "{a_color} {make} {model} is parked {place}.",
        "this is {a_color} {make} {model}, a car seen {place}.",
        "the {make} {model} {place} has {color} paint.",
        "here stands {a_color} {make} {model} {place}.",
    ),
    (
        "{a_color} {noun} is facing {facing} {place}.",
        "the {color} {noun} in this picture is facing {facing}.",
        "facing {facing}, the {color} {noun} waits {place}.",
        "a side view of {a_color} {noun} facing {facing}.",
    ),
    (
        "the {noun} has {color} bodywork and {wheels} wheels.",
        "{a_color} {noun} rolls on {wheels} wheels {place}.",
        "with its {wheels} wheels, the {color} {noun} looks neat.",
        "this {color} {make} {noun} wears {wheels} wheels.",
    ),
    (
        "{moment}, {a_color} {noun} stands {place}.",
        "{a_color} {noun} is standing {place} {moment}.",
        "the {color} car was pictured {moment} {place}.",
        "someone parked {a_color} {make} {place} {moment}.",
    ),
    (
        "the car is {color} and it is a {make} {noun}.",
        "a picture of one {color} {noun} facing {facing} {moment}.",
        "its doors are {color} and its front is facing {facing}.",
        "the body of this {make} {model} is painted {color}.",
    ),
)


def _car(split_id: int, index: int, seed: int) -> Car:
    """The car of one image; models take turns, so the first few images show many of them."""
    class_id = index % len(_MODELS)
    make_id, model_id = divmod(class_id, 4)
    key = (seed, split_id, index)
    rng = np.random.default_rng(key)
    # Every eight images in a row show the eight colours once, shuffled: colours are balanced within
    # a split and do not depend on the model.
    deck = np.random.default_rng((seed, split_id, index // len(COLORS), 1))
    color = list(COLORS)[deck.permutation(len(COLORS))[index % len(COLORS)]]

    def pick(options: tuple[str, ...]) -> str:
        return options[int(rng.integers(len(options)))]

    return Car(
        name=f"{index:05d}",
        class_id=class_id,
        make=_MODELS[class_id][0],
        model=_MODELS[class_id][1],
        body=BODIES[(make_id + 2 * model_id) % len(BODIES)],
        color=color,
        facing=pick(FACINGS),
        background=pick(BACKGROUNDS),
        light=pick(tuple(LIGHTS)),
        wheels=pick(tuple(WHEELS)),
        wheel_scale=float(rng.uniform(0.94, 1.06)),
        length=float(rng.uniform(0.63, 0.69)),
        shift=(float(rng.uniform(-0.01, 0.01)), float(rng.uniform(-0.006, 0.006))),
        seed=key,
    )


def cars(split: str, seed: int = 0) -> list[Car]:
    """The cars of a split in order: 640 of "train", 160 of "validation".

    ``class_id`` is ``make_index * 4 + model_index``, 0 to 31; names run from "00000" in each split.

    Raises:
        ValueError: ``split`` is neither "train" nor "validation".
    """
    splits = list(IMAGES_PER_MODEL)
    if split not in splits:
        raise ValueError(f"split={split!r}: must be one of {splits}")
    count = len(_MODELS) * IMAGES_PER_MODEL[split]
    return [_car(splits.index(split), index, seed) for index in range(count)]


def sentences(car: Car) -> list[str]:
    """Five different English sentences about ``car``, of 6 to 16 words, each naming its colour.

    No sentence contains the name of another of the eight body colours.
    """
    rng = np.random.default_rng((*car.seed, 3))
    written = []
    for group in rng.permutation(len(_TEMPLATES)):
        sentence = _TEMPLATES[group][rng.integers(len(_TEMPLATES[group]))].format(
            a_color=("an " if car.color[0] in "aeiou" else "a ") + car.color,
            color=car.color,
            make=car.make,
            model=car.model,
            noun=_NOUNS.get(car.body, car.body),
            facing=car.facing,
            wheels=car.wheels,
            place=PLACES[car.background][rng.integers(2)],
            moment=MOMENTS[car.light][rng.integers(2)],
        )
        written.append(sentence[0].upper() + sentence[1:])
    return written


class ToyCars(CaptionedImageBuilder):
    """Drawn toy cars with sentences: 640 training and 160 validation images.

    The attributes of an example are make, model, body, color, facing, background, light and wheels.
    ``source`` is not read.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _examples(self, split: str) -> Iterator[dict]:
        """Yields the examples of a split, square with an edge of ``load_size``."""
        if self.load_size < MIN_SIZE:
            raise DataError(f"image_size={self.image_size}: toy cars need 27 pixels or more")
        attributes = ("make", "model", "body", "color", "facing", "background", "light", "wheels")
        for car in cars(split):
            yield {
                "image": draw_car(car, self.load_size),
                "captions": sentences(car),
                "class_id": car.class_id,
                "name": car.name,
                "attributes": {field: getattr(car, field) for field in attributes},
            }
