"""What every format yields: one item a picture, before the picture is read."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from ssagan_jax.data.image_loading import Box

__all__ = ["Box", "Format", "Item"]


@dataclasses.dataclass(frozen=True)
class Item:
    """A picture with its sentences as a source lists them, unchecked.

    Attributes:
      name: unique in the source and stable: the picture's path below the source, with "/", without
        the ending.
      picture: its file, or its pixels u8[H, W, 3] where the source has no files; None for
        sentences whose picture is missing.
      captions: its sentences as found; empty where it has none.
      label: its class, "" where the source knows none.
      split: "train" or "validation" where the source says, else "".
      box: the part of the picture that shows the subject; None for all of it.
      fault: why the entry cannot be used, "" where the format sees no reason; its files are never
        opened then.
    """

    name: str
    picture: Path | np.ndarray | None
    captions: tuple[str, ...]
    label: str = ""
    split: str = ""
    box: Box | None = None
    fault: str = ""


class Format(Protocol):
    """A layout that `prepare` reads. Reading twice gives the same items in the same order."""

    def recognises(self, source: Path) -> bool:
        """Whether the folder is laid out this way, told by names alone."""

    def items(self, source: Path) -> Iterator[Item]:
        """Yields all items without reading a picture; raises DataError for a broken layout."""
