"""Files that appear under their name only once they are complete."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from PIL import Image


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
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a file of text (UTF-8) or bytes; see `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def save_png(path: str | os.PathLike[str], image: Image.Image) -> None:
    """Writes an image as PNG; see `atomic_path`."""
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


@contextlib.contextmanager
def atomic_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """Yields an empty folder beside `path` to fill, and renames it at the end.

    If the body raises, nothing is left; what a killed process left is removed at the next call.

    Args:
      path: where the folder goes.
      replace: whether a folder that is there already is replaced.

    Raises:
      OSError: `path` is a file, or, unless `replace`, a folder that is not empty.
    """
    part, old = (path.with_name(f"{path.name}{suffix}") for suffix in (".part", ".old"))
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if replace and path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        part.replace(path)
        if replace:
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)
