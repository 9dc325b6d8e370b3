"""Whether generated toy cars show the attributes that their captions name."""

import re
from collections.abc import Sequence

import numpy as np

from ssagan_jax.data.pipeline import Record
from ssagan_jax.data.toy_cars.read_body import READABLE_COLORS, SIZE, read_body
from ssagan_jax.data.toy_cars.read_color_and_facing import read_color, read_facing

_READERS = {"color": read_color, "facing": read_facing, "body": read_body}


def attribute_hits(images: np.ndarray, records: Sequence[Record]) -> dict[str, list[bool]]:
    """For each attribute, whether each image shows what its caption names.

    Args:
      images: u8[B, S, S, 3].
      records: of toy cars, with the "caption" that was used; an attribute that it does not name is
        not counted.
    """
    return {
        name: [
            value == record["attributes"][name]
            for record, value in zip(records, read_attribute(images), strict=True)
            if _is_counted(name, record)
        ]
        for name, read_attribute in _READERS.items()
        if name != "body" or images.shape[1] >= SIZE
    }


def _is_counted(name: str, record: Record) -> bool:
    """Whether the caption names the attribute, and its reader could tell it from the image."""
    attributes = record["attributes"]
    if name == "body" and attributes["color"] not in READABLE_COLORS:
        return False
    return mentions(record["caption"], attributes[name])


def mentions(caption: str, phrase: str) -> bool:
    """Whether the words of `phrase` stand in the caption, in upper or lower case."""
    return bool(re.search(rf"\b{phrase}\b", caption, re.IGNORECASE))
