"""Writing a source's pictures to disk, once: quietly, and whole or not at all."""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow_datasets as tfds
from absl import logging

from ssagan_jax.data.image_loading import DataError
from ssagan_jax.data.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from ssagan_jax.data.builder import CaptionedImageBuilder

_NO_ROOM = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))


def prepare(builder: "CaptionedImageBuilder") -> "CaptionedImageBuilder":
    """Writes the builder's pictures under its `data_dir`, unless they are there already.

    A set appears under its final name only when it is whole. Processes that prepare the same
    set wait for each other. Where the set is there already, tensorflow is not imported.

    Returns:
      A builder that `as_data_source("train")` and `("validation")` can be called on; the same
      set is read without its source by `tfds.builder_from_directory(builder.data_dir)`.

    Raises:
      DataError: if the source is missing or damaged, or the disk has no room.
    """
    folder = Path(builder.data_dir)
    if not _is_whole(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(folder.parent / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_whole(folder):
                # Under the lock nobody else writes here: what a killed process left is waste.
                for leftover in [folder, *folder.parent.glob(f"incomplete.*_{folder.name}")]:
                    shutil.rmtree(leftover, ignore_errors=True)
                print(f"preparing {builder.source or builder.name} -> {folder}", flush=True)
                write(builder)
                _tell(builder)
    if not builder.info.splits:  # Another process wrote the set after the builder was made.
        builder.info.read_from_directory(builder.data_dir)
    return builder


def _is_whole(folder: Path) -> bool:
    # TFDS's own check logs a warning for every set that is not there yet.
    return (folder / "dataset_info.json").is_file()


def write(builder: "CaptionedImageBuilder") -> None:
    """Runs TFDS's own preparation.

    Raises:
      DataError: if the source is missing or damaged, or the disk has no room.
    """
    builder.skipped.clear()
    try:
        # TFDS makes a folder for downloads even where there is nothing to download.
        with quiet_tfds(), tempfile.TemporaryDirectory() as unused:
            import_tensorflow()
            builder.download_and_prepare(download_dir=unused)
    except (OSError, RuntimeError) as error:
        # ArrayRecord's writer tells of a full disk in the text of a RuntimeError alone.
        if not any(reason in str(error) for reason in _NO_ROOM):
            raise
        raise DataError(
            f"{builder.data_dir}: the disk has no room for the prepared pictures ({error}). "
            "Free some space or choose another data_dir"
        ) from error


def _tell(builder: "CaptionedImageBuilder") -> None:
    if builder.skipped:
        print(f"skipped {len(builder.skipped)} pictures: {', '.join(builder.skipped)}")
    counts = [f"{builder.info.splits[split].num_examples} {split}" for split in builder.info.splits]
    print(f"{', '.join(counts)} pictures", flush=True)


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
    """Silences TFDS: its prints, its warnings and, for the whole process, its progress bars."""
    tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):
            yield
    finally:
        logging.set_verbosity(verbosity)
