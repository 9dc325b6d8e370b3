"""Safe access to folders of unknown origin: only regular files inside of the folder are opened."""

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ssagan_jax.data.formats.folder_names import PICTURE_EXTENSIONS, is_picture
from ssagan_jax.errors import DataError

_MAX_TEXT_BYTES = 2**20  # A thousand long sentences, more than anyone writes about one picture.
_MAX_NAME = 1000
_OF_SYSTEMS = ("__MACOSX", "@eaDir")  # Thumbnails and the like of macOS and of network drives.


def walk_files(folder: Path) -> Iterator[str]:
    """Yields the paths of all files below a folder, relative and with "/", in a fixed order.

    Hidden files and folders that systems make are skipped. Pipes, sockets and links are listed like
    files.

    Raises:
      DataError: a folder cannot be read, or a link points to a folder.
    """
    pending = [""]
    while pending:
        prefix = pending.pop()
        try:
            with os.scandir(folder / prefix) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"{folder / prefix}: {error.strerror}") from None
        subfolders = []
        for entry in entries:
            name = prefix + entry.name
            if entry.name.startswith(".") or entry.name in _OF_SYSTEMS:
                continue
            if entry.is_dir(follow_symlinks=False):
                subfolders.append(f"{name}/")
            elif entry.is_symlink() and os.path.isdir(entry.path):
                raise DataError(f"{folder / name}: a link to a folder; put the folder itself there")
            else:
                yield name
        pending.extend(reversed(subfolders))


def find_picture(folder: Path, name: str) -> Path | None:
    """The picture of a name without (or with) its extension, None if there is none."""
    for extension in ("", *PICTURE_EXTENSIONS, *map(str.upper, PICTURE_EXTENSIONS)):
        path = folder / f"{name}{extension}"
        if os.path.lexists(path) and (extension or is_picture(name)):
            return path
    return None


def check_name(name: str, listing: Path) -> str:
    """Returns a name from a listing if it is a relative path that stays inside of the folder.

    Raises:
      DataError: it is not; the message has the listing and the name.
    """
    parts = PurePosixPath(name).parts
    if not parts or "\0" in name or len(name) > _MAX_NAME:
        raise DataError(f"{listing}: {name[:80]!r} is not a name such as <folder>/<picture>")
    if name.startswith("/") or ".." in parts:
        raise DataError(f"{listing}: {name!r} leads out of the folder; list <folder>/<picture>")
    return name


def unsafe_reason(root: Path, path: Path) -> str:
    """Why a path must not be opened; "" for a regular file below `root`."""
    try:
        real = path.resolve()
        if not real.is_relative_to(root.resolve()):
            return f"{path}: a link leads out of {root}, to {real}; copy the file"
        if not stat.S_ISREG(os.stat(real).st_mode):
            return f"{path}: not a plain file; remove it"
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself.
        return f"{path}: {getattr(error, 'strerror', None) or error}"
    return ""


def check_safe(root: Path, path: Path) -> None:
    """Raises DataError unless a path is a regular file below `root`."""
    if reason := unsafe_reason(root, path):
        raise DataError(reason)


def read_text(root: Path, path: Path, max_bytes: int = _MAX_TEXT_BYTES) -> str:
    """The text of a file below `root`; see `decode_text`.

    Raises:
      DataError: the file is missing, not a regular file, or larger than `max_bytes`.
    """
    check_safe(root, path)
    if (size := path.stat().st_size) > max_bytes:
        raise DataError(f"{path}: {size} bytes of text are more than the {max_bytes} allowed")
    try:
        return decode_text(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def decode_text(raw: bytes) -> str:
    """Text in UTF-8, or in UTF-16 as some Windows programs write; damaged bytes become U+FFFD."""
    return io.TextIOWrapper(io.BytesIO(raw), text_encoding(raw), errors="replace").read()


def text_encoding(start: bytes) -> str:
    """The encoding of a text that begins so."""
    return "utf-16" if start.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"


def read_captions(
    pictures: Path, picture: Path | None, texts: Path, text: Path
) -> tuple[tuple[str, ...], str]:
    """The captions of a picture, lines that are not blank, and why its files cannot be used.

    Args:
      pictures: the folder that must contain the picture.
      picture: the picture's file, if there is one.
      texts: the folder that must contain the text.
      text: the file of the captions; if it is missing there are none.

    Returns:
      The captions, and the reason, "" if the files can be used.
    """
    if picture and (reason := unsafe_reason(pictures, picture)):
        return (), reason
    try:
        lines = read_text(texts, text).split("\n") if os.path.lexists(text) else ()
    except DataError as error:
        return (), str(error)
    return tuple(line for line in lines if line.strip()), ""
