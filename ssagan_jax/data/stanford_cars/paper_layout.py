"""Chooses the paper's cars and writes them in its layout, with five sentences for each picture.

There are 8 makes with 4 models each, and 20 training and 5 validation pictures of each model. The
source is Kaggle's "Stanford Cars Dataset by classes folder":
`car_data/car_data/{train,test}/<Make Model Body Year>/*.jpg`. The files are those that the paper
describes:

  train/images/NNNNN.jpg      copies of the training pictures, 00000 to 00639
  train/captions/NNNNN.txt    five sentences on the picture, one per line; they may be edited
  train/filenames_car.pickle  the pictures, a list of "NNNNN"
  train/class_info.pickle     their classes, a list of numbers, 0 to 31
  test/...                    the same for the validation pictures, 00000 to 00159
  classes.csv                 what each picture shows, and its file in the source
"""

import csv
import dataclasses
import io
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssagan_jax.atomic_files import atomic_folder
from ssagan_jax.data.stanford_cars.class_names import CarClass, parse_class, sentences
from ssagan_jax.data.stanford_cars.selection import (
    HALVES,
    choose_cars,
    choose_readable,
    class_folders,
    list_pictures,
    rng_of,
)
from ssagan_jax.errors import DataError

COLUMNS = ("split", "number", "class_id", "class", "make", "model", "body", "year", "source")
_FOLDERS = {"train": "train", "validation": "test"}
_TABLE = "classes.csv"
_IS_THERE = (
    "{}: is there already, and its captions may have been edited; nothing was changed. Choose "
    "another folder by --cars_dir, or remove this one to write it again"
)


@dataclasses.dataclass(frozen=True)
class _Pick:
    """A chosen picture."""

    car: CarClass
    class_id: int
    path: Path

    @property
    def source(self) -> str:
        """Its path in the source, such as "train/Audi TT Hatchback 2011/00123.jpg"."""
        half, *name = self.path.absolute().parts[-3:]
        return "/".join([half, *name] if half in HALVES else name)


def recognises(source: Path) -> bool:
    """Whether `write_paper_layout` finds classes of cars in the folder."""
    try:
        return any(parse_class(folder.name).body for folder in class_folders(source))
    except DataError:
        return False


def write_paper_layout(
    source: Path,
    target: Path,
    *,
    makes: int | Sequence[str] = 8,
    models: int = 4,
    train: int = 20,
    validation: int = 5,
    seed: int = 0,
) -> tuple[list[CarClass], list[str]]:
    """Chooses cars from Kaggle's folder and writes them in the layout above.

    Args:
      source: Kaggle's folder, at any level down to the folder of the classes.
      target: a new folder, written completely or not at all. One that holds the same choice
        already stays as it is.
      makes: how many makes to draw, or their names in upper or lower case.
      models: models of each make, distinguished by name.
      train: training pictures of each model.
      validation: validation pictures of each model. Both are drawn from all pictures of the
        model, in the source's "train" and "test".
      seed: of the choice of makes, models, pictures and sentences.

    Returns:
      The chosen classes, make by make, and a message for each picture that was skipped.

    Raises:
      DataError: the target holds something else; or the source has another layout, or too few
        makes, models or readable pictures, with their counts.
    """
    if seed < 0:
        raise DataError(f"seed={seed}: must be a whole number, at least 0")
    _check_counts(makes, models, train, validation)
    pictures = list_pictures(source)
    if target.resolve().is_relative_to(source.resolve()):
        raise DataError(f"--cars_dir={target}: is in the source; choose another folder")
    _check_target(target)
    picks: dict[str, list[_Pick]] = {"train": [], "validation": []}
    unreadable: list[str] = []
    cars = choose_cars(pictures, makes, models, train + validation, seed)
    for class_id, car in enumerate(cars):
        paths, skipped = choose_readable(car, pictures[car], train + validation, seed)
        chosen = [_Pick(car, class_id, path) for path in paths]
        picks["train"] += chosen[:train]
        picks["validation"] += chosen[train:]
        unreadable += skipped
    table = _table(picks)
    if (target / _TABLE).exists():
        if (target / _TABLE).read_text(encoding="utf-8", errors="replace") != table:
            raise DataError(_IS_THERE.format(target))
        return cars, unreadable
    with atomic_folder(target) as folder:
        for split, name in _FOLDERS.items():
            _write_split(picks[split], folder / name, seed)
        (folder / _TABLE).write_text(table, encoding="utf-8")
    return cars, unreadable


def _check_target(target: Path) -> None:
    if (target / _TABLE).is_file():
        return  # Compared with the choice, when that is made.
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(_IS_THERE.format(target))


def _check_counts(makes: int | Sequence[str], models: int, train: int, validation: int) -> None:
    """Raises DataError with the flag of `ssagan_jax.prepare` that has a wrong value."""
    are_names = not isinstance(makes, int | str) and len(makes) > 0
    if not (are_names or _is_count(makes)):
        raise DataError(f"--makes={makes!r}: must be a count, 1 or more, or one or more names")
    if not _is_count(models):
        raise DataError(f"--models={models!r}: must be a whole number, 1 or more")
    if not (_is_count(train) and _is_count(validation)):
        raise DataError(
            f"--per_model={train}+{validation}: both numbers must be 1 or more, like 20+5"
        )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _table(picks: dict[str, list[_Pick]]) -> str:
    """The text of classes.csv."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for split in _FOLDERS:
        for number, pick in enumerate(picks[split]):
            car = dataclasses.astuple(pick.car)
            writer.writerow((split, f"{number:05d}", pick.class_id, *car, pick.source))
    return file.getvalue()


def _write_split(picks: list[_Pick], folder: Path, seed: int) -> None:
    names = [f"{number:05d}" for number in range(len(picks))]
    for part in ("images", "captions"):
        (folder / part).mkdir(parents=True)
    for name, pick in zip(names, picks, strict=True):
        shutil.copyfile(pick.path, folder / f"images/{name}.jpg")
        lines = sentences(pick.car, rng_of(seed, pick.source))
        text = "".join(f"{line}\n" for line in lines)
        (folder / f"captions/{name}.txt").write_text(text, encoding="utf-8")
    classes = [pick.class_id for pick in picks]
    (folder / "filenames_car.pickle").write_bytes(pickle.dumps(names, protocol=2))
    (folder / "class_info.pickle").write_bytes(pickle.dumps(classes, protocol=2))
