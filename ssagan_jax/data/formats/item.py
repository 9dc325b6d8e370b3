"""What every format yields: one item per picture, before the picture is read."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from ssagan_jax.data.images.resizing import Box
from ssagan_jax.untrusted.tar_members import FileSlice


@dataclasses.dataclass(frozen=True)
class Item:
    """A picture with its captions as a source lists them, unchecked.

    Attributes:
      name: unique in the source and stable: the picture's path below the source, with "/" and
        without the extension.
      picture: its file, a part of a file, an encoded picture in memory, or its pixels u8[H, W, 3];
        None if missing.
      captions: its sentences, as found; empty if there are none.
      label: its class, "" if unknown.
      split: "train" or "validation" if the source assigns it, else "".
      box: bounding box of the subject; None if unknown.
      error: why the entry cannot be used, else ""; the files of such an entry are never opened.
    """

    name: str
    picture: Path | FileSlice | bytes | np.ndarray | None
    captions: tuple[str, ...]
    label: str = ""
    split: str = ""
    box: Box | None = None
    error: str = ""


class Format(Protocol):
    """A layout that `prepare` reads; `items` is the same every time."""

    def recognises(self, source: Path) -> bool:
        """Whether the folder has this layout, judged by names alone."""

    def items(self, source: Path) -> Iterator[Item]:
        """Yields all items without reading a picture; raises DataError if the layout is broken."""
