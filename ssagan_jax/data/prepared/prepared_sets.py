"""Finds the data sets that `python -m ssagan_jax.prepare` wrote, by their names.

A set is a folder `prepared/NAME` below TFDS's folder, or below `config.data.prepared_dir`. It is a
TFDS data set and no longer needs its source. Beside the data are

report.md, report.json   what the source holds and what was skipped
contact_sheet.png        some pictures with their sentences
splits.json              the names of the training and the validation pictures
prepared.json            the `PrepareRequest` that it was made by
"""

import re
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import constants

from ssagan_jax.config.validation import CONSTRAINTS
from ssagan_jax.data.tfds_folder import open_tfds_folder
from ssagan_jax.errors import DataError
from ssagan_jax.untrusted.files import read_json

REQUEST_FILE = "prepared.json"
_FOLDER = "prepared"


def sets_folder(prepared_dir: str = "") -> Path:
    """The folder of all prepared sets below `prepared_dir`, or below TFDS's own folder."""
    return Path(prepared_dir or constants.DATA_DIR).expanduser().absolute() / _FOLDER


def set_names(prepared_dir: str = "") -> list[str]:
    """The names of the prepared sets."""
    return sorted(
        path.parent.name for path in sets_folder(prepared_dir).glob(f"[!.]*/{REQUEST_FILE}")
    )


def read_request(name: str, prepared_dir: str = "") -> dict[str, Any]:
    """The `PrepareRequest` that a set was made by, as a dict.

    Raises:
      DataError: there is no such set; the message lists the existing ones.
    """
    is_valid, _ = CONSTRAINTS["data.name"]
    file = sets_folder(prepared_dir) / name / REQUEST_FILE
    if not is_valid(name) or not file.is_file():
        raise DataError(
            f"config.data.name={name!r}: no data of that name. There are "
            f"{', '.join(['toy_cars', 'birds', *set_names(prepared_dir)])}; to prepare your own: "
            f"python -m ssagan_jax.prepare --source=DIR --name={name if is_valid(name) else 'NAME'}"
            + (f" --prepared_dir={prepared_dir}" if prepared_dir else "")
        )
    request = read_json(file)
    try:
        types = type(request["image_size"]), type(request["command"])
    except (TypeError, LookupError):
        types = ()
    if types != (int, str):
        raise DataError(f"{file}: damaged; prepare the data again")
    return request


def open_prepared_set(
    name: str, image_size: int, prepared_dir: str = ""
) -> tfds.core.DatasetBuilder:
    """A prepared set, to train at `image_size` pixels, at most those it was prepared for.

    Raises:
      DataError: there is no such set, or it was prepared for a smaller size.
    """
    request = read_request(name, prepared_dir)
    if request["image_size"] < image_size:
        raise DataError(
            f"config.data.image_size={image_size}: {name} was prepared for "
            f"{request['image_size']} pixels; lower image_size, or prepare the data again: "
            + re.sub(r"--image_size=\d+", f"--image_size={image_size}", request["command"])
            + " --overwrite"
        )
    return open_tfds_folder(sets_folder(prepared_dir) / name)
