"""Files that appear under their name only once they are complete."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from ssagan_jax.errors import FULL_DISK, InputError


@contextlib.contextmanager
def name_full_disk(path: Path) -> Iterator[None]:
    """Gives an OSError of a full disk, which has no path if the file was open, this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in FULL_DISK:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside `path` to write to, and renames it at the end.

    Missing folders above it are made. If the body raises, the temporary file is removed and `path`
    stays as it was. Processes that write the same path at once do not mix: the last rename wins.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with name_full_disk(path):
            yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a file of bytes, or of text (UTF-8; file names in it may be invalid text).

    See `atomic_path`.
    """
    if isinstance(content, str):
        content = content.encode(errors="backslashreplace")
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def save_png(path: str | os.PathLike[str], image: Image.Image) -> None:
    """Writes an image as PNG; see `atomic_path`."""
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


@contextlib.contextmanager
def atomic_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """Yields an empty folder beside `path` to fill, and renames it at the end.

    If the body raises, nothing is left; what a killed process left, in hidden folders beside
    `path`, is removed at the next call.

    Args:
      path: where the folder goes.
      replace: whether a folder that is there already is replaced.

    Raises:
      OSError: `path` is a file, or, unless `replace`, a folder that is not empty.
    """
    part, old = (path.with_name(f".{path.name}.ssagan_jax.{kind}") for kind in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        with name_full_disk(path):
            yield part
        if replace and path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        part.replace(path)
        if replace:
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_utf8(flag: str, path: str | os.PathLike[str]) -> None:
    """Raises InputError, which names the flag, for a path that is not UTF-8.

    Libraries fail at such a path, some as if what is there were damaged.
    """
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{flag}={path}: a name that is not UTF-8 cannot be used here; rename it"
        ) from None


def check_not_file(flag: str, path: Path) -> None:
    """Raises InputError, which names the flag, if a folder to write into is a file."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{flag}={path}: is a file; choose another folder")


def check_new_folder(flag: str, path: str) -> Path:
    """The absolute path of a folder to make with `atomic_folder`.

    Raises:
      InputError: names the flag; the path is a file, a mount point or a folder with something in
        it, is not UTF-8, or cannot be written.
    """
    target = Path(path).expanduser().resolve()  # A link cannot be replaced by a folder.
    check_utf8(flag, target)
    if os.path.ismount(target):
        raise InputError(f"{flag}={path}: is a mount point; choose a new folder in it")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{flag}={path}: exists already; choose a new folder")
    parent = next(folder for folder in target.parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{flag}={path}: {parent} cannot be written; choose another folder")
    return target
