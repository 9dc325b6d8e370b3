"""The one writer of prepared data sets: one process at a time, and complete or not at all."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from PIL import Image

from ssagan_jax.atomic_files import save_png, write_atomically
from ssagan_jax.data.prepared.builder import CaptionedImageBuilder
from ssagan_jax.data.tensorflow_import import import_tensorflow, quiet_tfds
from ssagan_jax.errors import FULL_DISK, DataError, escape_terminal

Files = Mapping[str, str | Image.Image]
"""Texts and PNG images by their file names."""

_FULL_DISK_MESSAGES = tuple(map(os.strerror, FULL_DISK))


def ensure_prepared(builder: CaptionedImageBuilder) -> CaptionedImageBuilder:
    """Writes the builder's data set below its `data_dir` unless it is there already.

    Processes that need the same set wait for the one that writes it. If the set exists,
    TensorFlow is not imported.

    Returns:
      The builder, ready for `as_data_source("train")` and `("validation")`.

    Raises:
      DataError: the source is missing or damaged, or the disk is full.
    """
    folder = Path(builder.data_dir)
    if not _exists(folder):
        with lock_set(folder, wait=True):
            if not _exists(folder):
                print(f"preparing {builder.source or builder.name} -> {folder}", flush=True)
                _print_summary(write_set(builder.with_data_dir, folder))
    if not builder.info.splits:  # It was written after the builder was made.
        builder.info.read_from_directory(builder.data_dir)
    return builder


@contextlib.contextmanager
def lock_set(folder: Path, *, wait: bool) -> Iterator[None]:
    """Keeps other processes from writing the set `folder`, whether or not it exists.

    Raises:
      DataError: another process is writing the set, and `wait` is False.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / f".lock-{folder.name}", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise DataError(
                f"{folder}: another process is preparing it; wait until it has finished"
            ) from None
        yield


def write_set(
    make_builder: Callable[[Path], CaptionedImageBuilder], folder: Path
) -> CaptionedImageBuilder:
    """Writes a set to a temporary folder and moves it into place; call it under `lock_set`.

    Args:
      make_builder: from the temporary folder to the builder that writes there.
      folder: where the set goes; a set that is there already is replaced.

    Returns:
      The builder, for its counts and for the names of the pictures that it skipped.

    Raises:
      DataError: the source is missing or damaged, or the disk is full.
    """
    work = work_path(folder)
    shutil.rmtree(work, ignore_errors=True)  # Left by a process that was killed.
    work.mkdir()
    try:
        builder = make_builder(work)
        # TFDS makes a folder for downloads even if there is nothing to download.
        with explain_full_disk(folder), quiet_tfds(), tempfile.TemporaryDirectory() as downloads:
            import_tensorflow()
            builder.download_and_prepare(download_dir=downloads)
        replace_set(Path(builder.data_dir), folder, work)
        return builder
    finally:
        shutil.rmtree(work, ignore_errors=True)


def work_path(folder: Path) -> Path:
    """Where the set `folder` is written before it is complete."""
    return folder.with_name(f".part-{folder.name}")


def replace_set(written: Path, folder: Path, work: Path) -> None:
    """Moves a complete set into place; one that is there already goes to `work`, to be removed."""
    if folder.exists():
        shutil.rmtree(work / "replaced", ignore_errors=True)  # Left by a process that was killed.
        folder.rename(work / "replaced")
    written.rename(folder)


def write_files(files: Files, folder: Path) -> None:
    """Writes texts and PNG images, each atomically."""
    for name, content in files.items():
        if isinstance(content, str):
            write_atomically(folder / name, content)
        else:
            save_png(folder / name, content)


def _exists(folder: Path) -> bool:
    # TFDS's own check logs a warning for every set that is not there yet.
    return (folder / "dataset_info.json").is_file()


@contextlib.contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Raises DataError if the disk is full."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # ArrayRecord's writer reports a full disk only in the text of a RuntimeError.
        if not any(reason in str(error) for reason in _FULL_DISK_MESSAGES):
            raise
        raise DataError(
            f"{folder}: no room on the disk for the prepared pictures ({error}). Free some "
            "space or choose another folder by config.data.prepared_dir or --prepared_dir"
        ) from error


def _print_summary(builder: CaptionedImageBuilder) -> None:
    if builder.skipped:
        names = escape_terminal(", ".join(builder.skipped))
        print(f"skipped {len(builder.skipped)} pictures: {names}")
    counts = [f"{split.num_examples} {name}" for name, split in builder.info.splits.items()]
    print(f"{', '.join(counts)} pictures", flush=True)
