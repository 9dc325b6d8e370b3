"""Looking through folders that strangers filled: what is a plain file inside, and nothing else."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ssagan_jax.data.image_loading import DataError

PICTURE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
_MAX_TEXT_BYTES = 2**20  # A thousand long sentences; nobody writes more about one picture.
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "validation",
    "testing": "validation",
}


def split_from_name(word: str) -> str:
    """ "train" or "validation" for a word such as "train2014" or "val", "" for any other.

    What is held out for tests is held out here too, so "test" is "validation".
    """
    return _SPLITS.get(re.sub(r"\d+$", "", word.lower()), "")


def split_and_label(name: str) -> tuple[str, str]:
    """The split that the first folder of a name tells, and the folders behind it as a class."""
    folders = PurePosixPath(name).parent.parts
    split = split_from_name(folders[0]) if folders else ""
    return split, "/".join(folders[1:] if split else folders)


def walk_files(folder: Path) -> Iterator[str]:
    """Yields the names of all files below a folder, with "/", in a fixed order.

    What begins with a dot is left out. Pipes, sockets and links are named like files.

    Raises:
      DataError: the folder cannot be read, or a link stands where a folder could.
    """
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            with os.scandir(folder / prefix) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"{folder / prefix}: {error.strerror}") from None
        folders = []
        for entry in entries:
            name = prefix + entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(f"{name}/")
            elif entry.is_symlink() and _is_folder(entry):
                raise DataError(f"{folder / name}: a link to a folder; put the folder itself there")
            else:
                yield name
        waiting.extend(reversed(folders))


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link to itself.
        return False


def is_picture(name: str) -> bool:
    """Whether a file's ending is one of a picture."""
    return name.lower().endswith(PICTURE_EXTENSIONS)


def strip_extension(name: str) -> str:
    """ "a/b.c" for "a/b.c.jpg"."""
    return name[: -len(PurePosixPath(name).suffix)] if PurePosixPath(name).suffix else name


def find_picture(folder: Path, name: str) -> Path | None:
    """The picture of a name without (or with) its ending, None where there is none."""
    for ending in ("", *PICTURE_EXTENSIONS, *map(str.upper, PICTURE_EXTENSIONS)):
        path = folder / f"{name}{ending}"
        if os.path.lexists(path) and (ending or is_picture(name)):
            return path
    return None


def safe_name(name: str, listing: Path) -> str:
    """A name that a listing gives, if it leads to a place inside of the listing's folder.

    Raises:
      DataError: naming listing and name.
    """
    parts = PurePosixPath(name).parts
    if not parts or "\0" in name or len(name) > 1000:
        raise DataError(f"{listing}: {name[:80]!r} is not a name such as <folder>/<picture>")
    if name.startswith("/") or ".." in parts:
        raise DataError(f"{listing}: {name!r} leads out of the folder; list <folder>/<picture>")
    return name


def unsafe_reason(root: Path, path: Path) -> str:
    """Why a path is not opened; "" for a plain file that lies below `root`."""
    try:
        real = path.resolve()
        if not real.is_relative_to(root.resolve()):
            return f"{path}: a link leads out of {root}, to {real}; copy the file"
        if not stat.S_ISREG(os.stat(real).st_mode):
            return f"{path}: not a plain file; remove it"
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself.
        return f"{path}: {getattr(error, 'strerror', None) or error}"
    return ""


def read_text(root: Path, path: Path, max_bytes: int = _MAX_TEXT_BYTES) -> str:
    """The text of a file below `root`; what is not UTF-8 becomes U+FFFD.

    Raises:
      DataError: naming the file, if it is missing, no plain file, or larger than `max_bytes`.
    """
    if refused := unsafe_reason(root, path):
        raise DataError(refused)
    if (size := path.stat().st_size) > max_bytes:
        raise DataError(f"{path}: {size} bytes of text are more than the {max_bytes} allowed")
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def read_pair(
    pictures: Path, picture: Path | None, texts: Path, text: Path
) -> tuple[tuple[str, ...], str]:
    """The sentences of a picture, and why the two files cannot be used, "" where they can.

    Args:
      pictures: the folder that the picture must not lead out of.
      picture: its file, if there is one.
      texts: the folder that the text must not lead out of.
      text: the file of its sentences, which need not be there.
    """
    if picture and (refused := unsafe_reason(pictures, picture)):
        return (), refused
    try:
        return (read_lines(texts, text) if os.path.lexists(text) else ()), ""
    except DataError as error:
        return (), str(error)


def read_lines(root: Path, path: Path) -> tuple[str, ...]:
    """The lines of a text file that hold more than blanks; raises DataError as `opened_text`."""
    return tuple(line for line in read_text(root, path).split("\n") if line.strip())
