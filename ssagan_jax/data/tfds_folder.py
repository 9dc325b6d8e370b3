"""Opens folders that TFDS wrote, after checking that their files name no code of others.

TFDS imports the module of every class that features.json names, also from the current folder.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from ssagan_jax.data.tensorflow_import import quiet_tfds
from ssagan_jax.errors import DataError
from ssagan_jax.untrusted.files import check_regular_files, parse_json, read_json
from ssagan_jax.untrusted.limits import INDEX_BYTES

FEATURES_FILE, INFO_FILE = "features.json", "dataset_info.json"
_CLASS_KEYS = ("pythonClassName", "python_class_name", "type")


def open_tfds_folder(folder: Path) -> tfds.core.DatasetBuilder:
    """The builder of a folder that holds dataset_info.json.

    Raises:
      DataError: a file is damaged or no plain file, or names a class that is not TFDS's own.
    """
    with as_data_errors(folder):
        check_regular_files(folder)
        check_features(folder / FEATURES_FILE)
        for split in read_json(folder / INFO_FILE, INDEX_BYTES).get("splits", []):
            if "/" in (template := split.get("filepathTemplate", "")):
                raise DataError(f"{folder}: its files lead out of the folder, to {template!r:.200}")
        with quiet_tfds():
            return tfds.builder_from_directory(folder)


def check_features(path: Path) -> None:
    """Raises DataError if a features.json names a class that is not a feature of TFDS itself."""
    features = (value for value in vars(tfds.features).values() if isinstance(value, type))
    own = {f"{each.__module__}.{each.__name__}" for each in features}
    for name in _class_names(read_json(path, INDEX_BYTES)):
        if name not in own:
            raise DataError(
                f"{path}: names the class {name!r:.200}, which is not one of tensorflow_datasets, "
                "and was not imported. Prepare the set again with the features of TFDS"
            )


def _class_names(content: Any) -> Iterator[str]:
    """Yields the names of classes anywhere in a JSON content, also in texts that are JSON."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key in _CLASS_KEYS and isinstance(value, str):
                yield value
            yield from _class_names(value)
    elif isinstance(content, list):
        for value in content:
            yield from _class_names(value)
    elif isinstance(content, str) and content.lstrip().startswith(("{", "[")):
        with contextlib.suppress(ValueError):
            yield from _class_names(parse_json(content))


@contextlib.contextmanager
def as_data_errors(source: Path | str) -> Iterator[None]:
    """Turns whatever TFDS raises into DataErrors that name the source."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # The set's own code and many parsers run here.
        reason = str(error).partition("\n")[0][:300]
        raise DataError(f"{source}: cannot be read ({type(error).__name__}: {reason})") from error
