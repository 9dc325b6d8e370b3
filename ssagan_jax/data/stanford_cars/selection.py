"""Chooses makes, models and pictures at random from a folder of car classes."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssagan_jax.data.images.open_image import open_image
from ssagan_jax.data.stanford_cars.class_names import CarClass, parse_class
from ssagan_jax.errors import DataError

HALVES = ("train", "test")
_ENDINGS = (".jpg", ".jpeg")

PicturesByClass = dict[CarClass, list[Path]]
_Models = dict[str, list[CarClass]]  # Classes by the name of their model.


def rng_of(seed: int, name: str) -> np.random.Generator:
    """A random generator that depends only on the seed and a name."""
    return np.random.default_rng((seed, zlib.crc32(name.encode())))


def class_folders(source: Path) -> list[Path]:
    """The folders of classes, whose names end in a year, in the order of their names.

    Args:
      source: their folder, or that of "train" and "test", or one or two levels "car_data" above.
    """
    folders = []
    for root in filter(Path.is_dir, _halves(source)):
        below = sorted(root.iterdir())
        folders += [each for each in below if each.name[-4:].isdecimal() and each.is_dir()]
    return folders


def _halves(source: Path) -> list[Path]:
    for root in (source, source / "car_data", source / "car_data" / "car_data"):
        found = [root / half for half in HALVES if (root / half).is_dir()]
        if found:
            return found
    return [source]


def list_pictures(source: Path) -> PicturesByClass:
    """The JPEG files of every class, "train" and "test" together.

    Raises:
      DataError: there are no folders of classes, or one is not named after a class.
    """
    pictures: PicturesByClass = {}
    for folder in class_folders(source):
        files = [path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS]
        # macOS unpacks a hidden "._00001.jpg" beside each picture.
        visible = sorted(path for path in files if not path.name.startswith("."))
        pictures.setdefault(parse_class(folder.name), []).extend(visible)
    if not pictures:
        raise DataError(
            f"{source}: no folders of car classes. Expected are <Make Model Body Year>/*.jpg below "
            "car_data/car_data/train and car_data/car_data/test, as Kaggle's 'Stanford Cars "
            "Dataset by classes folder' has them"
        )
    return pictures


def choose_cars(
    pictures: PicturesByClass, makes: int | Sequence[str], models: int, needed: int, seed: int
) -> list[CarClass]:
    """Chooses `models` classes of each make, with at least `needed` pictures, in order of names.

    Models are distinguished by name: of an S4 of 2007 and an S4 of 2012 one is chosen. The choice
    within a make does not depend on the other makes.

    Raises:
      DataError: there are too few makes or models; the message has the counts.
    """
    eligible = _eligible_models(pictures, needed)
    if not isinstance(makes, int):
        names = _find_makes(makes, list(eligible))
    else:
        enough = [make for make in sorted(eligible) if len(eligible[make]) >= models]
        if len(enough) < makes:
            counts = ", ".join(f"{make} {len(eligible[make])}" for make in sorted(eligible))
            raise DataError(
                f"--makes={makes}: {len(enough)} makes have {models} models with {needed} pictures "
                f"each. Models with so many pictures: {counts}. Ask for fewer"
            )
        order = rng_of(seed, "makes").permutation(len(enough))
        names = {enough[index] for index in order[:makes]}
    chosen = []
    for make in sorted(names):
        if len(eligible[make]) < models:
            counts = [f"{car.name} {len(pictures[car])}" for car in pictures if car.make == make]
            raise DataError(
                f"{make}: {len(eligible[make])} models have {needed} pictures, {models} are "
                f"needed. Pictures: {', '.join(sorted(counts))}. Ask for fewer models or pictures, "
                f"or leave {make} out"
            )
        chosen += _draw_cars(eligible[make], models, rng_of(seed, make))
    return chosen


def _eligible_models(pictures: PicturesByClass, needed: int) -> dict[str, _Models]:
    """The models that have enough pictures, by make; a make may have none."""
    eligible: dict[str, _Models] = {}
    for car in sorted(pictures, key=lambda car: car.name):
        of_make = eligible.setdefault(car.make, {})
        if len(pictures[car]) >= needed:
            of_make.setdefault(car.model, []).append(car)
    return eligible


def _find_makes(wanted: Sequence[str], known: list[str]) -> set[str]:
    by_lower = {make.lower(): make for make in known}
    for name in wanted:
        if name.lower() not in by_lower:
            raise DataError(
                f"--makes={','.join(wanted)}: there is no {name!r}; choose from "
                f"{', '.join(sorted(known))}"
            )
    return {by_lower[name.lower()] for name in wanted}


def _draw_cars(of_make: _Models, models: int, rng: np.random.Generator) -> list[CarClass]:
    names = sorted(of_make)
    chosen = sorted(names[index] for index in rng.permutation(len(names))[:models])
    return [of_make[name][rng.integers(len(of_make[name]))] for name in chosen]


def choose_readable(
    car: CarClass, paths: list[Path], needed: int, seed: int
) -> tuple[list[Path], list[str]]:
    """Shuffles the pictures of a class and chooses the first `needed` that can be decoded.

    Returns:
      The pictures, and an error message for each that was skipped.

    Raises:
      DataError: too few can be decoded.
    """
    found: list[Path] = []
    unreadable: list[str] = []
    for index in rng_of(seed, car.name).permutation(len(paths)):
        try:
            open_image(paths[index])
            found.append(paths[index])
        except DataError as error:
            unreadable.append(str(error))
        if len(found) == needed:
            return found, unreadable
    raise DataError(
        f"{car.name}: {len(found)} of its {len(paths)} pictures can be read, {needed} are needed. "
        f"The first that cannot: {unreadable[0]}"
    )
