"""Data sets that `python -m ssagan_jax.prepare` wrote, found by their names.

A set is a folder `prepared/NAME` below TFDS's folder, or below `config.data.prepared_dir`. It is a
TFDS data set with what people read beside it, and needs its source no more:

report.md, report.json   what the source holds and what was left out
contact_sheet.png        some pictures with their sentences
splits.json              the names of the training and the validation pictures
prepared.json            what it was made from, and how
"""

import contextlib
import fcntl
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import constants

from ssagan_jax.config_validation import CONSTRAINTS
from ssagan_jax.data.image_loading import DataError

ABOUT_FILE = "prepared.json"
_FOLDER = "prepared"


def sets_folder(prepared_dir: str = "") -> Path:
    """The folder of all prepared sets below `prepared_dir`, or below TFDS's own folder."""
    return Path(prepared_dir or constants.DATA_DIR).expanduser().absolute() / _FOLDER


def set_names(prepared_dir: str = "") -> list[str]:
    """The names of the prepared sets."""
    folder = sets_folder(prepared_dir)
    return sorted(path.parent.name for path in folder.glob(f"[!.]*/{ABOUT_FILE}"))


def read_about(name: str, prepared_dir: str = "") -> dict[str, Any]:
    """What a set was made from, and how, as the job wrote it.

    Raises:
      DataError: there is no such set; the message lists those that there are.
    """
    holds, allowed = CONSTRAINTS["data.name"]
    file = sets_folder(prepared_dir) / name / ABOUT_FILE
    if not holds(name) or not file.is_file():
        raise DataError(
            f"config.data.name={name!r}: no data of that name. There are "
            f"{', '.join(['toy_cars', 'birds', *set_names(prepared_dir)])}; to prepare your own: "
            f"python -m ssagan_jax.prepare --source=DIR --name={name if holds(name) else 'NAME'}"
            + (f" --prepared_dir={prepared_dir}" if prepared_dir else "")
        )
    return json.loads(file.read_text(encoding="utf-8"))


def prepared_builder(
    name: str, image_size: int, prepared_dir: str = ""
) -> tfds.core.DatasetBuilder:
    """A set to read, for pictures of its own size or smaller ones.

    Args:
      name: of the set.
      image_size: edge in pixels of the pictures that a model trains on.
      prepared_dir: where prepared data is kept; TFDS's own folder where empty.

    Raises:
      DataError: there is no such set, or it was prepared for smaller pictures.
    """
    made = read_about(name, prepared_dir)
    if made["image_size"] < image_size:
        raise DataError(
            f"config.data.image_size={image_size}: {name} was prepared for "
            f"{made['image_size']} pixels and cannot grow; lower it, or prepare the data larger: "
            + re.sub(r"--image_size=\d+", f"--image_size={image_size}", made["command"])
            + " --overwrite"
        )
    return tfds.builder_from_directory(sets_folder(prepared_dir) / name)


@contextlib.contextmanager
def writing_set(name: str, prepared_dir: str = "") -> Iterator[tuple[Path, Callable]]:
    """Keeps a set out of sight until it is whole, and other processes from the same name.

    Yields:
      A folder to work in, empty at first and gone in the end; and a function that takes a folder
      below it and puts that in the place of the set.

    Raises:
      DataError: another process is writing the set.
    """
    root = sets_folder(prepared_dir)
    root.mkdir(parents=True, exist_ok=True)
    work = root / f".part-{name}"
    with open(root / f".lock-{name}", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"--name={name}: another process is preparing it; wait") from None
        shutil.rmtree(work, ignore_errors=True)  # What a killed process left.
        work.mkdir()

        def publish(folder: Path) -> None:
            final = root / name
            if final.exists():
                final.rename(work / "replaced")
            folder.rename(final)

        try:
            yield work, publish
        finally:
            shutil.rmtree(work, ignore_errors=True)
