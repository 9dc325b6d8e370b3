"""A folder of pictures for each class, without sentences: `red_car/0001.jpg`.

The sentences come from templates. The first folder may be a split.
"""

import collections
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ssagan_jax.data.formats.folder_names import (
    SplitFolders,
    is_picture,
    unique_name,
    unread_reason,
)
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.formats.safe_paths import unsafe_reason, walk_files
from ssagan_jax.data.formats.sidecar import NOT_CAPTIONS
from ssagan_jax.data.formats.tfds_dataset import TEMPLATES, check_templates, clean_label
from ssagan_jax.errors import DataError

_SHOWN = 3
# Words in names of folders that are no classes, and endings of files that may hold sentences.
_PURPOSES = {"train", "training", "val", "valid", "validation", "test", "testing", "pred", "part"}
_PURPOSES |= {"image", "images", "img", "imgs", "pictures", "photos", "data", "dataset", "jpg"}
_PURPOSES |= {"mask", "masks", "seg", "segm", "segmentation", "segmentations", "annotations"}
_PURPOSES |= {"trimaps", "sketch", "sketches", "densepose", "depth", "labels"}
_TABLES = {".txt", ".csv", ".tsv", ".json", ".jsonl", ".xlsx", ".xls", ".mat", ".h5", ".token"}


@dataclasses.dataclass(frozen=True)
class Classes:
    """Pictures whose folders are their classes.

    Attributes:
      templates: sentences with "{label}"; each picture gets all of them.
    """

    templates: tuple[str, ...] = TEMPLATES

    def __post_init__(self) -> None:
        check_templates(self.templates)

    def recognises(self, source: Path) -> bool:
        """Whether each picture is in one of several folders that have letters in their names."""
        if not source.is_dir():
            return False
        labels = {label for _, _, label in _pictures(source)}
        named = (any(map(str.isalpha, clean_label(label))) for label in labels)
        return len(labels) > 1 and all(named)

    def items(self, source: Path) -> Iterator[Item]:
        """Yields the pictures in the order of their names.

        "001.Red_car" becomes the class "red car", as with TFDS's sets.

        Raises:
          DataError: a picture is in no folder but that of its split.
        """
        stems: set[str] = set()
        for file in walk_files(source):
            if reason := unread_reason(file):
                yield Item(file, None, (), error=f"{source / file}: {reason}")
        for file, split, folder in _pictures(source):
            label = clean_label(PurePosixPath(folder).name)
            if not label:
                raise DataError(
                    f"{source / file}: is in no folder of a class; move it to one, such as "
                    f"red_car/{PurePosixPath(file).name}"
                )
            captions = tuple(template.replace("{label}", label) for template in self.templates)
            error = unsafe_reason(source, source / file)
            yield Item(
                unique_name(file, stems), source / file, captions, folder, split, error=error
            )


def _pictures(source: Path) -> Iterator[tuple[str, str, str]]:
    """Yields path, split and class of all pictures."""
    files = [file for file in walk_files(source) if is_picture(file)]
    split_and_label = SplitFolders(files)
    for file in files:
        yield file, *split_and_label(file)


def doubt_of_classes(source: Path) -> str:
    """What speaks against sentences from names of folders, "" if nothing does.

    That is a file that may hold real sentences, or a name that does not say what pictures show.
    """
    labels = {PurePosixPath(label).name for _, _, label in _pictures(source)}
    for label in sorted(labels):
        if _PURPOSES.intersection(re.split(r"[^a-z]+", label.lower())):
            return f"the folder {label} does not seem to be named after what its pictures show"
    return unread_table(source)


def unread_table(source: Path) -> str:
    """That a file may hold the pictures' sentences, "" if none may."""
    for file in walk_files(source):
        name = PurePosixPath(file.lower())
        if name.suffix in _TABLES and name.stem not in NOT_CAPTIONS:
            return f"{file} may hold the pictures' sentences, in a form that is not read"
    return ""


def describe_pictures(source: Path) -> str:
    """What pictures a folder without captions holds, "" if it holds none."""
    folders: collections.Counter[str] = collections.Counter()
    example = ""
    for file in filter(is_picture, walk_files(source)):
        example = example or file
        folders[PurePosixPath(file).parent.as_posix()] += 1
    if not example:
        return ""
    shown = [f"{name} ({count})" for name, count in folders.most_common(_SHOWN)]
    more = ["..."] if len(folders) > _SHOWN else []
    return f"{folders.total()} pictures such as {example}, in {', '.join(shown + more)}, " + (
        f"but {found}" if (found := unread_table(source)) else "and no sentences"
    )
