"""A folder of pictures for each class, without sentences: `red_car/0001.jpg`.

The sentences come from templates. The first folder may be a split.
"""

import collections
import dataclasses
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ssagan_jax.data.formats.folder_names import (
    OTHER_PICTURE_EXTENSIONS,
    is_picture,
    split_and_label,
    unique_name,
)
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.formats.safe_paths import unsafe_reason, walk_files
from ssagan_jax.data.formats.tfds_dataset import TEMPLATES, check_templates, clean_label
from ssagan_jax.errors import DataError

_SHOWN = 3


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
        labels = {split_and_label(file)[1] for file in walk_files(source) if is_picture(file)}
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
            split, folder = split_and_label(file)
            if file.lower().endswith(OTHER_PICTURE_EXTENSIONS):
                suffix = PurePosixPath(file).suffix
                yield Item(
                    file, None, (), error=f"{source / file}: {suffix} is not read; save as JPEG"
                )
            if not is_picture(file):
                continue
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


def describe_pictures(source: Path) -> str:
    """What pictures a folder without captions holds, "" if it holds none."""
    folders: collections.Counter[str] = collections.Counter()
    example = ""
    for file in filter(is_picture, walk_files(source)):
        example = example or file
        folders[split_and_label(file)[1]] += 1
    if not example:
        return ""
    shown = [f"{name or '.'} ({count})" for name, count in folders.most_common(_SHOWN)]
    more = ["..."] if len(folders) > _SHOWN else []
    return (
        f"{folders.total()} pictures such as {example}, in {', '.join(shown + more)}, and no "
        "sentences"
    )
