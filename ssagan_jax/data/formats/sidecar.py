"""Pictures with their sentences beside them: `car_01.jpg` and `car_01.txt`, one per line.

Texts may also be named `car_01.caption` or `car_01.jpg.txt`. A folder may name the split ("train",
"val", ...); other folders are classes.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ssagan_jax.data.formats.folder_names import (
    SplitFolders,
    is_picture,
    strip_extension,
    unique_name,
    unread_reason,
)
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.formats.safe_paths import read_captions, walk_files

_TEXTS = (".txt", ".caption")
# Texts about a folder as a whole.
NOT_CAPTIONS = ("readme", "license", "licence", "copying", "classes", "labels", "requirements")


class Sidecar:
    """A tree in which each picture has a text file of the same name beside it."""

    def recognises(self, source: Path) -> bool:
        """Whether some picture has a text file beside it."""
        if not source.is_dir():
            return False
        texts = _texts(source)
        pictures = filter(_is_any_picture, walk_files(source))
        return any(strip_extension(file) in texts for file in pictures)

    def items(self, source: Path) -> Iterator[Item]:
        """Yields the pictures in the order of their names, then texts without a picture."""
        texts, stems = _texts(source), set()
        split_and_label = SplitFolders(filter(_is_any_picture, walk_files(source)))
        for file in filter(_is_any_picture, walk_files(source)):
            text = source / texts.get(strip_extension(file), f"{strip_extension(file)}.txt")
            captions, error = read_captions(source, source / file, source, text)
            split, label = split_and_label(file)
            error = error or unread_reason(file)
            picture = source / file if is_picture(file) else None
            yield Item(unique_name(file, stems), picture, captions, label, split, error=error)
        for stem, text in texts.items():
            if stem not in stems and PurePosixPath(stem).name.lower() not in NOT_CAPTIONS:
                captions, error = read_captions(source, None, source, source / text)
                split, label = split_and_label(text)
                yield Item(stem, None, captions, label, split, error=error)


def _is_any_picture(file: str) -> bool:
    return is_picture(file) or bool(unread_reason(file))


def _texts(source: Path) -> dict[str, str]:
    """The texts by the path, without extension, of the picture that they may be of."""
    texts = {}
    for file in walk_files(source):
        if file.lower().endswith(_TEXTS):
            stem = strip_extension(file)
            texts.setdefault(strip_extension(stem) if _is_any_picture(stem) else stem, file)
    return texts
